"""exec, attach and port-forward: makes the descriptors that are handed to the kubelet.

The bytes of exec and port-forward never pass through here: the process gets one end of a pipe
(or a terminal), the kubelet the other. Attach is a copy of what the log pump reads.
"""

from __future__ import annotations

import itertools
import os
import select
import signal
import socket
from typing import TYPE_CHECKING, Any

from pilothouse.kubelet.network.namespaces import run_in_netns
from pilothouse.kubelet.runtime.shim import stdio
from pilothouse.kubelet.runtime.shim.crun import CrunError
from pilothouse.kubelet.runtime.shim.node import ShimError

if TYPE_CHECKING:
    from collections.abc import Callable

    from pilothouse.kubelet.runtime.shim.containers import Container, Containers
    from pilothouse.kubelet.runtime.shim.node import Node
    from pilothouse.kubelet.runtime.shim.sandboxes import Sandbox

CONNECT_TIMEOUT = 10.0


class Exec:
    """A process started in a container; ``code`` is None while it runs."""

    def __init__(self) -> None:
        self.pid = 0
        self.code: int | None = None
        self.waiting: list[Callable[[int], None]] = []


class Streams:
    def __init__(self, node: Node, containers: Containers) -> None:
        self._node = node
        self._containers = containers
        self._numbers = itertools.count(1)
        self.execs: dict[str, Exec] = {}

    # --- exec

    def exec(self, args: dict[str, Any]) -> tuple[dict[str, Any], tuple[int, ...]]:
        """In a worker. The descriptors are those of the asked streams in order: stdin, stdout,
        stderr; for a terminal one, its master.

        :raises ShimError: StartError when the command can't be run.
        """
        container = self._containers.running(args["container_id"])
        name = f"exec{next(self._numbers)}"
        process = container.process(args["command"], tty=args["tty"])
        try:
            if args["tty"]:
                pid, fds = self._exec_tty(container, name, process)
            else:
                pid, fds = self._exec_pipes(container, name, process, args)
        except CrunError as error:
            raise ShimError("StartError", str(error)) from error
        started = Exec()
        started.pid = pid
        identity = f"{container.id}/{name}"
        self.execs[identity] = started
        loop = self._node.loop
        self._node.reaper.watch(pid, lambda code: loop.soon(lambda: self._ended(started, code)))
        return {"exec_id": identity}, fds

    def _exec_tty(
        self, container: Container, name: str, process: dict[str, Any]
    ) -> tuple[int, tuple[int, ...]]:
        with stdio.console(f"{container.directory}/{name}.sock") as receive:
            pid = self._node.crun.exec(
                container.directory, name, container.id, process, (-1, -1, -1)
            )
            return pid, (receive(),)

    def _exec_pipes(
        self, container: Container, name: str, process: dict[str, Any], args: dict[str, Any]
    ) -> tuple[int, tuple[int, ...]]:
        inside, outside = [-1, -1, -1], []
        try:
            for number, stream in enumerate(("stdin", "stdout", "stderr")):
                if args[stream]:
                    reader, writer = os.pipe2(os.O_CLOEXEC)
                    ours, theirs = (writer, reader) if number == 0 else (reader, writer)
                    inside[number] = theirs
                    outside.append(ours)
            ends = (inside[0], inside[1], inside[2])
            pid = self._node.crun.exec(container.directory, name, container.id, process, ends)
        except BaseException:
            stdio.close_all(tuple(outside))
            raise
        finally:
            stdio.close_all(tuple(inside))
        return pid, tuple(outside)

    def _ended(self, process: Exec, code: int) -> None:
        process.code = code
        for callback in process.waiting:
            callback(code)
        process.waiting.clear()

    def exec_wait(self, exec_id: str, done: Callable[[int], None]) -> None:
        """In the main loop; the record goes with the answer."""
        process = self._exec(exec_id)

        def answer(code: int) -> None:
            self.execs.pop(exec_id, None)
            done(code)

        if process.code is not None:
            answer(process.code)
        else:
            process.waiting.append(answer)

    def exec_kill(self, exec_id: str) -> None:
        process = self.execs.get(exec_id)
        if process is not None and process.code is None:
            try:
                os.kill(process.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass

    def _exec(self, exec_id: str) -> Exec:
        try:
            return self.execs[exec_id]
        except KeyError:
            raise ShimError("NotFound", f"no such exec: {exec_id}") from None

    # --- attach (main loop)

    def attach(self, args: dict[str, Any]) -> tuple[dict[str, Any], tuple[int, ...]]:
        """Socket ends for the asked streams in order: stdin, stdout, stderr."""
        container = self._containers.running(args["container_id"])
        ends: list[int] = []
        if args["stdin"] and (container.stdin >= 0 or container.terminal >= 0):
            ours, theirs = socket.socketpair()
            ends.append(theirs.detach())
            target = container.terminal if container.terminal >= 0 else container.stdin
            stdio.StdinFeed(self._node.loop, ours, target, lambda: self._stdin_ended(container))
        has_stdin = len(ends) > 0
        for stream in ("stdout", "stderr"):
            if args[stream] and stream in container.pumps:
                ours, theirs = socket.socketpair()
                ends.append(theirs.detach())
                container.pumps[stream].attach(ours)
        return {"stdin": has_stdin, "terminal": container.terminal >= 0}, tuple(ends)

    def _stdin_ended(self, container: Container) -> None:
        if container.config["stdin_once"] and container.stdin >= 0:
            os.close(container.stdin)
            container.stdin = -1

    def resize(self, container_id: str, width: int, height: int) -> None:
        container = self._containers.running(container_id)
        if container.terminal >= 0:
            stdio.resize(container.terminal, width, height)

    # --- port-forward (worker)

    def port_forward(self, sandbox: Sandbox, port: int) -> tuple[int, ...]:
        """A connection made inside the pod's network namespace."""
        if sandbox.record["state"] != "ready":
            raise ShimError("NotFound", f"sandbox {sandbox.id} is not running")
        netns = sandbox.fds.get("net")
        try:
            if netns is None:
                return (_connect_local(port),)
            return (run_in_netns(netns, lambda: _connect_local(port)),)
        except OSError as error:
            message = f"failed to connect to localhost:{port} inside namespace: {error.strerror}"
            raise ShimError("ConnectionRefused", message) from error


def _connect_local(port: int) -> int:
    """127.0.0.1, then ::1, as ``localhost`` does."""
    try:
        return socket.create_connection(("127.0.0.1", port), CONNECT_TIMEOUT).detach()
    except OSError:
        try:
            return socket.create_connection(("::1", port), CONNECT_TIMEOUT).detach()
        except OSError:
            pass
        raise


def wait_gone(pid: int, timeout: float) -> bool:
    """True when process ``pid`` has ended within ``timeout``; child or not."""
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([fd], [], [], timeout)[0])
    finally:
        os.close(fd)
