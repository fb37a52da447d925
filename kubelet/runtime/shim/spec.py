"""The OCI runtime configuration of a container: a pure function of what the kubelet asked for."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pilothouse.kubelet.runtime.shim.seccomp import default_profile
from pilothouse.kubelet.runtime.shim.user_namespaces import mappings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pilothouse.kubelet.runtime.shim.users import User

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
DEFAULT_CAPABILITIES = (
    "CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FSETID", "CAP_FOWNER", "CAP_MKNOD", "CAP_NET_RAW",
    "CAP_SETGID", "CAP_SETUID", "CAP_SETFCAP", "CAP_SETPCAP", "CAP_NET_BIND_SERVICE",
    "CAP_SYS_CHROOT", "CAP_KILL", "CAP_AUDIT_WRITE",
)  # fmt: skip
ALL_CAPABILITIES = (
    "CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_DAC_READ_SEARCH", "CAP_FOWNER", "CAP_FSETID",
    "CAP_KILL", "CAP_SETGID", "CAP_SETUID", "CAP_SETPCAP", "CAP_LINUX_IMMUTABLE",
    "CAP_NET_BIND_SERVICE", "CAP_NET_BROADCAST", "CAP_NET_ADMIN", "CAP_NET_RAW", "CAP_IPC_LOCK",
    "CAP_IPC_OWNER", "CAP_SYS_MODULE", "CAP_SYS_RAWIO", "CAP_SYS_CHROOT", "CAP_SYS_PTRACE",
    "CAP_SYS_PACCT", "CAP_SYS_ADMIN", "CAP_SYS_BOOT", "CAP_SYS_NICE", "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME", "CAP_SYS_TTY_CONFIG", "CAP_MKNOD", "CAP_LEASE", "CAP_AUDIT_WRITE",
    "CAP_AUDIT_CONTROL", "CAP_SETFCAP", "CAP_MAC_OVERRIDE", "CAP_MAC_ADMIN", "CAP_SYSLOG",
    "CAP_WAKE_ALARM", "CAP_BLOCK_SUSPEND", "CAP_AUDIT_READ", "CAP_PERFMON", "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
)  # fmt: skip
MASKED_PATHS = (
    "/proc/asound", "/proc/acpi", "/proc/interrupts", "/proc/kcore", "/proc/keys",
    "/proc/latency_stats", "/proc/timer_list", "/proc/timer_stats", "/proc/sched_debug",
    "/proc/scsi", "/sys/firmware", "/sys/devices/virtual/powercap",
)  # fmt: skip
READONLY_PATHS = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")
_PROPAGATION = {
    "private": "rprivate",
    "host_to_container": "rslave",
    "bidirectional": "rshared",
}


@dataclass(frozen=True, slots=True)
class Machine:
    """What this machine and these privileges allow."""

    cgroups: str = "v1"
    """v1, v2 or disabled."""
    capabilities: int = -1
    """The shim's bounding set; containers can't have more."""
    oom_score_adj_floor: int = -1000
    rootless: bool = False
    devices: tuple[dict[str, Any], ...] = ()
    """All devices, for privileged containers."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where the container runs: paths that the shim made."""

    rootfs: str
    cgroup_path: str
    hostname: str
    namespaces: dict[str, str] = field(default_factory=dict)
    """OCI namespace type -> path to join; empty path: a new one. Absent: the shim's own."""
    shm: str = ""
    """The pod's shared /dev/shm; empty: the host's."""
    hostname_file: str = ""
    user_first: int = 0
    """Who is root in the container's user namespace; 0: it has none of its own."""


