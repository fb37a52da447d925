"""DynamicResources: finds devices for the pod's ResourceClaims, and reserves the claims for it.

Filter looks for an allocation on each node; Reserve keeps the chosen one to itself, so that the
next pod does not get the same devices; PreBind writes allocation and reservation and waits until
the devices are attached. Extended resources that devices stand behind become one more claim.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from pilothouse.apimachinery.errors import StatusError
from pilothouse.apimachinery.object import Obj, get_nested, meta, name_of, uid_of
from pilothouse.apis.core.resource_claims import (
    claim_name_of,
    is_for_pod,
    is_reserved_for,
    not_for_pod,
    pod_claim_keys,
)
from pilothouse.kubeclient.resources import (
    DEVICE_CLASSES,
    DEVICE_TAINT_RULES,
    RESOURCE_CLAIMS,
    RESOURCE_SLICES,
)
from pilothouse.scheduler.cache.node_info import NodeInfo
from pilothouse.scheduler.framework.events import Action, EventRegistration
from pilothouse.scheduler.framework.handle import Handle
from pilothouse.scheduler.framework.interfaces import (
    SKIP,
    Code,
    CycleState,
    PluginFailure,
    Status,
    default_normalize,
)
from pilothouse.scheduler.framework.node_selector import NodeSelector
from pilothouse.scheduler.framework.pod_info import PodInfo
from pilothouse.scheduler.plugins import extended_resources as extended
from pilothouse.scheduler.plugins.claim_binding import ClaimBinder
from pilothouse.scheduler.plugins.device_allocator import (
    AllocationError,
    Allocator,
    NodeError,
    Request,
    Taken,
    requests_of,
)
from pilothouse.scheduler.plugins.device_binding import BindingError, is_hopeless, waits
from pilothouse.scheduler.plugins.device_pools import gather
from pilothouse.scheduler.plugins.device_results import allocation_of, alternatives_score
from pilothouse.scheduler.plugins.device_selectors import Selectors

MAX_RESERVATIONS = 256
BINDING_TIMEOUT = 600.0
_REACHED = "DynamicResources/reached"
"""In a cycle's state: this plugin's PreFilter has run."""


@dataclass(slots=True)
class Found:
    """What one node would give."""

    claims: list[Obj]
    """Those without an allocation; the one for extended resources as it is on this node."""
    allocations: list[Obj]
    mappings: list[Obj] = field(default_factory=list)
    """Which container uses what of the claim for extended resources."""


@dataclass(slots=True)
class ClaimsState:
    allocated: list[Obj] = field(default_factory=list)
    pending: list[Obj] = field(default_factory=list)
    """Claims that need an allocation."""
    requests: list[list[list[Request]]] = field(default_factory=list)
    special: Obj | None = None
    """For extended resources: a new one, or one of an earlier try, which must go first."""
    taken: Taken = field(default_factory=Taken)
    by_node: dict[str, Found] = field(default_factory=dict)
    unavailable: dict[str, Obj] = field(default_factory=dict)
    """Allocated claims that some node can't use."""


def _refusal(text: str) -> Status:
    return Status(Code.UNRESOLVABLE, (text,))


