"""Where a pushed body goes: the :class:`~.interfaces.Sink` of one answer of ``http_protocol``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pilothouse.componentbase.serving.interfaces import frame, unframe

if TYPE_CHECKING:
    from collections.abc import Callable

    from pilothouse.componentbase.serving.http_protocol import HTTPProtocol


class PushSink:
    """Chunks for HTTP/1.1, bare data for HTTP/1.0."""

    __slots__ = ("ended", "keep_alive", "protocol", "transport")

    def __init__(self, protocol: HTTPProtocol, keep_alive: bool) -> None:
        self.protocol = protocol
        self.transport = protocol.transport
        self.keep_alive = keep_alive
        self.ended = False

    @property
    def writable(self) -> bool:
        return not self.protocol._paused

    def write(self, data: bytes) -> None:
        self.write_framed(frame(data))

    def write_framed(self, framed: bytes) -> None:
        protocol = self.protocol
        if not protocol.closed and not self.ended:
            self.transport.write(unframe(framed) if protocol.old else framed)

    def on_writable(self, callback: Callable[[], None]) -> None:
        if self.protocol._paused:
            self.protocol._writable.append(callback)
        else:
            callback()

    def end(self) -> None:
        if self.ended:
            return
        self.ended = True
        protocol = self.protocol
        protocol.stop_push = None
        protocol.streaming = False
        if not protocol.closed:
            if not protocol.old:
                self.transport.write(b"0\r\n\r\n")
            protocol._finished(self.keep_alive)
