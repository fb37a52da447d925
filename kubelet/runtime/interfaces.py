"""What the kubelet asks of a container runtime, in CRI's words.

Implementations: ``oci`` (a shim process per node that drives crun), ``process`` (plain
processes) and ``fake`` (a state machine). All pass ``kubelet/runtime/testing.py``; a
:class:`Capabilities` flag says what an implementation cannot do. Errors: ``runtime/errors.py``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol

if TYPE_CHECKING:
    import asyncio
    from collections.abc import AsyncIterator

ContainerState = Literal["created", "running", "exited", "unknown"]
SandboxState = Literal["ready", "notready"]


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What works here; the first-class path (root, oci) has all of them."""

    pod_network: bool = True
    resource_limits: bool = True
    oom_detection: bool = True
    user_ids: bool = True
    image_filesystem: bool = True
    tty: bool = True
    real_processes: bool = True
    user_namespaces: bool = False
    """Pods can have users of their own (``hostUsers: false``)."""


@dataclass(frozen=True, slots=True)
class RuntimeInfo:
    name: str
    """``cri-o``-like scheme for node info and container ids: ``crun``, ``process``, ``fake``."""
    version: str
    capabilities: Capabilities


@dataclass(frozen=True, slots=True)
class PortMapping:
    protocol: str
    container_port: int
    host_port: int
    host_ip: str = ""


@dataclass(frozen=True, slots=True)
class Resources:
    """cgroup limits; 0 means unlimited. ``cpu_quota`` and ``cpu_period`` are microseconds."""

    cpu_shares: int = 0
    cpu_quota: int = 0
    cpu_period: int = 100_000
    memory_limit: int = 0
    pids_limit: int = 0
    oom_score_adj: int = 0


@dataclass(frozen=True, slots=True)
class PodSandboxConfig:
    name: str
    namespace: str
    uid: str
    attempt: int
    hostname: str
    log_directory: str
    cgroup_parent: str = ""
    host_network: bool = False
    host_pid: bool = False
    host_ipc: bool = False
    share_process_namespace: bool = False
    port_mappings: tuple[PortMapping, ...] = ()
    sysctls: dict[str, str] = field(default_factory=dict)
    user_namespace: int = 0
    """The node's id of who is root in the pod's user namespace (65536 ids); 0: it has none."""
    resources: Resources | None = None
    """Of the pod as a whole; its containers share them."""
    labels: dict[str, str] = field(default_factory=dict)
    annotations: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Mount:
    host_path: str
    container_path: str
    readonly: bool = False
    propagation: Literal["private", "host_to_container", "bidirectional"] = "private"
    image: str = ""
    """An image (reference or id) whose files are mounted instead of ``host_path``."""
    image_sub_path: str = ""
    within: str = ""
    """The volume's directory when ``host_path`` is a subPath of it: containers write there, so the
    way is gone again when it is mounted, and a link on it is refused."""


@dataclass(frozen=True, slots=True)
class SecurityContext:
    run_as_user: int | None = None
    run_as_username: str = ""
    run_as_group: int | None = None
    supplemental_groups: tuple[int, ...] = ()
    strict_groups: bool = False
    """Without the groups that the image's /etc/group gives the user."""
    privileged: bool = False
    readonly_rootfs: bool = False
    no_new_privileges: bool = False
    add_capabilities: tuple[str, ...] = ()
    drop_capabilities: tuple[str, ...] = ()
    seccomp_unconfined: bool = True
    proc_mount_unmasked: bool = False


@dataclass(frozen=True, slots=True)
class ContainerConfig:
    """``image`` is an image id of this runtime. ``command``/``args`` None: the image's own."""

    name: str
    attempt: int
    image: str
    command: tuple[str, ...] | None = None
    args: tuple[str, ...] | None = None
    working_dir: str = ""
    envs: tuple[tuple[str, str], ...] = ()
    mounts: tuple[Mount, ...] = ()
    log_path: str = ""
    """Relative to the sandbox's ``log_directory``: ``<container>/<attempt>.log`` (CRI format)."""
    stdin: bool = False
    stdin_once: bool = False
    tty: bool = False
    stop_signal: str = ""
    target: str = ""
    """Name of the running container of its pod whose processes it sees (``kubectl debug``);
    runtimes without process namespaces ignore it."""
    resources: Resources = Resources()
    security: SecurityContext = SecurityContext()
    devices: tuple[dict[str, Any], ...] = ()
    """Device nodes that it gets, as in an OCI configuration; ``access`` for the cgroup."""
    hooks: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    """OCI hooks by point."""
    labels: dict[str, str] = field(default_factory=dict)
    annotations: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SandboxStatus:
    id: str
    name: str
    namespace: str
    uid: str
    attempt: int
    state: SandboxState
    created_at: float
    ips: tuple[str, ...]
    host_network: bool
    labels: dict[str, str]
    annotations: dict[str, str]


