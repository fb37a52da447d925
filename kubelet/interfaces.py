"""Parts of the kubelet as the others see them, so that each can be built and tested alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Protocol

from pilothouse.apimachinery.object import Obj
from pilothouse.kubelet.runtime.interfaces import Mount
from pilothouse.kubelet.runtime.pod_actions import PodRuntimeStatus, ProbeResults


class ContainerConfigError(Exception):
    """The container's configuration cannot be made: CreateContainerConfigError with this text."""


class MountError(Exception):
    """A volume cannot be set up (yet); the text goes into the FailedMount event."""


@dataclass(frozen=True, slots=True)
class MountedVolume:
    host_path: str
    """A directory or, for hostPath, whatever is there."""
    readonly: bool = False
    image: str = ""
    """Reference of an image that the volume shows, instead of ``host_path``."""
    device: str = ""
    """A block device that the volume is, instead of a path with files."""


class Volumes(Protocol):
    """``volumes/manager.py``."""

    async def mount(self, pod: Obj) -> dict[str, MountedVolume]:
        """All volumes of the pod set up and up to date; by volume name. Idempotent.

        :raises MountError: with the reason for the first that is not.
        """
        ...

    async def container_mounts(
        self,
        pod: Obj,
        container: Obj,
        mounted: dict[str, MountedVolume],
        pod_ip: str,
        attempt: int,
    ) -> list[Mount]:
        """The container's mounts: volumeMounts (subPathExpr is expanded already), /etc/hosts,
        resolv.conf, the termination log of this attempt.

        :raises ContainerConfigError: a mount that cannot be made.
        """
        ...

    def grows(self, uid: str) -> bool:
        """Whether a volume of the pod may have to be made larger while it runs."""
        ...

    def container_devices(self, container: Obj, mounted: dict[str, MountedVolume]) -> list[Obj]:
        """The container's block devices (volumeDevices), as in ``ContainerConfig.devices``.

        :raises ContainerConfigError: one that it can't have.
        """
        ...

    async def unmount(self, pod: Obj) -> None:
        """Everything of the pod is removed; its containers are gone."""
        ...


class Environments(Protocol):
    """``environment.py``."""

    async def make(
        self,
        pod: Obj,
        container: Obj,
        pod_ips: tuple[str, ...],
        mounted: Mapping[str, MountedVolume] = MappingProxyType({}),
    ) -> list[tuple[str, str]]:
        """The container's variables: service links, envFrom, env with $(VAR) expanded.
        ``mounted``: the pod's volumes, where fileKeyRef finds its files.

        :raises ContainerConfigError: a missing ConfigMap, Secret or key, with upstream's text.
        """
        ...

    def expand(self, text: str, variables: dict[str, str]) -> str:
        """$(VAR) in command and args; unknown ones stay as they are, $$( is an escape."""
        ...


class Probes(Protocol):
    """``probes/manager.py``. Results reach the kubelet by ``on_change(pod uid)``."""

    def update(self, pod: Obj, status: PodRuntimeStatus) -> None:
        """Workers for the running containers of the pod are started, others ended."""
        ...

    def keep_readiness(self, uid: str) -> None:
        """The pod is about to end: nothing restarts its containers any more, but clients want to
        know whether they still serve."""
        ...

    def remove(self, uid: str) -> None: ...

    def results(self, uid: str) -> ProbeResults: ...

    def ready(self, pod: Obj, status: PodRuntimeStatus) -> frozenset[str]:
        """Ids of running containers that are ready."""
        ...

    def started(self, pod: Obj, status: PodRuntimeStatus) -> frozenset[str]:
        """Ids of running containers whose startup probe has succeeded (or that have none)."""
        ...

    async def stop(self) -> None: ...


class Hooks(Protocol):
    """``lifecycle_hooks.py``: postStart and preStop."""

    async def run(self, pod: Obj, container_id: str, handler: Obj, pod_ip: str) -> None:
        """:raises HookError: it failed; the text says how."""
        ...


class HookError(Exception):
    pass