class DynamicResources:
    name = "DynamicResources"

    def __init__(self, handle: Handle, binding_timeout: float = BINDING_TIMEOUT) -> None:
        self._handle = handle
        self._claims = handle.informer(RESOURCE_CLAIMS)
        self._slices = handle.informer(RESOURCE_SLICES)
        self._classes = handle.informer(DEVICE_CLASSES)
        self._rules = handle.informer(DEVICE_TAINT_RULES)
        self._extended = extended.shared_classes(handle)
        self._timeout = binding_timeout
        self._binder = ClaimBinder(handle, binding_timeout)
        self._selectors = Selectors()
        self._promised: dict[str, Obj] = {}
        """Allocations that are decided but that the informer does not show, by claim uid."""
        self._claims.add_handler(self._seen, lambda _, new: self._seen(new), self._gone)

    def _new_id(self) -> str:
        return str(uuid.UUID(int=self._handle.random.getrandbits(128), version=4))

    def _seen(self, claim: Obj) -> None:
        if get_nested(claim, "status", "allocation"):
            self._promised.pop(uid_of(claim), None)

    def _gone(self, claim: Obj) -> None:
        self._promised.pop(uid_of(claim), None)

    def pre_enqueue(self, pod: PodInfo) -> Status | None:
        problem = self._problem(pod)
        return None if not problem else _refusal(problem)

    def _problem(self, pod: PodInfo) -> str:
        """Why the pod's claims can't be used yet."""
        for entry in pod.obj["spec"].get("resourceClaims") or ():
            name = claim_name_of(pod.obj, entry)
            if name is None:
                continue
            if not name:
                return f'pod "{pod.key}": ResourceClaim not created yet'
            claim = self._claims.get(f"{pod.namespace}/{name}")
            if claim is None:
                return f'resourceclaim.resource.k8s.io "{name}" not found'
            if meta(claim).get("deletionTimestamp"):
                return f'resourceclaim "{name}" is being deleted'
            if entry.get("resourceClaimTemplateName") and not is_for_pod(pod.obj, claim):
                return not_for_pod(pod.obj, claim)
        return ""

    # -- filter --------------------------------------------------------------------------

    def pre_filter(
        self, state: CycleState, pod: PodInfo, nodes: Sequence[NodeInfo]
    ) -> Status | frozenset[str] | None:
        state[_REACHED] = True
        as_devices = self._extended.behind(pod.requests)
        if not as_devices and not pod.obj["spec"].get("resourceClaims"):
            return SKIP
        problem = self._problem(pod)
        if problem:
            return _refusal(problem)
        data = ClaimsState()
        for key in pod_claim_keys(pod.obj):
            claim = self._claims.get(key)
            if claim is None:
                return _refusal(f"resource claim {key} does not exist")
            status = self._sort(data, pod, key, claim)
            if status is not None:
                return status
        if any(pod.requests[name] for name in as_devices):
            data.special = self._special_claim(pod)
        if data.pending or data.special is not None:
            data.taken = self._taken()
        elif not data.allocated:
            return SKIP
        state[self.name] = data
        return None

    def _special_claim(self, pod: PodInfo) -> Obj:
        for claim in self._claims.list(pod.namespace):
            if extended.is_claim_of(pod.obj, claim):
                return claim
        return extended.new_claim(pod.obj, self._new_id())

    def _sort(self, data: ClaimsState, pod: PodInfo, key: str, claim: Obj) -> Status | None:
        if get_nested(claim, "status", "allocation"):
            reserved = get_nested(claim, "status", "reservedFor", default=())
            if len(reserved) >= MAX_RESERVATIONS and not is_reserved_for(pod.obj, claim):
                return _refusal("resourceclaim in use")
            data.allocated.append(claim)
            return None
        if uid_of(claim) in self._promised:
            return _refusal(f"resource claim {key} is in the process of being allocated")
        try:
            data.requests.append(requests_of(claim, self._classes.get))
        except AllocationError as error:
            return _refusal(str(error))
        data.pending.append(claim)
        return None

    def _taken(self) -> Taken:
        taken = Taken()
        for claim in self._claims.list():
            taken.add(get_nested(claim, "status", "allocation") or {})
        for allocation in self._promised.values():
            taken.add(allocation)
        return taken

    def filter(self, state: CycleState, pod: PodInfo, node: NodeInfo) -> Status | None:
        data: ClaimsState = state[self.name]
        try:
            found = self._on_node(data, pod, node)
        except LookupError:
            return _refusal("cannot fit resource")
        if found is None:
            return _refusal("cannot schedule extended resource claim")
        if not found.claims and not data.allocated:
            return None
        unavailable = [c for c in data.allocated if not self._is_available(c, node)]
        problem = self._allocate(data, found, node)
        if problem is not None:
            return problem
        if unavailable:
            data.unavailable |= {uid_of(claim): claim for claim in unavailable}
            return _refusal("resourceclaim not available on the node")
        data.by_node[node.name] = found
        return None

    def _on_node(self, data: ClaimsState, pod: PodInfo, node: NodeInfo) -> Found | None:
        """The claims that need an allocation there; None while an old one is in the way.

        :raises LookupError: the node lacks an extended resource.
        """
        special = data.special
        found = Found(list(data.pending), [])
        if special is None:
            return found
        if name_of(special) != extended.UNWRITTEN:
            return None
        classes = self._extended.by_resource
        requests = extended.Requests(pod.obj)
        for resource in extended.by_devices(pod.requests, node.allocatable, classes):
            requests.add(resource, name_of(classes[resource]))
        if requests.requests:
            found.claims.append({**special, "spec": {"devices": {"requests": requests.requests}}})
            found.mappings = requests.mappings
        return found

    def _is_available(self, claim: Obj, node: NodeInfo) -> bool:
        selector = get_nested(claim, "status", "allocation", "nodeSelector")
        terms = None if selector is None else selector.get("nodeSelectorTerms") or []
        if not NodeSelector({}, terms).matches(node.name, node.labels):
            return False
        return not is_hopeless(claim, self._handle.clock.now(), self._timeout)

    def _allocate(self, data: ClaimsState, found: Found, node: NodeInfo) -> Status | None:
        if not found.claims:
            return None
        pools = gather(self._slices.list(), node.name, node.labels, self._rules.list())
        try:
            requests = list(data.requests)
            for claim in found.claims[len(requests) :]:
                requests.append(requests_of(claim, self._classes.get))
            allocator = Allocator(pools, data.taken, self._selectors.matches)
            chosen = allocator.allocate(found.claims, requests)
        except NodeError as error:
            return _refusal(str(error))
        except AllocationError as error:
            raise PluginFailure(f'running "{self.name}" filter plugin: {error}') from error
        if chosen is None:
            return _refusal("cannot allocate all claims")
        found.allocations = [
            allocation_of(claim, choices, node.name, self._new_id)
            for claim, choices in zip(found.claims, chosen, strict=True)
        ]
        return None

    async def post_filter(
        self, state: CycleState, pod: PodInfo, statuses: dict[str, Status]
    ) -> tuple[str, str]:
        """An allocation that no node can use, or that came to nothing, is given back.

        :raises PluginFailure: another plugin refused the pod before this one looked at it.
            Upstream's fails then, too, so nobody is preempted.
        """
        if _REACHED not in state:
            raise PluginFailure("not found")
        data: ClaimsState | None = state.get(self.name)
        if data is None:
            return "", ""
        try:
            for claim in data.unavailable.values():
                users = [r.get("uid") for r in get_nested(claim, "status", "reservedFor") or ()]
                if users in ([], [pod.uid]):
                    await self._binder.deallocate(claim)
                    return "", "deallocation of ResourceClaim completed"
            if data.special is not None and name_of(data.special) != extended.UNWRITTEN:
                await self._binder.delete(data.special)
                return "", "deletion of ResourceClaim completed"
        except StatusError as error:
            return "", str(error)
        return "", ""

    # -- score ---------------------------------------------------------------------------

    def pre_score(
        self, state: CycleState, pod: PodInfo, nodes: Sequence[NodeInfo]
    ) -> Status | None:
        return None if state.get(self.name) else SKIP

    def score(self, state: CycleState, pod: PodInfo, node: NodeInfo) -> int:
        data: ClaimsState = state[self.name]
        score = sum(alternatives_score(c, c["status"]["allocation"]) for c in data.allocated)
        found = data.by_node.get(node.name)
        if found is not None:
            score += sum(map(alternatives_score, found.claims, found.allocations))
        return score

    def normalize(self, state: CycleState, pod: PodInfo, scores: list[int]) -> None:
        default_normalize(scores)

    # -- reserve and bind ----------------------------------------------------------------

    def reserve(self, state: CycleState, pod: PodInfo, node_name: str) -> Status | None:
        for claim, allocation in self._decided(state, node_name):
            self._promised[uid_of(claim)] = allocation
        return None

    def unreserve(self, state: CycleState, pod: PodInfo, node_name: str) -> None:
        for claim, _ in self._decided(state, node_name):
            self._promised.pop(uid_of(claim), None)

    def _decided(self, state: CycleState, node_name: str) -> list[tuple[Obj, Obj]]:
        data: ClaimsState | None = state.get(self.name)
        found = None if data is None else data.by_node.get(node_name)
        if found is None:
            return []
        return list(zip(found.claims, found.allocations, strict=True))

    def will_pre_bind(self, state: CycleState, pod: PodInfo, node_name: str) -> bool:
        return state.get(self.name) is not None

    async def pre_bind(self, state: CycleState, pod: PodInfo, node_name: str) -> Status | None:
        data: ClaimsState | None = state.get(self.name)
        if data is None:
            return None
        bound: list[Obj] = []
        try:
            await self._bind(data, pod, node_name, bound)
            if any(waits(claim) for claim in bound):
                await self._binder.wait(pod, node_name, bound)
        except (StatusError, BindingError) as error:
            await self._take_back(pod, bound)
            return Status(Code.ERROR, (str(error),))
        return None

    async def _bind(
        self, data: ClaimsState, pod: PodInfo, node_name: str, bound: list[Obj]
    ) -> None:
        """``bound`` gets the claims as they are written."""
        found = data.by_node.get(node_name) or Found([], [])
        for i, (claim, allocation) in enumerate(zip(found.claims, found.allocations, strict=True)):
            is_special = name_of(claim) == extended.UNWRITTEN
            if is_special:
                written = await self._binder.create(claim)
                self._promised.pop(uid_of(claim), None)
                self._promised[uid_of(written)] = allocation
                bound.append(written)
                found.claims[i] = claim = written
            written = await self._binder.bind(pod, claim, allocation)
            if is_special:
                bound[-1] = written
                await self._binder.note(pod, written, found.mappings)
            else:
                bound.append(written)
        for claim in data.allocated:
            if not is_reserved_for(pod.obj, claim):
                claim = await self._binder.bind(pod, claim, None)
            bound.append(claim)

    async def _take_back(self, pod: PodInfo, bound: Sequence[Obj]) -> None:
        for claim in bound:
            try:
                if extended.is_claim_of(pod.obj, claim):
                    await self._binder.delete(claim)
                elif is_reserved_for(pod.obj, claim):
                    await self._binder.let_go(pod, claim)
            except StatusError:
                continue  # the next try, or the claim's controller, does it

    # -- queueing ------------------------------------------------------------------------

    def events_to_register(self) -> Iterable[EventRegistration]:
        changed = Action.ADD | Action.UPDATE
        node = Action.ADD | Action.UPDATE_NODE_LABEL | Action.UPDATE_NODE_ALLOCATABLE
        return (
            EventRegistration("ResourceClaim", changed | Action.DELETE, self._claim_changed),
            EventRegistration("ResourceSlice", changed),
            EventRegistration("DeviceClass", changed),
            EventRegistration("DeviceTaintRule", changed | Action.DELETE),
            EventRegistration("Node", node),
            EventRegistration("Pod", Action.UPDATE_POD_LABEL),
        )

    def _claim_changed(self, pod: PodInfo, old: Obj | None, new: Obj | None) -> bool:
        """Devices that are free again help everybody; any other change only who uses the claim."""
        had = bool(get_nested(old or {}, "status", "allocation"))
        if new is None:
            return had
        if had and not get_nested(new, "status", "allocation"):
            return True
        key = f"{meta(new).get('namespace') or ''}/{name_of(new)}"
        if key not in pod_claim_keys(pod.obj):
            return False
        return old is None or old.get("status") != new.get("status")