@dataclass(frozen=True, slots=True)
class ContainerStatus:
    """Times are seconds since the epoch, 0 when it has not happened."""

    id: str
    sandbox_id: str
    name: str
    attempt: int
    state: ContainerState
    image: str
    """The reference that was asked for, as far as known."""
    image_id: str
    created_at: float
    started_at: float = 0.0
    finished_at: float = 0.0
    exit_code: int = 0
    reason: str = ""
    """Completed, Error, OOMKilled, StartError, ContainerCannotRun, …"""
    message: str = ""
    log_path: str = ""
    """Absolute."""
    pid: int = 0
    labels: dict[str, str] = field(default_factory=dict)
    annotations: dict[str, str] = field(default_factory=dict)
    user: dict[str, Any] | None = None
    """Whom it was started as, as the API tells it (LinuxContainerUser); None: not known."""


@dataclass(frozen=True, slots=True)
class Image:
    id: str
    repo_tags: tuple[str, ...]
    repo_digests: tuple[str, ...]
    size: int
    user: str = ""
    """``USER`` of the image config: uid, name, uid:gid or empty."""
    pinned: bool = False


@dataclass(frozen=True, slots=True)
class PullAuth:
    username: str = ""
    password: str = ""
    registry_token: str = ""
    identity_token: str = ""


@dataclass(frozen=True, slots=True)
class ContainerStats:
    id: str
    timestamp: float
    cpu_usage_core_nanoseconds: int
    memory_working_set_bytes: int
    memory_usage_bytes: int
    rootfs_used_bytes: int = 0
    cpu_usage_nanocores: int | None = None
    """The rate of now, from runtimes that know it."""
    memory_rss_bytes: int = 0
    """Anonymous memory."""


@dataclass(frozen=True, slots=True)
class RuntimeEvent:
    """Something happened to a container or sandbox; look at it again."""

    sandbox_id: str
    pod_uid: str
    container_id: str = ""
    type: Literal["created", "started", "stopped", "deleted", "sandbox"] = "stopped"


class ExecStream(Protocol):
    """A process with attached streams (exec, attach). Streams that were not asked for are None."""

    stdin: asyncio.StreamWriter | None
    stdout: asyncio.StreamReader | None
    stderr: asyncio.StreamReader | None

    async def resize(self, width: int, height: int) -> None: ...

    async def close_stdin(self) -> None: ...

    async def wait(self) -> int:
        """The exit code (exec) or 0 when the container's output has ended (attach)."""
        ...

    async def kill(self) -> None:
        """Ends the process (exec) or detaches (attach); frees everything."""
        ...


class RuntimeService(Protocol):
    async def info(self) -> RuntimeInfo: ...

    async def run_pod_sandbox(self, config: PodSandboxConfig) -> str: ...

    async def stop_pod_sandbox(self, sandbox_id: str) -> None: ...

    async def remove_pod_sandbox(self, sandbox_id: str) -> None: ...

    async def pod_sandbox_status(self, sandbox_id: str) -> SandboxStatus: ...

    async def list_pod_sandboxes(self) -> list[SandboxStatus]: ...

    async def create_container(self, sandbox_id: str, config: ContainerConfig) -> str: ...

    async def start_container(self, container_id: str) -> None: ...

    async def stop_container(self, container_id: str, grace_seconds: float) -> None:
        """Sends the stop signal, then KILL after ``grace_seconds``; returns when it has exited."""
        ...

    async def remove_container(self, container_id: str) -> None: ...

    async def container_status(self, container_id: str) -> ContainerStatus: ...

    async def list_containers(self) -> list[ContainerStatus]: ...

    async def update_container_resources(self, container_id: str, resources: Resources) -> None: ...

    async def update_pod_sandbox_resources(self, sandbox_id: str, resources: Resources) -> None:
        """New limits for the pod as a whole. :raises Unsupported: there are none here."""
        ...

    async def reopen_container_log(self, container_id: str) -> None: ...

    async def exec_sync(
        self, container_id: str, command: list[str], timeout: float
    ) -> tuple[bytes, bytes, int]:
        """stdout, stderr, exit code. :raises ExecTimeout: after ``timeout`` seconds (0: none)."""
        ...

    async def exec(
        self,
        container_id: str,
        command: list[str],
        *,
        tty: bool,
        stdin: bool,
        stdout: bool,
        stderr: bool,
    ) -> ExecStream: ...

    async def attach(
        self, container_id: str, *, tty: bool, stdin: bool, stdout: bool, stderr: bool
    ) -> ExecStream: ...

    async def port_forward(
        self, sandbox_id: str, port: int
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A connection to 127.0.0.1:port inside the pod. :raises ConnectionError: refused."""
        ...

    async def container_stats(self, container_id: str) -> ContainerStats: ...

    def events(self) -> AsyncIterator[RuntimeEvent]:
        """Changes from now on. After a lost connection to a shim the iterator ends: relist."""
        ...

    async def close(self) -> None: ...


class ImageService(Protocol):
    async def pull_image(self, reference: str, auth: PullAuth | None) -> str:
        """The image id. :raises ImagePullError: with the registry's reason."""
        ...

    async def image_status(self, reference: str) -> Image | None: ...

    async def list_images(self) -> list[Image]: ...

    async def remove_image(self, reference: str) -> None: ...
