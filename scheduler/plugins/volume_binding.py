"""VolumeBinding: the pod's claims must be bound, or must get bound, to volumes of its node.

Claims of a ``WaitForFirstConsumer`` class are decided here: Reserve assumes a matching volume, or
that one will be provisioned on the node; PreBind writes that (claimRef, the annotation
``selected-node``) and waits until the binder has finished.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from pilothouse.apimachinery.errors import StatusError, is_conflict
from pilothouse.apimachinery.object import (
    Obj,
    get_nested,
    meta,
    name_of,
    namespace_of,
    object_key,
    uid_of,
)
from pilothouse.apis.core.volume_binding import (
    SELECTED_NODE,
    annotations_of,
    bound_volume,
    claim_keys_of,
    claim_name_of,
    ephemeral_claim_problem,
    is_bound_to,
    with_annotation,
)
from pilothouse.kubeclient.resources import PERSISTENT_VOLUME_CLAIMS, PERSISTENT_VOLUMES
from pilothouse.scheduler.cache.node_info import NodeInfo
from pilothouse.scheduler.framework.events import Action, EventRegistration
from pilothouse.scheduler.framework.handle import Handle
from pilothouse.scheduler.framework.interfaces import SKIP, Code, CycleState, Status
from pilothouse.scheduler.framework.pod_info import PodInfo
from pilothouse.scheduler.framework.waiter import Waiter
from pilothouse.scheduler.plugins.resources_fit import capacity_ratio
from pilothouse.scheduler.plugins.volume_binder import (
    PodClaims,
    PodVolumes,
    check_bindings,
    find_volumes,
    pod_claims,
    utilization,
)
from pilothouse.scheduler.plugins.volume_lister import shared_lister

BIND_TIMEOUT_SECONDS = 600
EMPTIER = ((0, 100), (100, 0))
IMMEDIATE = Status(Code.UNRESOLVABLE, ("pod has unbound immediate PersistentVolumeClaims",))


@dataclass(slots=True)
class VolumesState:
    claims: PodClaims
    by_node: dict[str, PodVolumes] = field(default_factory=dict)
    all_bound: bool = False


class VolumeBinding:
    name = "VolumeBinding"

    def __init__(
        self,
        handle: Handle,
        bind_timeout: float = BIND_TIMEOUT_SECONDS,
        shape: Sequence[tuple[int, int]] = EMPTIER,
    ) -> None:
        """``shape``: (utilization in percent, score 0..100)."""
        self._handle = handle
        self._shape = capacity_ratio(shape)
        self._lister = shared_lister(handle)
        self._timeout = bind_timeout
        self._waiting: list[Waiter] = []
        for informer in (self._lister.claims.informer, self._lister.volumes.informer):
            informer.add_handler(self._changed, lambda _, new: self._changed(new), self._changed)
        self._lister.pods.add_handler(on_delete=self._changed)

    # -- filter --------------------------------------------------------------------------

    def pre_filter(
        self, state: CycleState, pod: PodInfo, nodes: Sequence[NodeInfo]
    ) -> Status | frozenset[str] | None:
        keys = pod.memo(self.name, claim_keys_of)
        if not keys:
            return SKIP
        problem = self._claim_problem(pod.obj)
        if problem:
            return Status(Code.UNRESOLVABLE, (problem,))
        claims = pod_claims(self._lister, pod.obj)
        if claims.immediate:
            return IMMEDIATE
        state[self.name] = VolumesState(claims)
        return None

    def _claim_problem(self, pod: Obj) -> str:
        for volume in get_nested(pod, "spec", "volumes", default=()):
            name = claim_name_of(pod, volume)
            if name is None:
                continue
            claim = self._lister.claims.get(f"{meta(pod).get('namespace') or ''}/{name}")
            if claim is None:
                if "ephemeral" in volume:
                    return (
                        "waiting for ephemeral volume controller to create the "
                        f'persistentvolumeclaim "{name}"'
                    )
                return f'persistentvolumeclaim "{name}" not found'
            if get_nested(claim, "status", "phase") == "Lost":
                volume_name = claim["spec"].get("volumeName") or ""
                return (
                    f'persistentvolumeclaim "{name}" bound to non-existent '
                    f'persistentvolume "{volume_name}"'
                )
            if meta(claim).get("deletionTimestamp"):
                return f'persistentvolumeclaim "{name}" is being deleted'
            if "ephemeral" in volume and (problem := ephemeral_claim_problem(pod, claim)):
                return problem
        return ""

    def filter(self, state: CycleState, pod: PodInfo, node: NodeInfo) -> Status | None:
        data: VolumesState = state[self.name]
        found = find_volumes(self._lister, data.claims, node)
        if isinstance(found, tuple):
            return Status(Code.UNRESOLVABLE, found)
        data.by_node[node.name] = found
        return None

    # -- score ---------------------------------------------------------------------------

    def pre_score(
        self, state: CycleState, pod: PodInfo, nodes: Sequence[NodeInfo]
    ) -> Status | None:
        data: VolumesState | None = state.get(self.name)
        useful = data is not None and any(v.bindings or v.capacities for v in data.by_node.values())
        return None if useful else SKIP

    def score(self, state: CycleState, pod: PodInfo, node: NodeInfo) -> int:
        """The mean over the classes; by default volumes that would be left emptier are better."""
        volumes = state[self.name].by_node.get(node.name)
        classes = utilization(self._lister, volumes) if volumes is not None else {}
        if not classes:
            return 0
        scores = [self._shape(*sums) if sums[1] else self._shape(1, 1) for sums in classes.values()]
        return math.floor(sum(scores) / len(scores) + 0.5)

    # -- reserve and bind ----------------------------------------------------------------

    def reserve(self, state: CycleState, pod: PodInfo, node_name: str) -> Status | None:
        data: VolumesState | None = state.get(self.name)
        volumes = data.by_node.get(node_name) if data is not None else None
        if data is None or volumes is None or not data.claims.delayed:
            if data is not None:
                data.all_bound = True
            return None
        bindings = []
        for volume, claim in volumes.bindings:
            changed = bound_volume(volume, claim)
            if changed is not None:
                self._lister.volumes.assume(changed)
            bindings.append((changed or volume, claim))
        provisions = [with_annotation(c, SELECTED_NODE, node_name) for c in volumes.provisions]
        for claim in provisions:
            self._lister.claims.assume(claim)
        data.by_node[node_name] = PodVolumes(bindings, provisions)
        return None

    def unreserve(self, state: CycleState, pod: PodInfo, node_name: str) -> None:
        data: VolumesState | None = state.get(self.name)
        volumes = data.by_node.get(node_name) if data is not None else None
        if volumes is not None:
            for volume, _ in volumes.bindings:
                self._lister.volumes.restore(volume)
            for claim in volumes.provisions:
                self._lister.claims.restore(claim)

    def will_pre_bind(self, state: CycleState, pod: PodInfo, node_name: str) -> bool:
        data: VolumesState | None = state.get(self.name)
        return data is not None and not data.all_bound

    async def pre_bind(self, state: CycleState, pod: PodInfo, node_name: str) -> Status | None:
        data: VolumesState | None = state.get(self.name)
        if data is None or data.all_bound:
            return None
        volumes = data.by_node[node_name]
        try:
            await self._write(volumes)
            await self._wait(pod, node_name, volumes)
        except (StatusError, ValueError, TimeoutError) as error:
            return Status(Code.ERROR, (f"binding volumes: {error}",))
        return None

    async def _write(self, volumes: PodVolumes) -> None:
        for i, (volume, claim) in enumerate(volumes.bindings):
            volumes.bindings[i] = (await self._promise(volume, claim), claim)
        for i, claim in enumerate(volumes.provisions):
            # Only the annotation: the binder may be writing the claim's status just now.
            chosen = {SELECTED_NODE: annotations_of(claim)[SELECTED_NODE]}
            volumes.provisions[i] = await self._handle.client.patch(
                PERSISTENT_VOLUME_CLAIMS,
                name_of(claim),
                {"metadata": {"uid": uid_of(claim), "annotations": chosen}},
                "application/merge-patch+json",
                namespace_of(claim),
            )

    async def _promise(self, volume: Obj, claim: Obj) -> Obj:
        """Writes the claimRef; a volume that has changed meanwhile is taken if it still can be."""
        client = self._handle.client
        try:
            return await client.update(PERSISTENT_VOLUMES, volume)
        except StatusError as error:
            if not is_conflict(error):
                raise
            current = await client.get(PERSISTENT_VOLUMES, name_of(volume))
            if current["spec"].get("claimRef") and not is_bound_to(current, claim):
                raise
        changed = bound_volume(current, claim)
        return current if changed is None else await client.update(PERSISTENT_VOLUMES, changed)

    async def _wait(self, pod: PodInfo, node_name: str, volumes: PodVolumes) -> None:
        """Until all is bound.

        :raises ValueError: it can't be any more. :raises TimeoutError: nobody did it.
        """
        node = next((n.obj for n in self._handle.nodes() if n.name == node_name), None)
        if node is None:
            raise ValueError(f'failed to get node "{node_name}"')
        waiter = Waiter(self._handle)
        deadline = self._handle.clock.monotonic() + self._timeout
        timer = self._handle.clock.call_later(self._timeout, waiter.wake)
        self._waiting.append(waiter)
        try:
            while not check_bindings(self._lister, volumes, node):
                if self._lister.pods.get(pod.key) is None:
                    raise ValueError(f'pod does not exist any more: pod "{pod.name}" not found')
                if self._handle.clock.monotonic() >= deadline:
                    raise TimeoutError("context deadline exceeded")
                await waiter.wait()
        finally:
            timer.cancel()
            self._waiting.remove(waiter)

    def _changed(self, obj: Obj) -> None:
        for waiter in self._waiting:
            waiter.wake()

    # -- queueing ------------------------------------------------------------------------

    def events_to_register(self) -> Iterable[EventRegistration]:
        changed = Action.ADD | Action.UPDATE
        return (
            EventRegistration("StorageClass", changed, _class_changed),
            EventRegistration("PersistentVolumeClaim", changed, claim_is_used),
            EventRegistration("PersistentVolume", changed),
            EventRegistration("Node", Action.ADD | Action.UPDATE_NODE_LABEL),
            EventRegistration("CSINode", Action.ADD),
            EventRegistration("CSIStorageCapacity", changed),
        )


def claim_is_used(pod: PodInfo, old: Any, new: Any) -> bool:
    """Hint: the claim that changed is one of the pod's."""
    claim = new or old
    return object_key(claim) in pod.memo(VolumeBinding.name, claim_keys_of)


def _class_changed(pod: PodInfo, old: Any, new: Any) -> bool:
    return old is None or old.get("allowedTopologies") != new.get("allowedTopologies")
