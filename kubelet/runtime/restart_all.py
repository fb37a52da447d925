"""RestartAllContainers: which pods restart as a whole, and what goes first (pure).

A container that exits as a rule of its ``restartPolicyRules`` says takes all others with it: they
are killed and removed, then the pod starts anew in its sandbox, init containers first. The pod's
condition AllContainersRestarting remembers it in between (ShouldAllContainersRestart).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pilothouse.apimachinery.object import Obj
from pilothouse.apis.core.pod_helpers import matching_restart_rule

if TYPE_CHECKING:
    from pilothouse.kubelet.runtime.interfaces import ContainerStatus
    from pilothouse.kubelet.runtime.pod_actions import PodRuntimeStatus

CONDITION = "AllContainersRestarting"
ACTION = "RestartAllContainers"
REASON = "RestartingAllContainers"
"""Of containers that have been removed for it."""
MESSAGE = "The container is removed because RestartAllContainers in place"
STARTED = ("RestartAllContainersStarted", "container exited with restart policy rule")


@dataclass(frozen=True, slots=True)
class ContainerToReset:
    id: str
    name: str
    kill: bool
    """It has not ended by itself."""


def condition_holds(status: Obj) -> bool:
    return any(
        c["type"] == CONDITION and c["status"] == "True" for c in status.get("conditions") or ()
    )


def triggered(spec: Obj, runtime: PodRuntimeStatus) -> bool:
    """Whether the newest run of a container has ended in a way that restarts all."""
    return any(
        (newest := runtime.newest(container["name"])) is not None and _triggers(container, newest)
        for container in _containers(spec)
    )


def cleaned_up(spec: Obj, runtime: PodRuntimeStatus) -> bool:
    """Whether all containers are gone from the runtime."""
    return all(runtime.newest(container["name"]) is None for container in _containers(spec))


def containers_to_reset(spec: Obj, runtime: PodRuntimeStatus) -> list[ContainerToReset]:
    """Everything that the runtime has of the pod, those that triggered it last: should removal
    be interrupted, they still tell why."""
    sources: list[ContainerToReset] = []
    targets: list[ContainerToReset] = []
    for field in ("containers", "initContainers"):
        for container in spec.get(field) or ():
            for status in runtime.containers.get(container["name"]) or ():
                reset = ContainerToReset(status.id, status.name, status.state != "exited")
                (sources if _triggers(container, status) else targets).append(reset)
    return targets + sources


def _triggers(container: Obj, status: ContainerStatus) -> bool:
    if status.state != "exited":
        return False
    rule = matching_restart_rule(container, status.exit_code)
    return rule is not None and rule.get("action") == ACTION


def _containers(spec: Obj) -> Iterator[Obj]:
    yield from spec.get("initContainers") or ()
    yield from spec.get("containers") or ()
