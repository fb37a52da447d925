"""What a node never runs, whatever room it has: sysctls that aren't safe, other systems' pods.

``admission.py`` asks before it counts resources. The list of safe sysctls is upstream's
(pkg/kubelet/sysctl/safe_sysctls.go): namespaced, and without effect on any other pod.
"""

from __future__ import annotations

from collections.abc import Sequence

from pilothouse.apimachinery.object import Obj
from pilothouse.apis.core.declared_features import DECLARED, needed_for_scheduling

OS_LABEL = "kubernetes.io/os"
OS = "linux"
_IPC, _NET = "IPC", "Net"
SAFE_SYSCTLS = {
    "kernel.shm_rmid_forced": _IPC,
    "net.ipv4.ip_local_port_range": _NET,
    "net.ipv4.tcp_syncookies": _NET,
    "net.ipv4.ping_group_range": _NET,
    "net.ipv4.ip_unprivileged_port_start": _NET,
    "net.ipv4.ip_local_reserved_ports": _NET,
    "net.ipv4.tcp_keepalive_time": _NET,
    "net.ipv4.tcp_fin_timeout": _NET,
    "net.ipv4.tcp_keepalive_intvl": _NET,
    "net.ipv4.tcp_keepalive_probes": _NET,
    "net.ipv4.tcp_rmem": _NET,
    "net.ipv4.tcp_wmem": _NET,
    "net.ipv4.tcp_slow_start_after_idle": _NET,
    "net.ipv4.tcp_notsent_lowat": _NET,
}


def unsuitable(pod: Obj, unsafe_sysctls: Sequence[str] = ()) -> tuple[str, str] | None:
    """(reason, message) of a pod that this node may not run; ``unsafe_sysctls``: names and
    prefixes with ``*`` that it may have beside the safe ones."""
    spec = pod["spec"]
    for sysctl in (spec.get("securityContext") or {}).get("sysctls") or ():
        problem = _sysctl_problem(spec, normalized(sysctl["name"]), unsafe_sysctls)
        if problem:
            return "SysctlForbidden", f"forbidden sysctl: {problem}"
    if (pod["metadata"].get("labels") or {}).get(OS_LABEL, OS) != OS:
        return (
            "PodOSSelectorNodeLabelDoesNotMatch",
            f"Failed to admit pod as the `{OS_LABEL}` label doesn't match node label",
        )
    if (spec.get("os") or {}).get("name", OS) != OS:
        return "PodOSNotSupported", "Failed to admit pod as the OS field doesn't match node OS"
    lacking = needed_for_scheduling(spec).difference(DECLARED)
    if lacking:
        features = ", ".join(sorted(lacking))
        return (
            "PodFeatureUnsupported",
            f"Pod requires node features that are not available: {features}",
        )  # fmt: skip
    return None


def _sysctl_problem(spec: Obj, name: str, unsafe: Sequence[str]) -> str:
    namespace = SAFE_SYSCTLS.get(name)
    if namespace is None:
        if not any(_matches(name, normalized(pattern)) for pattern in unsafe):
            return f'"{name}" not allowlisted'
        namespace = namespace_of(name)
    if spec.get("hostIPC" if namespace == _IPC else "hostNetwork"):
        return f'"{name}" not allowed with host {namespace} enabled'
    return ""


def _matches(name: str, pattern: str) -> bool:
    return name.startswith(pattern[:-1]) if pattern.endswith("*") else name == pattern


def namespace_of(name: str) -> str:
    """``IPC``, ``Net`` or '' for a sysctl (or prefix) that isn't known to belong to one."""
    if name == "kernel.sem" or name.startswith(("kernel.shm", "kernel.msg", "fs.mqueue.")):
        return _IPC
    return _NET if name.startswith("net.") else ""


def normalized(sysctl: str) -> str:
    """With dots between its parts: ``net/ipv4/conf/a.b/x`` is ``net.ipv4.conf.a/b.x``."""
    first = next((c for c in sysctl if c in "./"), ".")
    return sysctl if first == "." else sysctl.translate(str.maketrans("./", "/."))
