"""One operating-system process of the ``process`` runtime: spawn, streams, end.

Spawned by posix_spawn into a session of its own (a 300 MB parent would fork for 18 ms), watched
by pidfd. All of it in the event loop's thread.
"""

from __future__ import annotations

import asyncio
import errno
import functools
import os
import pty
import resource
import shutil
import signal
import subprocess
from typing import TYPE_CHECKING

from pilothouse.kubelet.runtime.errors import StartError
from pilothouse.kubelet.runtime.shim.node import start_ticks
from pilothouse.kubelet.runtime.shim.users import open_in_root

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

SHELL_CD = 'cd "$0" && exec "$@"'


class Child:
    """``code`` is None while it runs; ``on_exit`` callbacks come once."""

    def __init__(self, pid: int, terminal: int = -1) -> None:
        self.pid = pid
        self.ticks = start_ticks(pid)
        self.terminal = terminal
        self.code: int | None = None
        self.exited: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._pidfd = os.pidfd_open(pid)
        asyncio.get_running_loop().add_reader(self._pidfd, self._ended)

    def _ended(self) -> None:
        asyncio.get_running_loop().remove_reader(self._pidfd)
        os.close(self._pidfd)
        try:
            status = os.waitpid(self.pid, 0)[1]
            code = os.waitstatus_to_exitcode(status)
        except ChildProcessError:
            code = 255
        self.code = code if code >= 0 else 128 - code
        self.exited.set_result(self.code)

    def signal(self, number: int) -> None:
        """To its whole process group."""
        if self.code is not None and number != signal.SIGKILL:
            return
        try:
            os.killpg(self.pid, number)
        except (ProcessLookupError, PermissionError):
            pass


def spawn(
    command: Sequence[str],
    environment: Mapping[str, str],
    directory: str,
    stdio: tuple[int, int, int],
    *,
    tty: bool,
) -> Child:
    """``stdio``: descriptors for the child, -1 for /dev/null; ignored for a terminal.

    :raises StartError: no such program.
    """
    program = find_program(command[0], environment, directory)
    terminal = -1
    actions: list[tuple[int, ...] | tuple[int, int, str, int, int]] = []
    if tty:
        terminal, slave = pty.openpty()
        name = os.ttyname(slave)
        # Opened by the new session's leader: it becomes its controlling terminal.
        actions.append((os.POSIX_SPAWN_OPEN, 0, name, os.O_RDWR, 0))
        actions += [(os.POSIX_SPAWN_DUP2, 0, 1), (os.POSIX_SPAWN_DUP2, 0, 2)]
    else:
        for number, fd in enumerate(stdio):
            if fd < 0:
                actions.append((os.POSIX_SPAWN_OPEN, number, os.devnull, os.O_RDWR, 0))
            else:
                actions.append((os.POSIX_SPAWN_DUP2, fd, number))
    # posix_spawn can't change the directory; a shell can.
    wrapped = ["sh", "-c", SHELL_CD, directory, *program, *command[1:]]
    try:
        pid = os.posix_spawn(
            "/bin/sh",
            wrapped,
            dict(environment),
            file_actions=actions,
            setsid=True,
            setsigdef=[signal.SIGPIPE, signal.SIGINT, signal.SIGTERM, signal.SIGHUP],
        )
    except OSError as error:
        raise StartError(f"failed to start {command[0]}: {error.strerror}") from error
    finally:
        if tty:
            os.close(slave)
    try:
        resource.prlimit(pid, resource.RLIMIT_CORE, (0, 0))
    except (ProcessLookupError, PermissionError):
        pass
    return Child(pid, terminal)


def find_program(name: str, environment: Mapping[str, str], directory: str) -> list[str]:
    """The command's beginning. Commands of the built-in image that this machine has only as
    applets of its busybox are started by it.

    :raises StartError: in the words of OCI runtimes.
    """
    if "/" in name:
        path = os.path.join(directory, name)
        if os.access(path, os.X_OK) and not os.path.isdir(path):
            return [path]
        code = errno.EACCES if os.path.exists(path) else errno.ENOENT
        raise StartError(f'exec: "{name}": stat {name}: {os.strerror(code).lower()}')
    search = environment.get("PATH", os.defpath)
    if found := shutil.which(name, path=search):
        return [found]
    busybox = shutil.which("busybox", path=search)
    if busybox and name in applets(busybox):
        return [busybox, name]
    raise StartError(f'exec: "{name}": executable file not found in $PATH')


@functools.cache
def applets(busybox: str) -> frozenset[str]:
    listed = subprocess.run([busybox, "--list"], capture_output=True, text=True, check=False)
    return frozenset(listed.stdout.split())


def require_program_in(root: str, name: str, environment: Mapping[str, str]) -> None:
    """proot would only print that there is no such program in the image.

    :raises StartError: in the words of OCI runtimes.
    """
    search = [""] if "/" in name else environment.get("PATH", os.defpath).split(":")
    for directory in search:
        try:
            os.close(open_in_root(root, f"{directory}/{name}" if directory else name, os.O_PATH))
        except OSError:
            continue
        return
    reason = f"stat {name}: no such file or directory"
    if "/" not in name:
        reason = "executable file not found in $PATH"
    raise StartError(f'exec: "{name}": {reason}')


class OutputReader:
    """Calls back with what a descriptor gives; owns it. ``on_data(b"")`` at the end."""

    def __init__(self, fd: int, on_data: Callable[[bytes], None]) -> None:
        self._fd = fd
        self._on_data = on_data
        os.set_blocking(fd, False)
        asyncio.get_running_loop().add_reader(fd, self._ready)

    def _ready(self) -> None:
        self._read()

    def _read(self) -> bool:
        if self._fd < 0:
            return False
        try:
            data = os.read(self._fd, 1 << 16)
        except BlockingIOError:
            return False
        except OSError:
            data = b""  # EIO: the terminal's other side is closed
        if not data:
            self.close()
            return False
        self._on_data(data)
        return True

    def drain(self) -> None:
        """What is there now: before the end of the process is told."""
        while self._read():
            pass

    def close(self) -> None:
        if self._fd >= 0:
            asyncio.get_running_loop().remove_reader(self._fd)
            os.close(self._fd)
            self._fd = -1
            self._on_data(b"")


def session_usage(session: int) -> tuple[int, int]:
    """(CPU nanoseconds, resident bytes) of all processes of a session."""
    ticks = pages = 0
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        try:
            with open(f"/proc/{entry}/stat", encoding="utf-8", errors="replace") as file:
                fields = file.read().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[3]) == session:
            ticks += int(fields[11]) + int(fields[12])
            pages += int(fields[21])
    hertz = os.sysconf("SC_CLK_TCK")
    return ticks * 1_000_000_000 // hertz, pages * os.sysconf("SC_PAGE_SIZE")