def build_spec(
    config: dict[str, Any], image: dict[str, Any], place: Place, user: User, machine: Machine
) -> dict[str, Any]:
    """``config`` is a ContainerConfig as dict, ``image`` the ``config`` part of an image config."""
    security = config["security"]
    capabilities = container_capabilities(security, machine)
    linux: dict[str, Any] = {
        "namespaces": [_namespace(*item) for item in place.namespaces.items()],
        "resources": linux_resources(config["resources"], security["privileged"], machine),
        "cgroupsPath": place.cgroup_path,
    }
    if place.user_first:
        linux |= mappings(place.user_first)
    if not security["privileged"]:
        if not security["proc_mount_unmasked"]:
            linux["maskedPaths"] = list(MASKED_PATHS)
            linux["readonlyPaths"] = list(READONLY_PATHS)
        if not security["seccomp_unconfined"]:
            linux["seccomp"] = default_profile(capabilities)
    elif machine.devices:
        linux["devices"] = list(machine.devices)
    _add_devices(linux, config.get("devices") or ())
    mounts = container_mounts(config, place, machine)
    if any(m["options"][-1] in ("rshared",) for m in mounts if m["type"] == "bind"):
        linux["rootfsPropagation"] = "rshared"
    elif any("rslave" in m["options"] for m in mounts):
        linux["rootfsPropagation"] = "rslave"
    spec = {
        "ociVersion": "1.0.2",
        "process": _process(config, image, place, user, capabilities, machine),
        "root": {"path": place.rootfs, "readonly": security["readonly_rootfs"]},
        "mounts": mounts,
        "linux": linux,
    }
    if config.get("hooks"):
        spec["hooks"] = config["hooks"]
    return spec


def _add_devices(linux: dict[str, Any], devices: Sequence[dict[str, Any]]) -> None:
    """Nodes in the container's /dev, and leave to use them."""
    known = {device["path"] for device in linux.get("devices") or ()}
    for device in devices:
        node = {key: value for key, value in device.items() if key != "access"}
        if device["path"] not in known:
            linux.setdefault("devices", []).append(node)
        rules = linux["resources"].get("devices")
        if rules is not None:
            numbers = {key: device[key] for key in ("type", "major", "minor")}
            rules.append({"allow": True, **numbers, "access": device["access"]})


def _namespace(kind: str, path: str) -> dict[str, str]:
    return {"type": kind, "path": path} if path else {"type": kind}


def _process(
    config: dict[str, Any],
    image: dict[str, Any],
    place: Place,
    user: User,
    capabilities: list[str],
    machine: Machine,
) -> dict[str, Any]:
    security = config["security"]
    process: dict[str, Any] = {
        "terminal": config["tty"],
        "user": {"uid": user.uid, "gid": user.gid},
        "args": command_line(config, image),
        "env": environment(config, image, place.hostname, user.home),
        "cwd": config["working_dir"] or image.get("WorkingDir") or "/",
        "noNewPrivileges": security["no_new_privileges"],
        # Without inheritable ones: a file capability must not give back what a user lost.
        "capabilities": {k: capabilities for k in ("bounding", "effective", "permitted")},
    }
    if not machine.rootless:
        process["user"]["additionalGids"] = user.groups
        adjustment = config["resources"]["oom_score_adj"]
        process["oomScoreAdj"] = max(adjustment, machine.oom_score_adj_floor)
    return process


def command_line(config: dict[str, Any], image: dict[str, Any]) -> list[str]:
    """Kubernetes' rule: ``command`` replaces the entrypoint and drops the image's CMD."""
    if config["command"]:
        return [*config["command"], *(config["args"] or ())]
    entrypoint = list(image.get("Entrypoint") or ())
    arguments = config["args"] if config["args"] else image.get("Cmd") or ()
    return [*entrypoint, *arguments]


def environment(
    config: dict[str, Any], image: dict[str, Any], hostname: str, home: str
) -> list[str]:
    merged = {"PATH": DEFAULT_PATH, "HOSTNAME": hostname}
    if config["tty"]:
        merged["TERM"] = "xterm"
    for item in image.get("Env") or ():
        key, _, value = item.partition("=")
        merged[key] = value
    merged.update({key: value for key, value in config["envs"]})
    merged.setdefault("HOME", home)  # last, as by other runtimes
    return [f"{key}={value}" for key, value in merged.items()]


