"""Cells of pods: what kubectl shows as READY, STATUS and RESTARTS."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pilothouse.apimachinery.object import condition_of
from pilothouse.apimachinery.timefmt import parse_time
from pilothouse.apiserver.registry.printing import NO_DICT, NONE, age, name, since

if TYPE_CHECKING:
    from datetime import datetime

    from pilothouse.apimachinery.object import Obj


@dataclass(slots=True)
class _Summary:
    reason: str
    ready: int = 0
    restarts: int = 0
    last_restart: str = ""
    sidecar_restarts: int = 0
    last_sidecar_restart: str = ""


def pod(obj: Obj, now: datetime) -> list[Any]:
    spec, status = obj.get("spec") or NO_DICT, obj.get("status") or NO_DICT
    summary = _Summary(status.get("reason") or status.get("phase") or "")
    for condition in status.get("conditions") or ():
        if condition.get("type") == "PodScheduled" and condition.get("reason") == "SchedulingGated":
            summary.reason = "SchedulingGated"
    sidecars = {
        c.get("name")
        for c in spec.get("initContainers") or ()
        if c.get("restartPolicy") == "Always"
    }
    initializing = _init_containers(spec, status, sidecars, summary)
    if not initializing or _is_initialized(obj):
        _containers(obj, status, summary)
    if (obj.get("metadata") or NO_DICT).get("deletionTimestamp"):
        if status.get("reason") == "NodeLost":
            summary.reason = "Unknown"
        elif status.get("phase") not in ("Failed", "Succeeded"):
            summary.reason = "Terminating"
    restarts = str(summary.restarts)
    if summary.restarts and summary.last_restart:
        restarts = f"{summary.restarts} ({since(summary.last_restart, now)} ago)"
    total = len(spec.get("containers") or ()) + len(sidecars)
    ips = status.get("podIPs") or ()
    return [
        name(obj),
        f"{summary.ready}/{total}",
        summary.reason,
        restarts,
        age(obj, now),
        (ips[0].get("ip") if ips else "") or NONE,
        spec.get("nodeName") or NONE,
        status.get("nominatedNodeName") or NONE,
        _readiness_gates(obj, spec),
    ]


def _init_containers(spec: Obj, status: Obj, sidecars: set[Any], summary: _Summary) -> bool:
    """Counts restarts up to the first unfinished init container; True if there is one."""
    total = len(spec.get("initContainers") or ())
    for i, container in enumerate(status.get("initContainerStatuses") or ()):
        restarts = container.get("restartCount") or 0
        finished = _last_finished(container)
        summary.restarts += restarts
        summary.last_restart = _later(summary.last_restart, finished)
        is_sidecar = container.get("name") in sidecars
        if is_sidecar:
            summary.sidecar_restarts += restarts
            summary.last_sidecar_restart = _later(summary.last_sidecar_restart, finished)
        state = container.get("state") or NO_DICT
        terminated, waiting = state.get("terminated"), state.get("waiting")
        if terminated is not None and not terminated.get("exitCode"):
            continue
        if is_sidecar and container.get("started"):
            summary.ready += bool(container.get("ready"))
            continue
        if terminated is not None:
            summary.reason = "Init:" + _terminated_reason(terminated)
        elif waiting and waiting.get("reason") not in (None, "", "PodInitializing"):
            summary.reason = f"Init:{waiting['reason']}"
        else:
            summary.reason = f"Init:{i}/{total}"
        return True
    return False


def _containers(obj: Obj, status: Obj, summary: _Summary) -> None:
    summary.restarts = summary.sidecar_restarts
    summary.last_restart = summary.last_sidecar_restart
    running, error_reason = False, ""
    for container in reversed(status.get("containerStatuses") or ()):
        summary.restarts += container.get("restartCount") or 0
        summary.last_restart = _later(summary.last_restart, _last_finished(container))
        state = container.get("state") or NO_DICT
        waiting, terminated = state.get("waiting"), state.get("terminated")
        if waiting is not None and waiting.get("reason"):
            summary.reason = waiting["reason"]
        elif terminated is not None:
            summary.reason = _terminated_reason(terminated)
            if terminated.get("exitCode"):
                error_reason = summary.reason
        elif container.get("ready") and state.get("running") is not None:
            running = True
            summary.ready += 1
    if summary.reason == "Completed":
        if running and _is_ready(obj):
            summary.reason = "Running"
        elif error_reason:
            summary.reason = error_reason
        elif running:
            summary.reason = "NotReady"


def _terminated_reason(terminated: Obj) -> str:
    if terminated.get("reason"):
        return str(terminated["reason"])
    if terminated.get("signal"):
        return f"Signal:{terminated['signal']}"
    return f"ExitCode:{terminated.get('exitCode') or 0}"


def _last_finished(container: Obj) -> str:
    terminated = (container.get("lastState") or NO_DICT).get("terminated") or NO_DICT
    return terminated.get("finishedAt") or ""


def _later(first: str, second: str) -> str:
    if not first or not second:
        return first or second
    return first if parse_time(second) <= parse_time(first) else second


def _is_initialized(obj: Obj) -> bool:
    condition = condition_of(obj, "Initialized")
    return condition is not None and condition.get("status") == "True"


def _is_ready(obj: Obj) -> bool:
    condition = condition_of(obj, "Ready")
    return condition is not None and condition.get("status") == "True"


def _readiness_gates(obj: Obj, spec: Obj) -> str:
    gates = spec.get("readinessGates")
    if not gates:
        return NONE
    conditions = [condition_of(obj, gate.get("conditionType") or "") for gate in gates]
    met = sum(c is not None and c.get("status") == "True" for c in conditions)
    return f"{met}/{len(gates)}"
