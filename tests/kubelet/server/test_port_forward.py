from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator

import pytest
from wsproto.events import BytesMessage

from pilothouse.kubelet.server.interfaces import Refusal
from pilothouse.kubelet.server.port_forward import PortForward, is_tunnel, ports_from_query
from pilothouse.kubelet.server.spdy_frames import Data, GoAway, RstStream

from .conftest import Changes, Pair, SpdyClient, WebSocketClient

SPDY = {
    "connection": "Upgrade", "upgrade": "SPDY/3.1",
    "x-stream-protocol-version": "portforward.k8s.io",
}  # fmt: skip


class Pod:
    """Port 80 echoes in capitals until the client's end, 81 hangs, 82 cuts; others refuse."""

    def __init__(self) -> None:
        self.open = 0
        self.changes = Changes()
        self.port = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.open += 1
        self.changes.tell()
        try:
            port = struct.unpack("<H", await reader.readexactly(2))[0]
            if port == 82:
                writer.transport.abort()
            while port != 82 and (data := await reader.read(65536)):
                if port == 80:
                    writer.write(data.upper())
                    await writer.drain()
        except OSError:
            pass
        finally:
            self.open -= 1
            self.changes.tell()
            writer.close()

    async def connect(self, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if port not in (80, 81, 82):
            raise ConnectionRefusedError(111, "Connection refused")
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(struct.pack("<H", port))
        return reader, writer


@pytest.fixture
async def backend() -> AsyncIterator[Pod]:
    pod = Pod()
    server = await asyncio.start_server(pod.serve, "127.0.0.1", 0)
    pod.port = server.sockets[0].getsockname()[1]
    yield pod
    server.close()
    await server.wait_closed()
    await pod.changes.until(lambda: not pod.open)  # nothing of a forward may be left


async def spdy(pair: Pair, pod: Pod) -> tuple[SpdyClient, asyncio.Task[None]]:
    ours, theirs = await pair()
    forward = PortForward("sandbox", pod.connect, creation_timeout=0.2)
    task = asyncio.create_task(forward.serve(SPDY, {}, *ours))
    client = SpdyClient(theirs)
    assert "X-Stream-Protocol-Version: portforward.k8s.io" in await client.head()
    return client, task


def open_pair(client: SpdyClient, port: int | str, request_id: str) -> tuple[int, int]:
    """(data, error)."""
    more = {"requestID": request_id} if request_id else {}
    error = client.open(streamType="error", port=str(port), **more)
    return client.open(streamType="data", port=str(port), **more), error


@pytest.mark.parametrize("request_id", ["7", ""])
async def test_one_connection(pair: Pair, backend: Pod, request_id: str) -> None:
    client, task = await spdy(pair, backend)
    data, error = open_pair(client, 80, request_id)
    client.send(Data(data, b"hello"))
    await client.until(lambda: client.data(data) == b"HELLO")
    client.send(Data(data, b" world", fin=True))
    await client.until(lambda: client.finished(error))
    assert client.data(data) == b"HELLO WORLD"
    assert client.finished(data) and client.data(error) == b""
    client.writer.close()
    await task


async def test_many_connections_at_once(pair: Pair, backend: Pod) -> None:
    client, task = await spdy(pair, backend)
    pairs = [open_pair(client, 80, str(number)) for number in range(50)]
    for number, (data, _) in enumerate(pairs):
        client.send(Data(data, f"connection {number} ".encode() * 100, fin=True))
    await client.until(lambda: all(client.finished(error) for _, error in pairs))
    for number, (data, _) in enumerate(pairs):
        assert client.data(data) == f"CONNECTION {number} ".encode() * 100
    client.send(GoAway(0))
    client.writer.close()
    await task


async def test_a_port_that_refuses(pair: Pair, backend: Pod) -> None:
    client, task = await spdy(pair, backend)
    data, error = open_pair(client, 99, "1")
    again, _ = open_pair(client, 80, "2")
    await client.until(lambda: client.finished(error) and client.finished(data))
    assert client.data(error).decode() == (
        "error forwarding port 99 to pod sandbox, uid : failed to connect to localhost:99 inside "
        'namespace of "sandbox": dial tcp4 127.0.0.1:99: connect: connection refused'
    )
    client.send(Data(again, b"still works", fin=True))
    await client.until(lambda: client.finished(again))
    assert client.data(again) == b"STILL WORKS"
    client.writer.close()
    await task


async def test_the_pod_cuts_the_connection(pair: Pair, backend: Pod) -> None:
    client, task = await spdy(pair, backend)
    data, error = open_pair(client, 82, "1")
    await client.until(lambda: client.finished(error) and client.finished(data))
    client.writer.close()
    await task


async def test_the_client_resets_a_stream(pair: Pair, backend: Pod) -> None:
    client, task = await spdy(pair, backend)
    data, error = open_pair(client, 81, "1")
    await backend.changes.until(lambda: backend.open == 1)
    client.send(RstStream(data, 5))
    await client.until(lambda: client.finished(error))
    client.writer.close()
    await task


async def test_a_client_that_leaves_closes_everything(pair: Pair, backend: Pod) -> None:
    client, task = await spdy(pair, backend)
    open_pair(client, 81, "1")
    open_pair(client, 81, "2")
    await backend.changes.until(lambda: backend.open == 2)
    client.writer.close()
    await task


async def test_half_a_pair(pair: Pair, backend: Pod) -> None:
    client, task = await spdy(pair, backend)
    error = client.open(streamType="error", port="80", requestID="1")
    await client.until(lambda: any(isinstance(f, RstStream) for f in client.frames))
    assert client.data(error) == b"(request=1) timed out waiting for streams"
    client.writer.close()
    await task


@pytest.mark.parametrize(
    "headers",
    [
        {"streamType": "data"},
        {"streamType": "data", "port": "x"},
        {"streamType": "data", "port": "0"},
        {"streamType": "data", "port": "65536"},
        {"streamType": "other", "port": "80"},
        {"port": "80"},
    ],
)
async def test_streams_with_wrong_headers(
    pair: Pair, backend: Pod, headers: dict[str, str]
) -> None:
    client, task = await spdy(pair, backend)
    number = client.open(**headers)
    await client.until(lambda: client.frames == [RstStream(number, 5)])
    client.writer.close()
    await task


async def test_tunnelled_in_a_websocket(pair: Pair, backend: Pod) -> None:
    ours, theirs = await pair()
    headers = WebSocketClient.headers("SPDY/3.1+portforward.k8s.io")
    assert is_tunnel(headers) and not is_tunnel(WebSocketClient.headers("v4.channel.k8s.io"))
    forward = PortForward("sandbox", backend.connect)
    task = asyncio.create_task(forward.serve(headers, {}, *ours))
    socket, client = WebSocketClient(theirs), SpdyClient(theirs)
    assert "Sec-WebSocket-Protocol: SPDY/3.1+portforward.k8s.io" in await socket.head()
    client.send = lambda frame: socket.send_event(BytesMessage(client.framer.encode(frame)))  # type: ignore[method-assign]
    data, error = open_pair(client, 80, "1")
    client.send(Data(data, b"through both", fin=True))
    taken = 0

    def finished() -> bool:
        nonlocal taken
        for message in socket.messages[taken:]:
            assert isinstance(message, bytes)
            client.frames += client.framer.feed(message)
            taken += 1
        return client.finished(error)

    await socket.until(finished)
    assert client.data(data) == b"THROUGH BOTH"
    client.writer.close()
    await task


async def test_websocket_channels(pair: Pair, backend: Pod) -> None:
    ours, theirs = await pair()
    forward = PortForward("sandbox", backend.connect)
    headers, query = WebSocketClient.headers("v4.channel.k8s.io"), {"port": ["80,99"]}
    task = asyncio.create_task(forward.serve(headers, query, *ours))
    client = WebSocketClient(theirs)
    await client.head()
    client.send(0, b"abc")
    await client.until(lambda: client.data(0) == b"\x50\x00ABC" and len(client.data(3)) > 2)
    assert client.data(1) == b"\x50\x00"
    assert client.data(2) == b"\x63\x00"
    assert client.data(3).startswith(b"\x63\x00error forwarding port 99 to pod sandbox")
    client.writer.close()
    await task


@pytest.mark.parametrize(
    ("query", "text"),
    [
        ({}, 'query parameter "port" is required'),
        ({"port": [""]}, 'query parameter "port" cannot be empty'),
        ({"port": ["80,http"]}, 'unable to parse "http" as a port'),
        ({"port": ["80", "0"]}, 'port "0" must be > 0'),
        ({"port": ["99999"]}, 'unable to parse "99999" as a port'),
    ],
)
def test_wrong_ports(query: dict[str, list[str]], text: str) -> None:
    with pytest.raises(Refusal, match="port") as refusal:
        ports_from_query(query)
    assert refusal.value.status == 400 and text in str(refusal.value)


def test_ports() -> None:
    assert ports_from_query({"port": ["80,443", "8080"]}) == [80, 443, 8080]
