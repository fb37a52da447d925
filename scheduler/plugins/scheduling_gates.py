"""SchedulingGates: a pod with ``spec.schedulingGates`` is not tried until all are gone."""

from __future__ import annotations

from collections.abc import Iterable

from pilothouse.scheduler.framework.events import Action, EventRegistration
from pilothouse.scheduler.framework.interfaces import Code, Status
from pilothouse.scheduler.framework.pod_info import PodInfo


class SchedulingGates:
    name = "SchedulingGates"

    def pre_enqueue(self, pod: PodInfo) -> Status | None:
        gates = pod.obj["spec"].get("schedulingGates")
        if not gates:
            return None
        names = " ".join(gate["name"] for gate in gates)
        return Status(Code.UNRESOLVABLE, (f"waiting for scheduling gates: [{names}]",))

    def events_to_register(self) -> Iterable[EventRegistration]:
        return (EventRegistration("Pod", Action.UPDATE_POD_GATES_ELIMINATED),)
