"""cgroups of containers, version 1 and 2: what they use, whether they ran out, their removal.

Creation and limits are crun's. This machine's version 1 may come with a version 2 tree beside it
that has controllers; crun then refuses to work, so the shim hides that tree in its own mount
namespace (``hide_unified``) and removes what crun leaves in the cover.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import time
from typing import Any

from pilothouse.kubelet.network.namespaces import mount

ROOT = "/sys/fs/cgroup"
UNIFIED = f"{ROOT}/unified"


def detect() -> str:
    """``v1``, ``v2`` or ``disabled`` (not there or not writable)."""
    if os.path.exists(f"{ROOT}/cgroup.controllers"):
        with open(f"{ROOT}/cgroup.controllers", encoding="ascii") as file:
            usable = "memory" in file.read().split()
        return "v2" if usable and _writable(ROOT) else "disabled"
    memory = f"{ROOT}/memory"
    return "v1" if os.path.exists(f"{memory}/cgroup.procs") and _writable(memory) else "disabled"


def _writable(directory: str) -> bool:
    probe = os.path.join(directory, f"pilothouse-probe-{os.getpid()}")
    try:
        os.mkdir(probe)
        os.rmdir(probe)
    except OSError:
        return False
    return True


def prepare(version: str) -> str:
    """What crun needs, in this process's private mount namespace; the version to use."""
    if version == "v2" and not _delegate():
        version = "disabled"
    if version == "v1" and os.path.exists(f"{UNIFIED}/cgroup.controllers"):
        with open(f"{UNIFIED}/cgroup.controllers", encoding="ascii") as file:
            if file.read().strip():
                mount("none", UNIFIED, "tmpfs", 0, "size=64m,mode=755")
    elif version == "disabled" and os.path.isdir(ROOT):
        # crun wants a plain file system there when it is told not to use cgroups.
        mount("none", ROOT, "tmpfs", 0, "size=1m,mode=755")
    return version


def _delegate(root: str = ROOT) -> bool:
    """Version 2: controllers for children of the top cgroup.

    Inside a container the top one isn't the machine's: it may not have both processes and
    controllers, so its processes move down, as Docker-in-Docker does it.
    """
    if _enable(root):
        return True
    below = f"{root}/init"
    try:
        os.makedirs(below, exist_ok=True)
        with open(f"{root}/cgroup.procs", encoding="ascii") as file:
            pids = file.read().split()
        for pid in pids:
            with contextlib.suppress(OSError), open(f"{below}/cgroup.procs", "w") as target:
                target.write(pid)
    except OSError:
        return False
    return _enable(root)


def _enable(root: str) -> bool:
    try:
        with open(f"{root}/cgroup.subtree_control", "w", encoding="ascii") as file:
            file.write("+cpu +memory +pids")
    except OSError:
        return False
    return True


