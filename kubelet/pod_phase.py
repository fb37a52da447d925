"""A pod's phase from its containers' statuses (pure; kubelet_pods.go getPhase)."""

from __future__ import annotations

from dataclasses import dataclass

from pilothouse.apimachinery.object import Obj
from pilothouse.apis.core.pod_helpers import container_should_restart
from pilothouse.kubelet.runtime import restart_all
from pilothouse.kubelet.runtime.pod_actions import is_sidecar


def pod_phase(
    spec: Obj, containers: list[Obj], init: list[Obj], *, terminating: bool = False
) -> str:
    """Pending, Running, Succeeded or Failed."""
    failed, pending_init = _init_progress(spec, init)
    if failed:
        return "Failed"
    count = _count(spec, containers)
    if pending_init and not (count.running or count.stopped):
        return "Failed" if terminating else "Pending"
    if count.waiting:
        return "Failed" if terminating and not count.running else "Pending"
    if count.running:
        return "Running"
    if not count.stopped:
        return "Pending"
    if count.stopped != count.for_good and not terminating:
        return "Running"  # about to be restarted
    return "Succeeded" if count.succeeded == count.stopped else "Failed"


def _init_progress(spec: Obj, init: list[Obj]) -> tuple[bool, int]:
    """(the pod has failed in its init containers, how many are not done yet)."""
    specs = {c["name"]: c for c in spec.get("initContainers") or ()}
    pending = 0
    for status in init:
        container = specs.get(status["name"]) or {}
        state = status["state"]
        ended = state.get("terminated")
        if is_sidecar(container):
            pending += not status.get("started") and ended is None
            continue
        last = ended
        if last is None and "waiting" in state:
            last = (status.get("lastState") or {}).get("terminated")
        if last is not None and last["exitCode"] != 0 and not _restarts(container, spec, last):
            return True, 0
        pending += ended is None or ended["exitCode"] != 0
    return False, pending


@dataclass(slots=True)
class _Count:
    running: int = 0
    waiting: int = 0
    stopped: int = 0
    for_good: int = 0
    """Of those that have stopped: won't start again."""
    succeeded: int = 0


def _count(spec: Obj, containers: list[Obj]) -> _Count:
    specs = {c["name"]: c for c in spec.get("containers") or ()}
    count = _Count()
    for status in containers:
        state = status["state"]
        if "running" in state:
            count.running += 1
            continue
        ended = state.get("terminated")
        last = ended or (status.get("lastState") or {}).get("terminated")
        if last is None:
            count.waiting += 1
            continue
        # Also one that backs off between two runs.
        count.stopped += 1
        count.for_good += not _restarts(specs.get(status["name"]) or {}, spec, last)
        count.succeeded += ended is not None and ended["exitCode"] == 0
    return count


def _restarts(container: Obj, spec: Obj, terminated: Obj) -> bool:
    if terminated.get("reason") == restart_all.REASON:
        return True
    return container_should_restart(container, spec, terminated["exitCode"])
