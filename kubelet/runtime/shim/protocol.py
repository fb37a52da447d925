"""Frames between a kubelet and its shim: 4 bytes length, JSON, and file descriptors beside it.

Used by both ends; standard library only. A frame says in ``fds`` how many descriptors belong to
it; they arrive in order with its first byte.

Requests ``{"id", "op", "args"}``, answers ``{"id", "ok"}`` or ``{"id", "error": {type, message,
reason}}``, events ``{"event": {...}}``.
"""

from __future__ import annotations

import array
import contextlib
import json
import os
import socket
import struct
from collections import deque
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_FRAME = 64 << 20
MAX_FDS = 8
_CONTROL_SPACE = socket.CMSG_SPACE(MAX_FDS * 4)


class ProtocolError(Exception):
    """The other end does not speak this protocol."""


def encode(message: dict[str, Any], fds: tuple[int, ...] = ()) -> bytes:
    if fds:
        message = {**message, "fds": len(fds)}
    body = json.dumps(message, separators=(",", ":")).encode()
    return struct.pack(">I", len(body)) + body


class FrameReader:
    """Bytes and descriptors in, whole messages out. Owns descriptors until they are taken."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._fds: deque[int] = deque()

    def receive(self, connection: socket.socket) -> bool:
        """One recvmsg; false at the end of the stream. BlockingIOError passes through."""
        data, ancillary, _, _ = connection.recvmsg(1 << 16, _CONTROL_SPACE, socket.MSG_CMSG_CLOEXEC)
        for level, kind, payload in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                numbers = array.array("i")
                numbers.frombytes(payload[: len(payload) - len(payload) % numbers.itemsize])
                self._fds.extend(numbers)
        self._buffer += data
        return bool(data)

    def messages(self) -> list[tuple[dict[str, Any], list[int]]]:
        """The messages that are complete, each with its descriptors."""
        complete = []
        while len(self._buffer) >= 4:
            length = struct.unpack_from(">I", self._buffer)[0]
            if length > MAX_FRAME:
                raise ProtocolError(f"a frame of {length} bytes")
            if len(self._buffer) < 4 + length:
                break
            message = json.loads(bytes(self._buffer[4 : 4 + length]))
            del self._buffer[: 4 + length]
            count = min(int(message.pop("fds", 0)), len(self._fds))
            complete.append((message, [self._fds.popleft() for _ in range(count)]))
        return complete

    def close(self) -> None:
        """Closes descriptors that nobody took."""
        while self._fds:
            os.close(self._fds.popleft())


@contextlib.contextmanager
def short_path(path: str) -> Iterator[str]:
    """``path`` short enough for a unix socket: a long one is reached through its directory."""
    if len(os.fsencode(path)) < 100:
        yield path
        return
    directory, name = os.path.split(path)
    fd = os.open(directory or ".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{fd}/{name}"
    finally:
        os.close(fd)
