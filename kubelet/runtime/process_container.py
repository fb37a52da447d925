"""A container of the ``process`` runtime: its record, its output to log and attached clients."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pilothouse.kubelet.runtime.shim.logs import LogFile, format_lines, last_line, timestamp
from pilothouse.kubelet.runtime.streams import EndedReader

if TYPE_CHECKING:
    from pilothouse.apimachinery.clock import Clock
    from pilothouse.kubelet.runtime.interfaces import ContainerConfig, ContainerStatus
    from pilothouse.kubelet.runtime.process_child import Child, OutputReader


class Output:
    """One stream of one container: its log and whoever is attached."""

    def __init__(self, clock: Clock, stream: str, log: LogFile) -> None:
        self._clock = clock
        self._stream = stream.encode()
        self._log = log
        self._pending = b""
        self._ended = False
        self.readers: list[EndedReader] = []

    def feed(self, data: bytes) -> None:
        now = timestamp(int(self._clock.time() * 1e9))
        if data:
            text, self._pending = format_lines(self._stream, now, self._pending, data)
        else:
            text, self._pending = last_line(self._stream, now, self._pending), b""
        self._log.write(text)
        self._ended = self._ended or not data
        for reader in self.readers:
            if data:
                reader.feed_data(data)
            else:
                reader.feed_eof()

    def attach(self) -> EndedReader:
        reader = EndedReader()
        if self._ended:
            reader.feed_eof()
        else:
            self.readers.append(reader)
        return reader


class ProcessContainer:
    def __init__(self, config: ContainerConfig, status: ContainerStatus, directory: str) -> None:
        self.config = config
        self.status = status
        self.directory = directory
        self.image: dict[str, Any] = {}
        self.child: Child | None = None
        self.log: LogFile | None = None
        self.outputs: dict[str, Output] = {}
        self.readers: list[OutputReader] = []
        self.stdin = -1

    def proot_command(self, proot: str) -> list[str]:
        """What comes before a command line, so that it sees the image's filesystem."""
        command = [proot, "-0", "-r", f"{self.directory}/rootfs"]
        for path in ("/dev", "/proc", "/sys", "/etc/resolv.conf"):
            command += ["-b", path]
        for mount in (mount for mount in self.config.mounts if mount.host_path):
            command += ["-b", f"{mount.host_path}:{mount.container_path}"]
        return [*command, "-w", self.config.working_dir or self.image.get("WorkingDir") or "/"]
