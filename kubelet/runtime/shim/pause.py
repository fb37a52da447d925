"""PID 1 of a pod that shares its process namespace: a container of 225 bytes under crun."""

from __future__ import annotations

import json
import os
import select
import shutil
import signal
from typing import TYPE_CHECKING, Any

from pilothouse.kubelet.images.pause_binary import pause_binary
from pilothouse.kubelet.runtime.shim.crun import CrunError
from pilothouse.kubelet.runtime.shim.node import ShimError
from pilothouse.kubelet.runtime.shim.spec import Place, build_spec
from pilothouse.kubelet.runtime.shim.users import User

if TYPE_CHECKING:
    from pilothouse.kubelet.runtime.shim.node import Node


class PauseProcess:
    def __init__(
        self, node: Node, sandbox_id: str, cgroup: str, pid: int = 0, *, place: str = "",
        user_first: int = 0,
    ) -> None:  # fmt: skip
        """``user_first``: root of the user namespace that it makes; ``place``: where that root
        finds its files."""
        self._node = node
        self._place = place
        self._user_first = user_first
        self._directory = node.directory("pause", sandbox_id)
        self._name = f"{sandbox_id[:32]}-pause"
        self._cgroup = f"{cgroup}/pause"
        self.pid = pid

    def start(self, namespaces: dict[str, str], hostname: str = "") -> None:
        """``hostname`` for a UTS namespace that it makes."""
        rootfs = f"{self._place or self._directory}/rootfs"
        os.makedirs(self._directory, exist_ok=True)
        os.makedirs(rootfs, exist_ok=True)
        command = _install(rootfs)
        if self._user_first:
            os.chown(rootfs, self._user_first, self._user_first)
        place = Place(rootfs, self._cgroup, "pause", namespaces, user_first=self._user_first)
        spec = build_spec(
            {**_CONFIG, "command": command},
            {},
            place,
            User(65535, 65535, [65535]),
            self._node.machine,
        )
        if hostname:
            spec["hostname"] = hostname
        if self._node.machine.rootless:
            spec["process"]["user"] = {"uid": 0, "gid": 0}
        with open(f"{self._directory}/config.json", "w", encoding="utf-8") as config:
            json.dump(spec, config)
        try:
            crun = self._node.crun
            self.pid = crun.run(self._directory, self._name, (-1, -1, -1), tty=False)
        except CrunError as error:
            raise ShimError("RuntimeFailure", f"failed to start pause: {error}") from error

    def stop(self) -> None:
        """Ends every process of the pod's PID namespace."""
        if self.pid:
            self._kill()
        self._node.crun.delete(self._directory, self._name)
        self._node.cgroups.remove(self._cgroup)
        shutil.rmtree(self._directory, ignore_errors=True)

    def _kill(self) -> None:
        try:
            fd = os.pidfd_open(self.pid)
        except ProcessLookupError:
            return
        signal.pidfd_send_signal(fd, signal.SIGKILL)
        select.select([fd], [], [], 2)
        os.close(fd)


def _install(rootfs: str) -> list[str]:
    """The pause program in ``rootfs``; its command line."""
    if os.uname().machine == "x86_64":
        with open(f"{rootfs}/pause", "wb") as file:
            file.write(pause_binary())
        os.chmod(f"{rootfs}/pause", 0o755)
        return ["/pause"]
    shutil.copy("/bin/busybox", f"{rootfs}/pause")
    return ["/pause", "sh", "-c", "while :; do sleep 86400 & wait; done"]


_CONFIG: dict[str, Any] = {
    "args": None,
    "working_dir": "",
    "envs": [],
    "mounts": [],
    "tty": False,
    "resources": {
        "cpu_shares": 2,
        "cpu_quota": 0,
        "cpu_period": 0,
        "memory_limit": 0,
        "pids_limit": 0,
        "oom_score_adj": -998,
    },
    "security": {
        "privileged": False,
        "readonly_rootfs": True,
        "no_new_privileges": True,
        "add_capabilities": [],
        "drop_capabilities": ["ALL"],
        "seccomp_unconfined": True,
        "proc_mount_unmasked": False,
    },
}
