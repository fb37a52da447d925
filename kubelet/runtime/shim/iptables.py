"""Applies host-port rules with iptables-restore, in the node's network namespace."""

from __future__ import annotations

import os
import shutil
import threading
from typing import TYPE_CHECKING, Any

from pilothouse.kubelet.network import host_ports
from pilothouse.kubelet.runtime.shim.node import ShimError

if TYPE_CHECKING:
    from pilothouse.kubelet.runtime.shim.reaper import Reaper

SEARCH = "/usr/sbin:/sbin:/usr/bin:/bin:/usr/local/sbin"


class HostPorts:
    """Blocking; for worker threads. The base chains are made with the first host port."""

    def __init__(self, reaper: Reaper) -> None:
        self._reaper = reaper
        self._lock = threading.Lock()
        self._prepared = False

    def add(self, sandbox_id: str, ip: str, mappings: list[dict[str, Any]]) -> None:
        """:raises ShimError: no iptables, or it refused."""
        with self._lock:
            if not self._prepared and not self._has_base():
                self._apply(host_ports.BASE)
            self._prepared = True
            self._apply(host_ports.added(sandbox_id, ip, mappings))

    def remove(self, sandbox_id: str, ip: str, mappings: list[dict[str, Any]]) -> None:
        """Missing is fine."""
        with self._lock:
            try:
                self._apply(host_ports.removed(sandbox_id, ip, mappings))
            except ShimError:
                pass

    def _has_base(self) -> bool:
        """An earlier shim's chains must stay: pods that still run are in them."""
        program = _find("")
        return (
            self._spawn([program, "-w", "5", "-t", "nat", "-n", "-L", host_ports.PORTS_CHAIN]) == 0
        )

    def _apply(self, text: str) -> None:
        program = _find("-restore")
        if self._spawn([program, "-w", "5", "--noflush"], text) != 0:
            raise ShimError("RuntimeFailure", "failed to open host ports: iptables-restore refused")

    def _spawn(self, command: list[str], text: str = "") -> int:
        source = os.memfd_create("rules", os.MFD_CLOEXEC)
        try:
            os.write(source, text.encode())
            os.lseek(source, 0, os.SEEK_SET)
            quiet = [(os.POSIX_SPAWN_OPEN, n, "/dev/null", os.O_WRONLY, 0) for n in (1, 2)]
            actions = [(os.POSIX_SPAWN_DUP2, source, 0), *quiet]
            pid = os.posix_spawn(command[0], command, {"PATH": SEARCH}, file_actions=actions)
        finally:
            os.close(source)
        return self._reaper.wait(pid)


def _find(suffix: str) -> str:
    """The legacy tools where there are any, as the service proxy does."""
    for name in (f"iptables-legacy{suffix}", f"iptables{suffix}"):
        found = shutil.which(name, path=SEARCH)
        if found:
            return found
    raise ShimError("RuntimeFailure", "host ports need iptables: install the package iptables")
