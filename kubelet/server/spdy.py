"""A SPDY session, server side: the client opens streams, both sides write to them.

Backpressure is the connection's: when a stream's reader lags, the session stops reading. The
peers of this protocol (client-go's spdystream) have no flow-control windows: they never send
WINDOW_UPDATE and ignore it, so neither do we count.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress

from pilothouse.kubelet.server.interfaces import Inbox, Transport
from pilothouse.kubelet.server.spdy_frames import (
    CANCEL,
    PROTOCOL_ERROR,
    Data,
    Frame,
    Framer,
    GoAway,
    Headers,
    Ping,
    RstStream,
    SpdyError,
    SynReply,
    SynStream,
)

WRITE_SIZE = 32 * 1024
CLOSE_SECONDS = 2.0
GOAWAY_PROTOCOL_ERROR = 1


class SpdyStream:
    """One stream (a ``Duplex``). ``headers`` are those that it was opened with."""

    def __init__(self, session: SpdySession, frame: SynStream) -> None:
        self._session = session
        self.id = frame.stream_id
        self.headers: Mapping[str, str] = frame.headers
        self.inbox = Inbox()
        self._finished = frame.unidirectional
        self._lost = False
        if frame.fin:
            self.inbox.feed_eof()

    def header(self, name: str) -> str:
        return self.headers.get(name.lower(), "").split("\0")[0]

    async def read(self) -> bytes:
        return await self.inbox.read()

    def discard(self) -> None:
        self.inbox.discard()

    async def write(self, data: bytes) -> None:
        for start in range(0, len(data), WRITE_SIZE):
            if self._finished or self._lost:
                raise ConnectionResetError("the stream is closed")
            await self._session.send(Data(self.id, data[start : start + WRITE_SIZE]))

    async def close(self) -> None:
        if self._finished or self._lost:
            return
        self._finished = True
        with suppress(OSError):
            await self._session.send(Data(self.id, b"", fin=True))
        self._session.forget_ended(self)

    async def reset(self) -> None:
        self.inbox.discard()
        if not self._lost and not (self._finished and self.inbox.ended):
            self.lose()
            with suppress(OSError):
                await self._session.send(RstStream(self.id, CANCEL))

    def lose(self) -> None:
        """It exists no longer, at either end."""
        self._lost = True
        self.inbox.cut()
        self._session.streams.pop(self.id, None)

    @property
    def ended(self) -> bool:
        return self._finished and self.inbox.ended


class SpdySession:
    """``on_stream`` is called with each new stream; false refuses it."""

    def __init__(self, transport: Transport, on_stream: Callable[[SpdyStream], bool]) -> None:
        self._transport = transport
        self._on_stream = on_stream
        self._framer = Framer()
        self._next_id = 1
        self.streams: dict[int, SpdyStream] = {}

    async def run(self) -> None:
        """Handles frames until the client has left or said good-bye; then all streams end."""
        try:
            while data := await self._transport.read():
                for frame in self._framer.feed(data):
                    if isinstance(frame, GoAway):
                        return
                    await self._handle(frame)
        except SpdyError:
            with suppress(OSError):
                await self.send(GoAway(max(self._next_id - 2, 0), GOAWAY_PROTOCOL_ERROR))
        except OSError:
            pass
        finally:
            for stream in list(self.streams.values()):
                stream.inbox.feed_eof()

    async def send(self, frame: Frame) -> None:
        """:raises ConnectionError: the client has left."""
        # Encoding and the first step of write happen at once: frames keep their order.
        await self._transport.write(self._framer.encode(frame))

    async def _handle(self, frame: Frame) -> None:
        if isinstance(frame, SynStream):
            await self._open(frame)
        elif isinstance(frame, Data):
            stream = self.streams.get(frame.stream_id)
            if stream is not None:
                stream.inbox.feed(frame.data)
                self._maybe_end(stream, frame.fin)
                await stream.inbox.room()
        elif isinstance(frame, Headers):
            stream = self.streams.get(frame.stream_id)
            if stream is not None:
                self._maybe_end(stream, frame.fin)
        elif isinstance(frame, RstStream):
            stream = self.streams.get(frame.stream_id)
            if stream is not None:
                stream.lose()
        elif isinstance(frame, Ping) and frame.ping_id % 2:
            await self.send(frame)

    def _maybe_end(self, stream: SpdyStream, fin: bool) -> None:
        if fin:
            stream.inbox.feed_eof()
            self.forget_ended(stream)

    def forget_ended(self, stream: SpdyStream) -> None:
        """Both sides have finished: the stream's number may go."""
        if stream.ended:
            self.streams.pop(stream.id, None)

    async def _open(self, frame: SynStream) -> None:
        if frame.stream_id % 2 == 0 or frame.stream_id < self._next_id:
            await self.send(RstStream(frame.stream_id, PROTOCOL_ERROR))
            return
        self._next_id = frame.stream_id + 2
        stream = SpdyStream(self, frame)
        self.streams[stream.id] = stream
        if self._on_stream(stream):
            await self.send(SynReply(stream.id))
        else:
            await stream.reset()

    async def close(self) -> None:
        """Ends all streams and the session. ``run`` must not be running any more."""
        try:
            async with asyncio.timeout(CLOSE_SECONDS):
                for stream in list(self.streams.values()):
                    await stream.close()
                await self.send(GoAway(max(self._next_id - 2, 0)))
        except OSError:
            pass
        await self._transport.close()
