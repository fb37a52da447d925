"""Port-forward: connections into a pod over SPDY stream pairs or WebSocket channels.

A SPDY client opens an ``error`` and a ``data`` stream with the same ``requestID`` for each
connection; a ``v4.channel.k8s.io`` WebSocket names its ports at once and has a pair of channels for
each, one connection long.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress

from pilothouse.kubelet.runtime.errors import RuntimeFailure
from pilothouse.kubelet.server.channels import BASE64_CHANNEL, CHANNEL, Channels, ChannelStream
from pilothouse.kubelet.server.handshake import (
    accept_spdy,
    accept_websocket,
    is_websocket,
    offered_subprotocols,
)
from pilothouse.kubelet.server.interfaces import Duplex, Outbound, Refusal, Transport
from pilothouse.kubelet.server.remote_command import STREAM_CREATION_SECONDS, until_gone
from pilothouse.kubelet.server.spdy import SpdySession, SpdyStream
from pilothouse.kubelet.server.websocket import SocketTransport, WebSocket, WebSocketTransport

PROTOCOL = "portforward.k8s.io"
TUNNEL = f"SPDY/3.1+{PROTOCOL}"
WEBSOCKET_PROTOCOLS = (f"v4.{CHANNEL}", f"v4.{BASE64_CHANNEL}", "")
COPY_SIZE = 32 * 1024

Connect = Callable[[int], Awaitable[tuple[asyncio.StreamReader, asyncio.StreamWriter]]]
"""A connection to a port inside the pod."""


def is_tunnel(headers: Mapping[str, str]) -> bool:
    return is_websocket(headers) and any(
        p.startswith("SPDY/3.1+") and p.endswith(".k8s.io") for p in offered_subprotocols(headers)
    )


def check_request(headers: Mapping[str, str], query: Mapping[str, list[str]]) -> None:
    """:raises Refusal: 400, a WebSocket client does not say which ports."""
    if is_websocket(headers) and not is_tunnel(headers):
        ports_from_query(query)


def ports_from_query(query: Mapping[str, list[str]]) -> list[int]:
    """:raises Refusal: 400, there are none or wrong ones."""
    texts = query.get("port") or []
    if not texts:
        raise Refusal(400, 'query parameter "port" is required')
    ports = []
    for text in texts:
        if not text:
            raise Refusal(400, 'query parameter "port" cannot be empty')
        ports += [_port(part) for part in text.split(",")]
    return ports


def _port(text: str) -> int:
    try:
        port = int(text) if text.isascii() and text.isdigit() else -1
    except ValueError:
        port = -1
    if not 0 <= port < 1 << 16:
        raise Refusal(400, f'unable to parse "{text}" as a port: invalid syntax')
    if port < 1:
        raise Refusal(400, f'port "{text}" must be > 0')
    return port


class PortForward:
    """The forwards of one client to one sandbox."""

    def __init__(
        self, sandbox_id: str, connect: Connect, creation_timeout: float = STREAM_CREATION_SECONDS
    ) -> None:
        self._sandbox_id = sandbox_id
        self._connect = connect
        self._creation_timeout = creation_timeout

    async def serve(
        self,
        headers: Mapping[str, str],
        query: Mapping[str, list[str]],
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        """One connection until the client leaves. :raises Refusal: nothing is written yet."""
        if is_tunnel(headers):
            _, head = accept_websocket(headers, (TUNNEL,))
            writer.write(head)
            await self._over_spdy(WebSocketTransport(WebSocket(reader, writer)))
        elif is_websocket(headers):
            ports = ports_from_query(query)
            protocol, head = accept_websocket(headers, WEBSOCKET_PROTOCOLS)
            writer.write(head)
            await self._over_channels(WebSocket(reader, writer), protocol, ports)
        else:
            _, head = accept_spdy(headers, (PROTOCOL,))
            writer.write(head)
            await self._over_spdy(SocketTransport(reader, writer))

    # -- SPDY ----------------------------------------------------------------------------

    async def _over_spdy(self, transport: Transport) -> None:
        async with asyncio.TaskGroup() as group:
            pairs = _Pairs(self, group)
            spdy = SpdySession(transport, pairs.add)
            try:
                await spdy.run()
            finally:
                pairs.cancel()
                await spdy.close()

    async def forward_pair(self, pair: _Pair) -> None:
        """Waits for the pair's other stream, then forwards."""
        try:
            async with asyncio.timeout(self._creation_timeout):
                await pair.complete.wait()
        except TimeoutError:
            await _say(pair.error, f"(request={pair.request_id}) timed out waiting for streams")
            for stream in pair.streams():
                await stream.reset()
            return
        data, error = pair.data, pair.error
        assert data is not None and error is not None
        if not await self.forward(pair.port, data, error):
            # A new pair may work: this one must not be mistaken for a connection that ended.
            await data.reset()
            await error.reset()

    # -- WebSocket channels --------------------------------------------------------------

    async def _over_channels(self, socket: WebSocket, protocol: str, ports: list[int]) -> None:
        channels = Channels(socket, protocol, 2 * len(ports), range(0, 2 * len(ports), 2))

        streams = [ChannelStream(channels, number) for number in range(2 * len(ports))]

        async def work() -> None:
            for number, stream in enumerate(streams):
                await stream.write(struct.pack("<H", ports[number // 2]))
            async with asyncio.TaskGroup() as group:
                for index, port in enumerate(ports):
                    group.create_task(
                        self.forward(port, streams[2 * index], streams[2 * index + 1])
                    )

        try:
            await until_gone(work(), channels.run())
        except OSError:
            pass
        finally:
            await socket.close()

    # -- one connection ------------------------------------------------------------------

    async def forward(self, port: int, data: Duplex, error: Outbound) -> bool:
        """One connection from beginning to end; false when it could not be made or broke."""
        try:
            try:
                reader, writer = await self._connect(port)
            except (RuntimeFailure, OSError) as failure:
                reason = getattr(failure, "strerror", None) or str(failure)
                await _say(
                    error,
                    f"error forwarding port {port} to pod {self._sandbox_id}, uid : "
                    f'failed to connect to localhost:{port} inside namespace of "'
                    f'{self._sandbox_id}": {_reason(failure, reason, port)}',
                )
                return False
            try:
                return await _relay(reader, writer, data)
            finally:
                writer.close()
        finally:
            data.discard()
            await data.close()
            await error.close()


async def _relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, data: Duplex) -> bool:
    """Both ways until the pod's side has ended. The client's end is passed on as such."""

    async def upstream() -> None:
        try:
            while chunk := await data.read():
                writer.write(chunk)
                await writer.drain()
            if writer.can_write_eof():
                writer.write_eof()
        except OSError:
            writer.transport.abort()  # reset by the client, or the pod's side is gone
        finally:
            data.discard()

    async with asyncio.TaskGroup() as group:
        sending = group.create_task(upstream())
        try:
            while chunk := await reader.read(COPY_SIZE):
                await data.write(chunk)
        except OSError:
            return False
        finally:
            sending.cancel()
    return True


async def _say(error: Outbound | None, text: str) -> None:
    if error is not None:
        with suppress(OSError):
            await error.write(text.encode())


def _reason(failure: BaseException, text: str, port: int) -> str:
    if isinstance(failure, ConnectionRefusedError):
        return f"dial tcp4 127.0.0.1:{port}: connect: connection refused"
    return text or type(failure).__name__


class _Pair:
    def __init__(self, request_id: str, port: int) -> None:
        self.request_id = request_id
        self.port = port
        self.data: SpdyStream | None = None
        self.error: SpdyStream | None = None
        self.complete = asyncio.Event()

    def streams(self) -> list[SpdyStream]:
        return [stream for stream in (self.data, self.error) if stream is not None]


class _Pairs:
    """Streams of one session, matched by request id; each new pair gets a task."""

    def __init__(self, forward: PortForward, group: asyncio.TaskGroup) -> None:
        self._forward = forward
        self._group = group
        self._open: dict[str, _Pair] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def add(self, stream: SpdyStream) -> bool:
        kind = stream.header("streamType")
        try:
            port = _port(stream.header("port"))
        except Refusal:
            return False
        if kind not in ("data", "error"):
            return False
        request_id = stream.header("requestID")
        if not request_id:
            # Very old clients: the error stream comes just before its data stream.
            request_id = str(stream.id if kind == "error" else stream.id - 2)
        pair = self._open.get(request_id)
        if pair is None:
            pair = self._open[request_id] = _Pair(request_id, port)
            task = self._group.create_task(self._forward.forward_pair(pair))
            self._tasks.add(task)
            task.add_done_callback(lambda task: self._done(task, request_id))
        if getattr(pair, kind) is not None:
            return False
        setattr(pair, kind, stream)
        if pair.data is not None and pair.error is not None:
            pair.port = _port(pair.data.header("port"))
            pair.complete.set()
        return True

    def _done(self, task: asyncio.Task[None], request_id: str) -> None:
        self._tasks.discard(task)
        self._open.pop(request_id, None)

    def cancel(self) -> None:
        for task in self._tasks:
            task.cancel()
