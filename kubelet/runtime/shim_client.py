"""The kubelet's end of the shim's socket: starts the shim, connects, calls, hears events.

A lost connection fails the calls under way with RuntimeUnavailable and ends the event listeners;
the next call connects again, starting a new shim when the old one is gone.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import socket
import subprocess
import sys
from dataclasses import dataclass
from typing import Any

import pilothouse
from pilothouse.kubelet.runtime import errors
from pilothouse.kubelet.runtime.event_queue import EventFanout
from pilothouse.kubelet.runtime.interfaces import RuntimeEvent
from pilothouse.kubelet.runtime.shim.protocol import (
    FrameReader,
    ProtocolError,
    encode,
    short_path,
)

START_TIMEOUT = 10.0
CONNECT_ATTEMPTS = 3


@dataclass(slots=True)
class ShimConfig:
    """How a node's shim is started. ``pod_cidr`` may come later (``set_pod_cidr``)."""

    state_dir: str
    netns: str = ""
    pod_cidr: str = ""
    node_ip: str = ""
    cgroup_root: str = "/kubepods"
    cgroups: str = "auto"

    @property
    def socket(self) -> str:
        return os.path.join(self.state_dir, "shim.sock")


def start_shim(config: ShimConfig) -> None:
    """Blocking; returns when the shim listens.

    :raises RuntimeUnavailable: with the shim's own reason.
    """
    source = os.path.dirname(os.path.dirname(os.path.abspath(str(pilothouse.__file__))))
    flags = {
        "--socket": config.socket,
        "--state-dir": config.state_dir,
        "--netns": config.netns,
        "--pod-cidr": config.pod_cidr,
        "--node-ip": config.node_ip,
        "--cgroup-root": config.cgroup_root,
        "--cgroups": config.cgroups,
    }
    arguments = [f"{name}={value}" for name, value in flags.items() if value]
    # Without site: no packages but the standard library, a third of the start.
    command = [sys.executable, "-S", "-s", "-m", "pilothouse.kubelet.runtime.shim", *arguments]
    environment = {
        "PATH": os.environ.get("PATH", "/usr/sbin:/usr/bin:/sbin:/bin"),
        "PYTHONPATH": source,
        "MALLOC_ARENA_MAX": "1",
    }
    process = subprocess.Popen(
        command,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd="/",
        start_new_session=True,
    )
    try:
        output, problems = process.communicate(timeout=START_TIMEOUT)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        raise errors.RuntimeUnavailable("the runtime shim did not start in time") from None
    if b"ready" not in output:
        reason = problems.decode(errors="replace").strip() or "it said nothing"
        raise errors.RuntimeUnavailable(f"the runtime shim did not start: {reason}")


class ShimClient:
    """One per node in the kubelet's process; one event loop."""

    def __init__(self, config: ShimConfig) -> None:
        self.config = config
        self._socket: socket.socket | None = None
        self._reader = FrameReader()
        self._calls: dict[int, asyncio.Future[tuple[Any, list[int]]]] = {}
        self._numbers = itertools.count(1)
        self._connecting = asyncio.Lock()
        self._sending = asyncio.Lock()
        self.events = EventFanout()

    async def connect(self) -> None:
        """Finds the shim or starts it. :raises RuntimeUnavailable: with the reason."""
        async with self._connecting:
            for _ in range(CONNECT_ATTEMPTS):
                if self._socket is not None or await self._connect_once():
                    return
        raise errors.RuntimeUnavailable("the runtime shim does not answer")

    async def _connect_once(self) -> bool:
        """False when a shim that was just ending had still taken the connection."""
        connection = self._try_connect()
        if connection is None:
            await asyncio.to_thread(start_shim, self.config)
            connection = self._try_connect()
        if connection is None:
            raise errors.RuntimeUnavailable("the runtime shim does not answer")
        self._socket = connection
        self._reader = FrameReader()
        asyncio.get_running_loop().add_reader(connection.fileno(), self._readable)
        try:
            await (await self.send("info"))
        except errors.RuntimeUnavailable:
            return False
        return True

    def _try_connect(self) -> socket.socket | None:
        connection = socket.socket(socket.AF_UNIX)
        try:
            with short_path(self.config.socket) as path:
                connection.connect(path)
        except (FileNotFoundError, ConnectionRefusedError):
            connection.close()
            return None
        connection.setblocking(False)
        return connection

    async def call(self, operation: str, **args: Any) -> Any:
        """The answer without descriptors."""
        return (await self.call_fds(operation, **args))[0]

    async def call_fds(self, operation: str, **args: Any) -> tuple[Any, list[int]]:
        """The answer and its descriptors, which the caller owns then."""
        return await (await self.send(operation, **args))

    async def send(self, operation: str, **args: Any) -> asyncio.Future[tuple[Any, list[int]]]:
        """Sends a request; the future has its answer."""
        if self._socket is None:
            await self.connect()
        loop = asyncio.get_running_loop()
        number = next(self._numbers)
        future: asyncio.Future[tuple[Any, list[int]]] = loop.create_future()
        self._calls[number] = future
        frame = encode({"id": number, "op": operation, "args": args})
        try:
            async with self._sending:
                if self._socket is None:
                    raise ConnectionError("connection lost")
                await loop.sock_sendall(self._socket, frame)
        except OSError as error:
            self._calls.pop(number, None)
            self._lost()
            raise errors.RuntimeUnavailable(f"the runtime shim is gone: {error}") from error
        except BaseException:
            self._calls.pop(number, None)
            raise
        return future

    def _readable(self) -> None:
        if self._socket is None:
            return
        try:
            alive = self._reader.receive(self._socket)
            for message, fds in self._reader.messages():
                self._handle(message, fds)
        except BlockingIOError:
            return
        except (OSError, ProtocolError, ValueError):
            alive = False
        if not alive:
            self._lost()

    def _handle(self, message: dict[str, Any], fds: list[int]) -> None:
        if "event" in message:
            self.events.emit(RuntimeEvent(**message["event"]))
            return
        future = self._calls.pop(message["id"], None)
        if future is None or future.done():  # nobody waits any more
            for fd in fds:
                os.close(fd)
        elif "error" in message:
            future.set_exception(to_failure(message["error"]))
        else:
            future.set_result((message["ok"], fds))

    def _lost(self) -> None:
        if self._socket is not None:
            asyncio.get_running_loop().remove_reader(self._socket.fileno())
            self._socket.close()
            self._socket = None
        self._reader.close()
        calls, self._calls = self._calls, {}
        for future in calls.values():
            if not future.done():
                future.set_exception(errors.RuntimeUnavailable("the runtime shim is gone"))
                future.exception()  # not everybody looks
        self.events.close()

    def close(self) -> None:
        """Leaves the shim running."""
        self._lost()


def to_failure(error: dict[str, str]) -> Exception:
    """A shim's error as one of runtime/errors.py."""
    kind, message = error["type"], error["message"]
    if kind == "StartError":
        return errors.StartError(message, error.get("reason") or "StartError")
    if kind == "ConnectionRefused":
        return ConnectionRefusedError(message)
    known = {"NotFound": errors.NotFound, "Unsupported": errors.Unsupported}
    return known.get(kind, errors.RuntimeFailure)(message)
