"""Which container runtime this machine allows, and what is lost with it: ``--runtime auto``.

``probe()`` looks (a few milliseconds, nothing is left behind); ``choose`` picks. Starting the
runtime is the last proof: it can still say no, with its reason.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass

from pilothouse.kubelet.network.pod_network import BRIDGE_NETFILTER

ROOTLESS_BOX = (
    "unshare", "--user", "--map-root-user", "--uts", "--mount", "--net", "--pid", "--fork",
    "--kill-child", "--mount-proc",
)  # fmt: skip
"""Put before a command line, it runs that as root of namespaces of its own, without privileges on
the machine; a tmpfs must be mounted on /run there (:data:`ROOTLESS_SETUP`)."""
ROOTLESS_SETUP = 'mount -t tmpfs none /run && ip link set lo up && "$@"; exit $?'

COST_OCI = "nothing"
COST_ROOTLESS = (
    "without root: no CPU and memory limits, containers run as user 0 of a user namespace, and "
    "pods, nodes and Services are reached only from inside the cluster's namespaces"
)
COST_PROOT = "plain processes under proot: no pod addresses, isolation, limits or users; slow"
COST_PROCESS = (
    "plain processes with this machine's files: no images, volumes, pod addresses, isolation, "
    "limits or users"
)
COST_FAKE = "no container really runs"


@dataclass(frozen=True, slots=True)
class Probe:
    """``reason`` says why not, and what to do; ``cost`` what is lost when it is used."""

    name: str
    ok: bool
    reason: str
    cost: str


def probe() -> list[Probe]:
    """Best first: oci, rootless (oci inside :data:`ROOTLESS_BOX`), process, fake."""
    proot = shutil.which("proot") is not None
    return [
        _result("oci", _why_no_oci(), COST_OCI),
        _result("rootless", _why_no_rootless(), COST_ROOTLESS),
        Probe("process", True, "", COST_PROOT if proot else COST_PROCESS),
        Probe("fake", True, "", COST_FAKE),
    ]


def choose(probes: list[Probe], *, rootless: bool = False) -> Probe:
    """The best that works; ``rootless`` says that the caller can move into the box."""
    return next(p for p in probes if p.ok and (rootless or p.name != "rootless"))


def explain(chosen: Probe, probes: list[Probe]) -> str:
    """One line for the user; empty when nothing is lost."""
    if chosen.name == "oci":
        return ""
    better = [f"{p.name}: {p.reason}" for p in probes[: probes.index(chosen)] if p.reason]
    reasons = f" ({'; '.join(better)})" if better else ""
    return f"runtime {chosen.name}: {chosen.cost}{reasons}"


def _result(name: str, reason: str, cost: str) -> Probe:
    return Probe(name, not reason, reason, cost)


def _why_no_oci() -> str:
    if os.geteuid() != 0:
        return "it needs root for namespaces and cgroups: run as root"
    if shutil.which("crun") is None:
        return "crun is missing: install the package crun"
    if not _runs(["unshare", "--mount", "--net", "--uts", "--ipc", "true"]):
        return "this root may not make namespaces: give the container CAP_SYS_ADMIN (--privileged)"
    if not _has_overlay():
        return "the kernel has no overlayfs: load the module overlay"
    if not os.path.exists(BRIDGE_NETFILTER) and shutil.which("modprobe") is None:
        return "the kernel module br_netfilter is not there: modprobe br_netfilter"
    return ""


def _why_no_rootless() -> str:
    if shutil.which("crun") is None:
        return "crun is missing: install the package crun"
    if not _runs([*ROOTLESS_BOX, "true"]):
        return (
            "user namespaces are not allowed here: sysctl user.max_user_namespaces and, on Ubuntu, "
            "kernel.apparmor_restrict_unprivileged_userns=0"
        )
    if not _has_overlay():
        return "the kernel has no overlayfs: load the module overlay"
    if not os.path.exists(BRIDGE_NETFILTER):
        return "the kernel module br_netfilter is not loaded: modprobe br_netfilter as root"
    return ""


def _has_overlay() -> bool:
    try:
        with open("/proc/filesystems", encoding="ascii") as file:
            if any(line.split()[-1] == "overlay" for line in file):
                return True
    except OSError:
        return False
    modprobe = shutil.which("modprobe")
    return modprobe is not None and os.geteuid() == 0 and _runs([modprobe, "overlay"])


def _runs(command: list[str]) -> bool:
    if shutil.which(command[0]) is None:
        return False
    result = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, timeout=10, check=False
    )
    return result.returncode == 0
