"""DefaultPreemption: makes room for a pod by deleting pods of lower priority."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from random import Random

from pilothouse.apimachinery.clock import Clock
from pilothouse.apimachinery.errors import StatusError, is_not_found
from pilothouse.apimachinery.object import Obj
from pilothouse.apimachinery.timefmt import format_time
from pilothouse.kubeclient.interfaces import Client, DeleteOptions
from pilothouse.kubeclient.record_v1 import SeriesRecorder
from pilothouse.kubeclient.resources import PODS
from pilothouse.scheduler.cache.node_info import NodeInfo
from pilothouse.scheduler.extender import Extender, ExtenderError
from pilothouse.scheduler.framework.events import Action, EventRegistration
from pilothouse.scheduler.framework.interfaces import Code, CycleState, Status
from pilothouse.scheduler.framework.pod_info import PodInfo
from pilothouse.scheduler.framework.runtime import Diagnosis, Framework
from pilothouse.scheduler.pod_status_writing import patch_status
from pilothouse.scheduler.preemption import (
    Candidate,
    Passes,
    budgets_of,
    pick_candidate,
    refuses_to_preempt,
    select_victims,
)
from pilothouse.scheduler.queueing.nominator import Nominator

MIN_CANDIDATES = 100
MIN_CANDIDATES_PERCENT = 10


@dataclass(slots=True)
class PreemptionHandle:
    """What the plugin needs of the scheduler around it."""

    client: Client
    recorder: SeriesRecorder
    clock: Clock
    random: Random
    nominator: Nominator
    framework: Framework
    passes: Passes
    nodes: Callable[[], Sequence[NodeInfo]]
    budgets: Callable[[], Sequence[Obj]]
    preempted: Callable[[int], None] = lambda victims: None
    """Told how many pods had to go."""
    extenders: Sequence[Extender] = ()


class DefaultPreemption:
    name = "DefaultPreemption"

    def __init__(
        self,
        candidates_percent: int = MIN_CANDIDATES_PERCENT,
        candidates_absolute: int = MIN_CANDIDATES,
    ) -> None:
        """At least so many nodes are looked at, when there are so many, before one is chosen."""
        self._percent = candidates_percent
        self._absolute = candidates_absolute
        self.handle: PreemptionHandle | None = None
        """Set by the scheduler before it starts."""

    def events_to_register(self) -> Iterable[EventRegistration]:
        return (EventRegistration("AssignedPod", Action.DELETE),)

    async def post_filter(
        self, state: CycleState, pod: PodInfo, statuses: dict[str, Status]
    ) -> tuple[str, str]:
        handle = self.handle
        assert handle is not None
        nodes = {node.name: node for node in handle.nodes()}
        nominated = nodes.get(pod.nominated_node_name)
        refusal = refuses_to_preempt(pod, nominated, statuses.get(pod.nominated_node_name))
        if refusal:
            return "", f"preemption: {refusal}"
        result = self._find(handle, state, pod, list(nodes.values()), statuses)
        if isinstance(result, Diagnosis):
            return "", f"preemption: {result.message()}"
        try:
            candidates = await self._ask_extenders(handle, pod, result, nodes)
        except ExtenderError as error:
            return "", f"preemption: {error}"
        if not candidates:
            return "", "preemption: no candidate node for preemption"
        chosen = pick_candidate(candidates)
        await self._evict(handle, pod, chosen)
        found = f"found a potential placement for pod on node {chosen.node}"
        return chosen.node, f"preemption: {found}, preempting {len(chosen.victims)} victims"

    @staticmethod
    async def _ask_extenders(
        handle: PreemptionHandle,
        pod: PodInfo,
        candidates: Sequence[Candidate],
        nodes: Mapping[str, NodeInfo],
    ) -> Sequence[Candidate]:
        """:raises ExtenderError: one that may not be ignored fails."""
        for extender in handle.extenders:
            if not extender.config.preempt_verb or not extender.is_interested(pod):
                continue
            try:
                candidates = await extender.preempt(pod, candidates, nodes)
            except ExtenderError:
                if not extender.config.ignorable:
                    raise
            if not candidates:
                break
        return candidates

    def _find(
        self,
        handle: PreemptionHandle,
        state: CycleState,
        pod: PodInfo,
        nodes: Sequence[NodeInfo],
        statuses: dict[str, Status],
    ) -> list[Candidate] | Diagnosis:
        """The candidates, or why there is none."""
        diagnosis = Diagnosis(len(nodes))
        helpless = Status(Code.UNRESOLVABLE, ("Preemption is not helpful for scheduling",))
        hopeful = []
        for node in nodes:
            status = statuses.get(node.name)
            if status is not None and status.code is Code.UNRESOLVABLE:
                diagnosis.statuses[node.name] = helpless
            else:
                hopeful.append(node)
        if not hopeful:
            return diagnosis
        wanted = max(len(hopeful) * self._percent // 100, self._absolute)
        start = handle.random.randrange(len(hopeful))
        budgets = budgets_of(handle.budgets())
        candidates: list[Candidate] = []
        for node in (*hopeful[start:], *hopeful[:start]):
            found = select_victims(handle.framework, handle.passes, state, pod, node, budgets)
            if isinstance(found, Status):
                diagnosis.statuses[node.name] = found
                continue
            candidates.append(found)
            if len(candidates) >= wanted and any(not c.violations for c in candidates):
                break
        return candidates or diagnosis

    async def _evict(self, handle: PreemptionHandle, pod: PodInfo, chosen: Candidate) -> None:
        handle.preempted(len(chosen.victims))
        # Pods of lower priority that were promised this node must look for another.
        for other in handle.nominator.on_node(chosen.node):
            if other.priority < pod.priority:
                await self._take_back(handle, other)
        for victim in chosen.victims:
            await self._evict_one(handle, pod, victim, chosen.node)

    @staticmethod
    async def _take_back(handle: PreemptionHandle, pod: PodInfo) -> None:
        """Its nomination, in the API too: its next update would bring it back otherwise."""
        handle.nominator.remove(pod.uid)
        if not pod.nominated_node_name:
            return
        await patch_status(handle.client, pod, {"nominatedNodeName": None}, "lost nomination")

    @staticmethod
    async def _evict_one(
        handle: PreemptionHandle, pod: PodInfo, victim: PodInfo, node: str
    ) -> None:
        scheduler = pod.obj["spec"].get("schedulerName") or "default-scheduler"
        condition = {
            "type": "DisruptionTarget",
            "observedGeneration": victim.obj["metadata"].get("generation") or 0,
            "status": "True",
            "reason": "PreemptionByScheduler",
            "message": f"{scheduler}: preempting to accommodate a higher priority pod",
            "lastTransitionTime": format_time(handle.clock.now()),
        }
        try:
            await handle.client.patch(
                PODS,
                victim.name,
                {"status": {"conditions": [condition]}},
                "application/strategic-merge-patch+json",
                victim.namespace,
                subresource="status",
                field_manager="kube-scheduler",
            )
            await handle.client.delete(
                PODS, victim.name, victim.namespace, DeleteOptions(precondition_uid=victim.uid)
            )
        except StatusError as error:
            if not is_not_found(error):
                raise
            return
        note = f"Preempted by pod {pod.uid} on node {node}"
        # Upstream hands its recorder a type without a kind, so the Event tells of no other pod.
        handle.recorder.event(victim.obj, None, "Normal", "Preempted", "Preempting", note)
