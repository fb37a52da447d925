"""What to do to a pod's containers next: the pure core of SyncPod (kuberuntime computePodActions).

``compute_pod_actions`` looks at the pod's spec, at what the runtime has, and at what probes say,
and answers with the actions; ``runtime/manager.py`` carries them out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Literal

from pilothouse.apimachinery.hashing import hash_object
from pilothouse.apimachinery.object import Obj
from pilothouse.apis.core.pod_helpers import container_should_restart
from pilothouse.kubelet.runtime.interfaces import ContainerStatus, SandboxStatus
from pilothouse.kubelet.runtime.restart_all import (
    ContainerToReset,
    containers_to_reset,
    triggered,
)

HASH_LABEL = "io.kubernetes.container.hash"
Kind = Literal["init", "container", "ephemeral"]


@dataclass(frozen=True, slots=True)
class PodRuntimeStatus:
    """What the runtime has of a pod, newest first in each list."""

    sandboxes: tuple[SandboxStatus, ...] = ()
    containers: Mapping[str, tuple[ContainerStatus, ...]] = field(default_factory=dict)

    def newest(self, name: str) -> ContainerStatus | None:
        listed = self.containers.get(name)
        return listed[0] if listed else None

    @property
    def sandbox(self) -> SandboxStatus | None:
        return self.sandboxes[0] if self.sandboxes else None

    @property
    def running(self) -> list[ContainerStatus]:
        return [c for listed in self.containers.values() for c in listed if c.state == "running"]


@dataclass(frozen=True, slots=True)
class ContainerToKill:
    id: str
    name: str
    message: str
    reason: str = ""
    """``unhealthy`` for a failed probe, else empty."""


@dataclass(frozen=True, slots=True)
class ContainerToStart:
    kind: Kind
    name: str


@dataclass(slots=True)
class PodActions:
    kill_pod: bool = False
    """Kill all containers and the sandbox."""
    create_sandbox: bool = False
    sandbox_id: str = ""
    attempt: int = 0
    start: list[ContainerToStart] = field(default_factory=list)
    kill: list[ContainerToKill] = field(default_factory=list)
    reset: list[ContainerToReset] = field(default_factory=list)
    """To be removed, in this order, before the pod's containers start anew."""

    @property
    def nothing(self) -> bool:
        return not (self.kill_pod or self.create_sandbox or self.start or self.kill or self.reset)


@dataclass(frozen=True, slots=True)
class ProbeResults:
    """Container ids that a probe has found dead, and those whose startup probe has succeeded."""

    liveness_failed: frozenset[str] = frozenset()
    startup_failed: frozenset[str] = frozenset()
    started: frozenset[str] = frozenset()


def compute_pod_actions(
    pod: Obj,
    status: PodRuntimeStatus,
    probes: ProbeResults = ProbeResults(),
    *,
    restart_all: bool = False,
) -> PodActions:
    """The next actions; empty when the pod is as it should be. ``restart_all``: all containers
    go, the next look starts them anew."""
    spec = pod["spec"]
    actions = PodActions()
    needs_sandbox, actions.attempt, actions.sandbox_id = _sandbox_needed(status)
    if restart_all:
        actions.reset = containers_to_reset(spec, status)
        return actions
    if triggered(spec, status):
        return actions  # it has just ended: first the pod's status tells that all restart
    if needs_sandbox:
        return _with_new_sandbox(spec, status, actions)
    for container in spec.get("ephemeralContainers") or ():
        if status.newest(container["name"]) is None:
            actions.start.append(ContainerToStart("ephemeral", container["name"]))
    if not _init_containers(spec, status, probes, actions):
        return actions
    kept = 0
    for container in spec.get("containers") or ():
        kept += _regular_container(container, spec, status, probes, actions)
    sidecars_only = not kept and not any(s.kind == "container" for s in actions.start)
    if sidecars_only:
        # All regular containers are done for good: nothing holds the pod any longer.
        actions.kill_pod = True
        actions.start = []
    return actions


def _sandbox_needed(status: PodRuntimeStatus) -> tuple[bool, int, str]:
    """(a new sandbox is needed, its attempt number, the sandbox there is)."""
    sandbox = status.sandbox
    if sandbox is None:
        return True, 0, ""
    if sandbox.state != "ready":
        return True, sandbox.attempt + 1, sandbox.id
    if not sandbox.host_network and not sandbox.ips:
        return True, sandbox.attempt + 1, sandbox.id
    return False, sandbox.attempt, sandbox.id