class Cgroups:
    def __init__(self, version: str) -> None:
        self.version = version
        self._roots = [ROOT]
        if version == "v1":
            names = sorted(os.listdir(ROOT))
            self._roots = [f"{ROOT}/{n}" for n in names if not os.path.islink(f"{ROOT}/{n}")]
        elif version == "disabled":
            self._roots = []

    def _file(self, controller: str, path: str, name: str) -> str:
        base = f"{ROOT}/{controller}" if self.version == "v1" else ROOT
        return f"{base}{path}/{name}"

    def usage(self, path: str) -> tuple[int, int, int, int]:
        """(CPU nanoseconds, memory bytes, working set bytes, anonymous memory bytes); zeros
        without cgroups."""
        if self.version == "v1":
            cpu = _number(self._file("cpuacct", path, "cpuacct.usage"))
            memory = _number(self._file("memory", path, "memory.usage_in_bytes"))
            stat, prefix = self._file("memory", path, "memory.stat"), "total_"
            anonymous = _field(stat, "total_rss")
        elif self.version == "v2":
            cpu = _field(self._file("", path, "cpu.stat"), "usage_usec") * 1000
            memory = _number(self._file("", path, "memory.current"))
            stat, prefix = self._file("", path, "memory.stat"), ""
            anonymous = _field(stat, "anon")
        else:
            return 0, 0, 0, 0
        inactive = _field(stat, f"{prefix}inactive_file")
        return cpu, memory, max(0, memory - inactive), anonymous

    def limit(self, path: str, resources: dict[str, Any]) -> None:
        """Makes the cgroup if need be and limits it; ``resources`` as in ``linux_resources``.

        :raises OSError: the kernel refuses, as for less memory than is in use.
        """
        if self.version == "disabled":
            return
        if self.version == "v2":
            _delegate_down(path)
        quota, period = resources["cpu_quota"], resources["cpu_period"]
        memory, pids = resources["memory_limit"], resources["pids_limit"]
        shares = resources["cpu_shares"] or 1024
        if self.version == "v1":
            wanted = [
                ("cpu", "cpu.shares", str(shares)),
                ("cpu", "cpu.cfs_period_us", str(period)),
                ("cpu", "cpu.cfs_quota_us", str(quota or -1)),
                ("memory", "memory.limit_in_bytes", str(memory or -1)),
                ("pids", "pids.max", str(pids or "max")),
            ]
        else:
            weight = 1 + (max(shares, 2) - 2) * 9999 // 262142
            wanted = [
                ("cpu", "cpu.weight", str(weight)),
                ("cpu", "cpu.max", f"{quota or 'max'} {period}"),
                ("memory", "memory.max", str(memory or "max")),
                ("pids", "pids.max", str(pids or "max")),
            ]
        for controller, name, value in wanted:
            self._write(self._file(controller, path, name), value)

    def unlimit_cpu(self, path: str, period: int) -> None:
        """What ``crun update`` can't: it writes version 1's -1 as a number without a sign."""
        if self.version == "v1":
            self._write(self._file("cpu", path, "cpu.cfs_quota_us"), "-1")
        elif self.version == "v2":
            self._write(self._file("", path, "cpu.max"), f"max {period}")

    @staticmethod
    def _write(path: str, value: str) -> None:
        """Only what differs: limits that nobody set cost nothing."""
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "r+", encoding="ascii") as file:
            now = file.read().strip()
            if now == value or (value in ("-1", "max") and _unlimited(now)):
                return
            file.seek(0)
            file.write(value)

    def oom_kills(self, path: str) -> int:
        """How many processes of this cgroup the kernel has killed for memory."""
        if self.version == "v1":
            return _field(self._file("memory", path, "memory.oom_control"), "oom_kill")
        if self.version == "v2":
            return _field(self._file("", path, "memory.events"), "oom_kill")
        return 0

    def processes(self, path: str) -> list[int]:
        """Numbers as the shim sees them; not those of other PID namespaces, which are 0 here (and
        to signal 0 would be to signal ourselves)."""
        controller = "pids" if os.path.isdir(f"{ROOT}/pids") else "memory"
        try:
            with open(self._file(controller, path, "cgroup.procs"), encoding="ascii") as file:
                return [pid for line in file if (pid := int(line)) > 0]
        except OSError:
            return []

    def kill_all(self, path: str) -> None:
        """Also what a container without a PID namespace of its own left behind."""
        for pid in self.processes(path):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass

    def remove(self, path: str, attempts: int = 20) -> None:
        """Removes the cgroup and what is below; the kernel needs a moment after the last exit."""
        if not path.strip("/"):
            return
        for root in self._roots:
            top = root + path
            if root == UNIFIED and self.version == "v1":
                shutil.rmtree(top, ignore_errors=True)  # plain files in the cover
                continue
            for attempt in range(attempts):
                if _remove_tree(top):
                    break
                time.sleep(0.005 * (attempt + 1))


def _unlimited(text: str) -> bool:
    return text == "max" or (text.lstrip("-").isdigit() and not 0 <= int(text) < 1 << 62)


def _delegate_down(path: str) -> None:
    """Version 2: each cgroup above has the controllers for its children."""
    parent = ROOT
    for name in path.strip("/").split("/"):
        _enable(parent)
        parent = f"{parent}/{name}"
        os.makedirs(parent, exist_ok=True)
    _enable(parent)


def _remove_tree(top: str) -> bool:
    for directory, _, _ in os.walk(top, topdown=False):
        try:
            os.rmdir(directory)
        except FileNotFoundError:
            pass
        except OSError:
            return False
    return True


def _number(path: str) -> int:
    try:
        with open(path, encoding="ascii") as file:
            return int(file.read())
    except (OSError, ValueError):
        return 0


def _field(path: str, name: str) -> int:
    try:
        with open(path, encoding="ascii") as file:
            for line in file:
                key, _, value = line.partition(" ")
                if key == name:
                    return int(value)
    except (OSError, ValueError):
        pass
    return 0
