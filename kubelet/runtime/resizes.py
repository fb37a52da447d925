"""In-place resize: brings running containers' limits to what their pod's spec says now.

``pending`` is pure: what differs between the resources that a container was given and those of the
spec. The manager then changes the cgroup, or restarts the container where its resizePolicy wants
it. What a container was given is an annotation from its start, and memory from then on.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace

from pilothouse.apimachinery.object import Obj
from pilothouse.apimachinery.quantity import Quantity
from pilothouse.kubelet.runtime.interfaces import ContainerStatus, Resources
from pilothouse.kubelet.runtime.pod_actions import PodRuntimeStatus

RESOURCES_ANNOTATION = "io.pilothouse.container.resources"
RESIZABLE = ("cpu", "memory")


@dataclass(frozen=True, slots=True)
class Resize:
    """A running container whose resources are not those of the spec."""

    id: str
    container: Obj
    have: Obj
    want: Obj
    """Its effective resources until and from now on."""
    restart: bool
    """A changed resource asks for a restart (``resizePolicy``)."""


def effective_resources(pod: Obj, container: Obj) -> Obj:
    """Its requests and limits; a limit that it hasn't is its pod's."""
    own = container.get("resources") or {}
    limits = dict(own.get("limits") or {})
    shared = (pod["spec"].get("resources") or {}).get("limits") or {}
    for name in RESIZABLE:
        if name in shared:
            limits.setdefault(name, shared[name])
    return {"requests": own.get("requests") or {}, "limits": limits}


def annotation(pod: Obj, container: Obj) -> str:
    """What the runtime keeps of a container's resources."""
    return json.dumps(effective_resources(pod, container), sort_keys=True)


def widest(have: Resources, want: Resources) -> Resources:
    """The larger of each limit, for a pod in the middle of a resize; 0 is none."""

    def larger(name: str) -> int:
        before, after = getattr(have, name), getattr(want, name)
        return max(before, after) if before and after else 0

    names = ("cpu_quota", "memory_limit")
    shares = max(have.cpu_shares, want.cpu_shares)
    return replace(want, cpu_shares=shares, **{name: larger(name) for name in names})


class GivenResources:
    """The resources that each container has been given, by container id."""

    def __init__(self) -> None:
        self._later: dict[str, Obj] = {}

    def of(self, status: ContainerStatus) -> Obj | None:
        if status.id in self._later:
            return self._later[status.id]
        text = status.annotations.get(RESOURCES_ANNOTATION)
        given: Obj | None = json.loads(text) if text else None
        return given

    def note(self, container_id: str, resources: Obj) -> None:
        self._later[container_id] = resources

    def forget(self, container_id: str) -> None:
        self._later.pop(container_id, None)


def pending(pod: Obj, status: PodRuntimeStatus, given: GivenResources) -> list[Resize]:
    """The resizes that are due, in the order of the spec."""
    due = []
    for container in _resizable(pod):
        current = status.newest(container["name"])
        if current is None or current.state != "running":
            continue
        have = given.of(current)
        if have is None:
            continue
        want = effective_resources(pod, container)
        changed = changed_resources(have, want)
        if changed:
            due.append(Resize(current.id, container, have, want, _restarts(container, changed)))
    return due


def _resizable(pod: Obj) -> Iterator[Obj]:
    spec = pod["spec"]
    yield from spec.get("initContainers") or ()
    yield from spec.get("containers") or ()


def changed_resources(have: Obj, want: Obj) -> set[str]:
    """Names of the resources whose request or limit differs in value."""
    return {
        name
        for name in RESIZABLE
        for kind in ("requests", "limits")
        if _amount(have, kind, name) != _amount(want, kind, name)
    }


def _amount(resources: Obj, kind: str, name: str) -> int | None:
    text = (resources.get(kind) or {}).get(name)
    return None if text is None else Quantity.parse(text).milli_value()


def _restarts(container: Obj, changed: set[str]) -> bool:
    return any(
        policy.get("resourceName") in changed and policy.get("restartPolicy") == "RestartContainer"
        for policy in container.get("resizePolicy") or ()
    )