def _with_new_sandbox(spec: Obj, status: PodRuntimeStatus, actions: PodActions) -> PodActions:
    policy = spec.get("restartPolicy") or "Always"
    init = spec.get("initContainers") or ()
    actions.kill_pod = True
    if policy == "Never" and actions.attempt and any(status.containers.values()):
        return actions  # its sandbox is gone and nothing may run again
    names = [
        c["name"]
        for c in spec.get("containers") or ()
        if not (
            (c.get("restartPolicy") or policy) == "OnFailure"
            and _succeeded(status.newest(c["name"]))
        )
    ]
    if not names and not _unfinished(init, status):
        return actions
    actions.create_sandbox = True
    actions.kill_pod = bool(actions.sandbox_id)
    if init:
        actions.start.append(ContainerToStart("init", init[0]["name"]))
    else:
        actions.start.extend(ContainerToStart("container", name) for name in names)
    return actions


def _succeeded(status: ContainerStatus | None) -> bool:
    return status is not None and status.state == "exited" and status.exit_code == 0


def _unfinished(init: list[Obj] | tuple[()], status: PodRuntimeStatus) -> bool:
    return any(not _succeeded(status.newest(c["name"])) for c in init)


def is_sidecar(container: Obj) -> bool:
    """An init container that goes on running beside the others (restartPolicy Always)."""
    return container.get("restartPolicy") == "Always"


def _init_containers(
    spec: Obj, status: PodRuntimeStatus, probes: ProbeResults, actions: PodActions
) -> bool:
    """Adds the actions for init containers; true when the regular ones may run.

    In order; a plain one must have succeeded and a sidecar must have started before the next.
    Once any regular container exists, plain ones are history (also when the runtime has
    removed them) but sidecars are still kept running.
    """
    init = spec.get("initContainers") or ()
    if not init:
        return True
    initialized = any(status.newest(c["name"]) is not None for c in spec.get("containers") or ())
    for container in init:
        name = container["name"]
        current = status.newest(name)
        if is_sidecar(container):
            if not _sidecar(container, current, probes, actions) and not initialized:
                return False
            continue
        if initialized or _succeeded(current):
            continue
        if current is not None and current.state == "running":
            return False
        if current is not None and not should_be_restarted(container, spec, current):
            actions.kill_pod = True  # a failed init container fails the pod
            return False
        actions.start.append(ContainerToStart("init", name))
        return False
    return True


def _sidecar(
    container: Obj, current: ContainerStatus | None, probes: ProbeResults, actions: PodActions
) -> bool:
    """Keeps a sidecar running; true when it has started (as its startup probe says)."""
    if current is None or current.state in ("exited", "unknown", "created"):
        actions.start.append(ContainerToStart("init", container["name"]))
        return False
    message = _unhealthy(container, current, probes)
    if message:
        actions.kill.append(ContainerToKill(current.id, container["name"], message, "unhealthy"))
        actions.start.append(ContainerToStart("init", container["name"]))
        return False
    return not container.get("startupProbe") or current.id in probes.started


def _regular_container(
    container: Obj, spec: Obj, status: PodRuntimeStatus, probes: ProbeResults, actions: PodActions
) -> int:
    """Adds the actions for one container; 1 when it is running and stays."""
    name = container["name"]
    current = status.newest(name)
    if current is None or current.state != "running":
        if should_be_restarted(container, spec, current):
            if current is not None and current.state == "unknown":
                message = f"Container {name} is in an unknown state; killing it before restarting."
                actions.kill.append(ContainerToKill(current.id, name, message))
            actions.start.append(ContainerToStart("container", name))
        return 0
    if current.labels.get(HASH_LABEL, "") not in ("", container_hash(container)):
        message = f"Container {name} definition changed, will be restarted"
        actions.kill.append(ContainerToKill(current.id, name, message))
        actions.start.append(ContainerToStart("container", name))
        return 0
    message = _unhealthy(container, current, probes)
    if not message:
        return 1
    # Rules ask for an exit code, which a container that still runs doesn't have.
    policy = container.get("restartPolicy") or spec.get("restartPolicy") or "Always"
    restart = policy != "Never"
    if restart:
        message += ", will be restarted"
        actions.start.append(ContainerToStart("container", name))
    actions.kill.append(ContainerToKill(current.id, name, message, "unhealthy"))
    return 0 if restart else 1


def _unhealthy(container: Obj, current: ContainerStatus, probes: ProbeResults) -> str:
    name = container["name"]
    if current.id in probes.liveness_failed:
        return f"Container {name} failed liveness probe"
    if current.id in probes.startup_failed:
        return f"Container {name} failed startup probe"
    return ""


def should_be_restarted(container: Obj, spec: Obj, current: ContainerStatus | None) -> bool:
    """Whether a container that does not run should (again)."""
    if current is None or current.state in ("created", "unknown"):
        return True
    return container_should_restart(container, spec, current.exit_code)


def container_hash(container: Obj) -> str:
    """Changes when the container must be started anew: name or image (kubelet HashContainer)."""
    return _hash(container["name"], container.get("image") or "")


@lru_cache(maxsize=1024)
def _hash(name: str, image: str) -> str:
    return hash_object({"name": name, "image": image})
