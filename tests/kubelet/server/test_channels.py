from __future__ import annotations

import asyncio

import pytest
from wsproto.events import BytesMessage, TextMessage

from pilothouse.kubelet.server.channels import Channels, ChannelStream
from pilothouse.kubelet.server.websocket import WebSocket

from .conftest import Pair, WebSocketClient


async def connect(
    pair: Pair, protocol: str
) -> tuple[Channels, WebSocketClient, asyncio.Task[None]]:
    ours, theirs = await pair()
    channels = Channels(WebSocket(*ours, linger=0.2), protocol, 5, (0, 4))
    return channels, WebSocketClient(theirs), asyncio.create_task(channels.run())


async def test_raw_channels(pair: Pair) -> None:
    channels, client, task = await connect(pair, "v4.channel.k8s.io")
    client.send(1, b"to an output: dropped")
    client.send(77, b"to nowhere: dropped")
    client.send_event(BytesMessage(b""))
    client.send(0, b"in")
    client.send(4, b"{}")
    assert await ChannelStream(channels, 0).read() == b"in"
    assert await ChannelStream(channels, 4).read() == b"{}"
    await ChannelStream(channels, 1).write(b"out")
    await client.until(lambda: client.data(1) == b"out")
    client.writer.close()
    await task
    assert await ChannelStream(channels, 0).read() == b""


async def test_base64_channels(pair: Pair) -> None:
    channels, client, task = await connect(pair, "base64.channel.k8s.io")
    client.send_event(TextMessage("0!!!"))
    client.send_event(TextMessage("0Zm9v"))
    assert await ChannelStream(channels, 0).read() == b"foo"
    await ChannelStream(channels, 1).write(b"bar")
    await client.until(lambda: client.messages == ["1YmFy"])
    client.writer.close()
    await task


async def test_v5_ends_a_channel(pair: Pair) -> None:
    channels, client, task = await connect(pair, "v5.channel.k8s.io")
    client.send(0, b"last words")
    client.send(255, b"\x00")
    stream = ChannelStream(channels, 0)
    assert await stream.read() == b"last words"
    assert await stream.read() == b""
    await stream.write(b"still open this way")
    assert not task.done()
    client.writer.close()
    await task


async def test_before_v5_there_is_no_such_message(pair: Pair) -> None:
    channels, client, task = await connect(pair, "v4.channel.k8s.io")
    client.send(255, b"\x00")
    client.send(0, b"more")
    assert await ChannelStream(channels, 0).read() == b"more"
    client.writer.close()
    await task


@pytest.mark.parametrize("rest", [b"", b"\x00\x00", b"\x09"])
async def test_malformed_v5_close(pair: Pair, rest: bytes) -> None:
    channels, client, task = await connect(pair, "v5.channel.k8s.io")
    client.send(255, rest)
    await task
    assert await ChannelStream(channels, 0).read() == b""


async def test_a_closed_stream_takes_no_more(pair: Pair) -> None:
    channels, client, task = await connect(pair, "v5.channel.k8s.io")
    stream = ChannelStream(channels, 1)
    await stream.close()
    with pytest.raises(ConnectionError):
        await stream.write(b"x")
    client.writer.close()
    await task
