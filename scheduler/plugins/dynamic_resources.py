"""DynamicResources: finds devices for the pod's ResourceClaims, and reserves the claims for it.

Filter looks for an allocation on each node; Reserve keeps the chosen one to itself, so that the
next pod does not get the same devices; PreBind writes allocation and reservation.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from pilothouse.apimachinery.errors import StatusError
from pilothouse.apimachinery.object import Obj, copy_object, get_nested, meta, uid_of
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
from pilothouse.scheduler.framework.interfaces import SKIP, Code, CycleState, Status
from pilothouse.scheduler.framework.node_selector import NodeSelector
from pilothouse.scheduler.framework.pod_info import PodInfo
from pilothouse.scheduler.plugins.device_allocator import (
    AllocationError,
    Allocator,
    Key,
    Request,
    Selectors,
    devices_of,
    gather,
    requests_of,
)

FINALIZER = "resource.kubernetes.io/delete-protection"
MAX_RESERVATIONS = 256


@dataclass(slots=True)
class ClaimsState:
    allocated: list[Obj]
    pending: list[Obj] = field(default_factory=list)
    """Claims that need an allocation."""
    requests: list[list[list[Request]]] = field(default_factory=list)
    taken: set[Key] = field(default_factory=set)
    by_node: dict[str, list[Obj]] = field(default_factory=dict)


def _refusal(text: str) -> Status:
    return Status(Code.UNRESOLVABLE, (text,))


class DynamicResources:
    name = "DynamicResources"

    def __init__(self, handle: Handle) -> None:
        self._client = handle.client
        self._claims = handle.informer(RESOURCE_CLAIMS)
        self._slices = handle.informer(RESOURCE_SLICES)
        self._classes = handle.informer(DEVICE_CLASSES)
        self._rules = handle.informer(DEVICE_TAINT_RULES)
        self._selectors = Selectors()
        self._promised: dict[str, Obj] = {}
        """Allocations that are decided but that the informer does not show, by claim uid."""
        self._claims.add_handler(self._seen, lambda _, new: self._seen(new), self._gone)

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
        if not pod.obj["spec"].get("resourceClaims"):
            return SKIP
        problem = self._problem(pod)
        if problem:
            return _refusal(problem)
        data = ClaimsState([])
        for key in pod_claim_keys(pod.obj):
            claim = self._claims.get(key)
            if claim is None:
                return _refusal(f"resource claim {key} does not exist")
            status = self._sort(data, pod, key, claim)
            if status is not None:
                return status
        data.taken = self._taken() if data.pending else set()
        state[self.name] = data
        return None

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

    def _taken(self) -> set[Key]:
        taken: set[Key] = set()
        for claim in self._claims.list():
            allocation = get_nested(claim, "status", "allocation")
            taken.update(devices_of(allocation or {}))
        for allocation in self._promised.values():
            taken.update(devices_of(allocation))
        return taken

    def filter(self, state: CycleState, pod: PodInfo, node: NodeInfo) -> Status | None:
        data: ClaimsState = state[self.name]
        for claim in data.allocated:
            selector = get_nested(claim, "status", "allocation", "nodeSelector")
            terms = None if selector is None else selector.get("nodeSelectorTerms") or []
            if not NodeSelector({}, terms).matches(node.name, node.labels):
                return _refusal("resourceclaim not available on the node")
        if not data.pending:
            return None
        pools = gather(self._slices.list(), node.name, node.labels, self._rules.list())
        allocator = Allocator(pools, data.taken, self._selectors.matches)
        try:
            found = allocator.allocate(data.pending, data.requests)
        except AllocationError as error:
            return _refusal(str(error))
        if found is None:
            return _refusal("cannot allocate all claims")
        data.by_node[node.name] = found
        return None

    # -- reserve and bind ----------------------------------------------------------------

    def reserve(self, state: CycleState, pod: PodInfo, node_name: str) -> Status | None:
        data: ClaimsState | None = state.get(self.name)
        for claim, allocation in self._decided(data, node_name):
            self._promised[uid_of(claim)] = allocation
        return None

    def unreserve(self, state: CycleState, pod: PodInfo, node_name: str) -> None:
        data: ClaimsState | None = state.get(self.name)
        for claim, _ in self._decided(data, node_name):
            self._promised.pop(uid_of(claim), None)

    @staticmethod
    def _decided(data: ClaimsState | None, node_name: str) -> list[tuple[Obj, Obj]]:
        if data is None or node_name not in data.by_node:
            return []
        return list(zip(data.pending, data.by_node[node_name], strict=True))

    async def pre_bind(self, state: CycleState, pod: PodInfo, node_name: str) -> Status | None:
        data: ClaimsState | None = state.get(self.name)
        if data is None:
            return None
        try:
            for claim, allocation in self._decided(data, node_name):
                await self._bind(pod, claim, allocation)
            for claim in data.allocated:
                if not is_reserved_for(pod.obj, claim):
                    await self._bind(pod, claim, None)
        except StatusError as error:
            return Status(Code.ERROR, (str(error),))
        return None

    async def _bind(self, pod: PodInfo, claim: Obj, allocation: Obj | None) -> None:
        """Finalizer first: an allocated claim must not vanish before it is let go."""
        new: Obj = copy_object(claim)
        finalizers = meta(claim).get("finalizers") or []
        if allocation is not None and FINALIZER not in finalizers:
            new["metadata"]["finalizers"] = [*finalizers, FINALIZER]
            new = copy_object(await self._client.update(RESOURCE_CLAIMS, new))
        status = new.setdefault("status", {})
        if allocation is not None:
            status["allocation"] = allocation
        consumer = {"resource": "pods", "name": pod.name, "uid": pod.uid}
        status["reservedFor"] = [*(status.get("reservedFor") or ()), consumer]
        await self._client.update(RESOURCE_CLAIMS, new, subresource="status")

    # -- queueing ------------------------------------------------------------------------

    def events_to_register(self) -> Iterable[EventRegistration]:
        changed = Action.ADD | Action.UPDATE
        return (
            EventRegistration("ResourceClaim", changed | Action.DELETE),
            EventRegistration("ResourceSlice", changed),
            EventRegistration("DeviceClass", changed),
            EventRegistration("DeviceTaintRule", changed | Action.DELETE),
            EventRegistration("Node", Action.ADD | Action.UPDATE_NODE_LABEL),
            EventRegistration("Pod", Action.UPDATE_POD_LABEL),
        )