def container_capabilities(security: dict[str, Any], machine: Machine) -> list[str]:
    """``drop: ALL`` first, then adds, then single drops; never more than the shim has."""
    if security["privileged"]:
        chosen = list(ALL_CAPABILITIES)
    else:
        drops = {_capability(name) for name in security["drop_capabilities"]}
        adds = {_capability(name) for name in security["add_capabilities"]}
        base = set() if "CAP_ALL" in drops else set(DEFAULT_CAPABILITIES)
        base |= set(ALL_CAPABILITIES) if "CAP_ALL" in adds else adds
        base -= drops
        chosen = [name for name in ALL_CAPABILITIES if name in base]
    numbers = {name: number for number, name in enumerate(ALL_CAPABILITIES)}
    return [name for name in chosen if machine.capabilities >> numbers[name] & 1]


def _capability(name: str) -> str:
    name = name.upper()
    return name if name.startswith("CAP_") else f"CAP_{name}"


def linux_resources(
    resources: dict[str, Any], privileged: bool, machine: Machine
) -> dict[str, Any]:
    """``linux.resources``; empty without cgroups."""
    if machine.cgroups == "disabled":
        return {}
    result: dict[str, Any] = {"devices": [{"allow": privileged, "access": "rwm"}]}
    cpu: dict[str, Any] = {}
    if resources["cpu_shares"]:
        cpu["shares"] = resources["cpu_shares"]
    if resources["cpu_quota"]:
        cpu["quota"] = resources["cpu_quota"]
        cpu["period"] = resources["cpu_period"]
    if cpu:
        result["cpu"] = cpu
    if resources["memory_limit"]:
        result["memory"] = {"limit": resources["memory_limit"]}
    if resources["pids_limit"]:
        result["pids"] = {"limit": resources["pids_limit"]}
    if machine.cgroups == "v2":
        result["unified"] = {"memory.oom.group": "1"}
    return result


def container_mounts(
    config: dict[str, Any], place: Place, machine: Machine
) -> list[dict[str, Any]]:
    """The standard ones, then the pod's; what the pod mounts itself replaces a standard one."""
    own = {mount["container_path"].rstrip("/") or "/" for mount in config["mounts"]}
    mounts = [m for m in _standard(config, place, machine) if m["destination"] not in own]
    # Parents before children.
    ordered = sorted(config["mounts"], key=lambda m: m["container_path"].rstrip("/").count("/"))
    for mount in ordered:
        mode = "ro" if mount["readonly"] else "rw"
        options = ["rbind", mode, _PROPAGATION[mount["propagation"]]]
        mounts.append(_bind(mount["host_path"], mount["container_path"], options))
    return mounts


def _bind(source: str, destination: str, options: list[str]) -> dict[str, Any]:
    return {"destination": destination, "type": "bind", "source": source, "options": options}


def _standard(config: dict[str, Any], place: Place, machine: Machine) -> list[dict[str, Any]]:
    privileged = config["security"]["privileged"]
    secure = ["nosuid", "noexec", "nodev"]
    sys_mode = "rw" if privileged else "ro"
    devpts = ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"]
    if not machine.rootless:
        devpts.append("gid=5")

    def special(kind: str, destination: str, options: list[str]) -> dict[str, Any]:
        return {"destination": destination, "type": kind, "source": kind, "options": options}

    mounts = [
        special("proc", "/proc", secure),
        special("tmpfs", "/dev", ["nosuid", "strictatime", "mode=755", "size=65536k"]),
        special("devpts", "/dev/pts", devpts),
        special("mqueue", "/dev/mqueue", secure),
        special("sysfs", "/sys", [*secure, sys_mode]),
    ]
    if "network" not in place.namespaces and machine.rootless:
        # sysfs belongs to the owner of the network namespace: bind the one that is there.
        mounts[-1] = _bind("/sys", "/sys", ["rbind", *secure, "ro"])
    elif machine.cgroups != "disabled":
        mounts.append(special("cgroup", "/sys/fs/cgroup", [*secure, "relatime", sys_mode]))
    mounts.append(_bind(place.shm or "/dev/shm", "/dev/shm", ["rbind", "rw", "rprivate"]))
    if place.hostname_file:
        mode = "ro" if config["security"]["readonly_rootfs"] else "rw"
        options = ["rbind", mode, "rprivate"]
        mounts.append(_bind(place.hostname_file, "/etc/hostname", options))
    return mounts
