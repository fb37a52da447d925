"""The client against real servers: answers in pieces, answers that are none."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from typing import Any

import pytest

from pilothouse.apimachinery.testing import FakeClock
from pilothouse.apiserver.testing_listers import DictListers
from pilothouse.apiserver.webhook.client import WebhookClient
from pilothouse.apiserver.webhook.client_config import Target, target_of
from pilothouse.apiserver.webhook.errors import CallError
from pilothouse.apiserver.webhook.services import ServiceResolver
from pilothouse.apiserver.webhook.testing import WebhookServer

REVIEW = {"kind": "K", "apiVersion": "v1", "request": {"uid": "u"}}


@pytest.fixture
async def client() -> AsyncIterator[WebhookClient]:
    made = WebhookClient(ServiceResolver(DictListers(), random.Random(1)), FakeClock())
    yield made
    await made.close()


class Raw(WebhookServer):
    """Answers with the bytes that it was given, then closes."""

    answer = b""

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        task = asyncio.current_task()
        assert task is not None
        self._serving.add(task)
        try:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(self.answer)
            await writer.drain()
        except (asyncio.IncompleteReadError, OSError):
            pass
        finally:
            self._serving.discard(task)
            writer.close()


async def ask(client: WebhookClient, target: Target, timeout: float = 5.0) -> dict[str, Any]:
    return await client.post(target, REVIEW, timeout)


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
        b'4\r\n{"a"\r\n3;x=y\r\n:1}\r\n0\r\n\r\n',
        b'HTTP/1.0 200 OK\r\n\r\n{"a":1}',
        b'HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n{"a":1}',
    ],
)
async def test_bodies(client: WebhookClient, answer: bytes) -> None:
    async with Raw() as server:
        server.answer = answer
        assert await ask(client, target_of(server.client_config("/x"))) == {"a": 1}


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (b"", "EOF"),
        (b"SSH-2.0\r\n\r\n", "malformed HTTP response"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{", "unexpected EOF"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]", "cannot unmarshal array into Go value"),
        (
            b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
            "0-length response with status code: 200",
        ),
        (
            b"HTTP/1.1 400 X\r\nContent-Length: 58\r\n\r\n"
            b'{"kind":"Status","status":"Failure","message":"bad thing"}',
            "bad thing",
        ),
        (b"HTTP/1.1 503 X\r\nContent-Length: 0\r\n\r\n", "currently unable to handle"),
    ],
)
async def test_answers_that_are_none(client: WebhookClient, answer: bytes, text: str) -> None:
    async with Raw() as server:
        server.answer = answer
        with pytest.raises(CallError, match=text):
            await ask(client, target_of(server.client_config("/x")))


async def test_parallel_calls_share_what_is_idle(client: WebhookClient) -> None:
    async with WebhookServer() as server:
        server.on("/x", lambda review: {"kind": "K", "ok": True})
        target = target_of(server.client_config("/x"))
        async with asyncio.TaskGroup() as group:
            for _ in range(4):
                group.create_task(ask(client, target))
        await ask(client, target)
        assert 1 <= server.connections <= 4
        other = target_of(
            {**server.client_config("/x"), "url": f"https://localhost:{server.port}/x"}
        )
        before = server.connections
        await ask(client, other)
        assert server.connections == before + 1


async def test_idle_connections_grow_old() -> None:
    clock = FakeClock()
    client = WebhookClient(ServiceResolver(DictListers(), random.Random(1)), clock)
    async with WebhookServer() as server:
        server.on("/x", lambda review: {"kind": "K"})
        target = target_of(server.client_config("/x"))
        await ask(client, target)
        clock.advance(91)
        await ask(client, target)
        assert server.connections == 2
        await client.close()
