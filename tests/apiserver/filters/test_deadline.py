"""?timeout= of a request: what is no duration, what is more than the server gives, what is less."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from pilothouse.apimachinery.errors import StatusError
from pilothouse.apiserver.filters.deadline import with_deadline
from pilothouse.apiserver.request.context import Request, Response


def request(verb: str, timeout: str | None) -> Request:
    query = {} if timeout is None else {"timeout": [timeout]}
    info: Any = SimpleNamespace(verb=verb, subresource="")
    return Request("GET", "/version", query, {}, info)


async def answer(verb: str, timeout: str | None, maximum: float = 60) -> Response:
    """Of a handler that answers at once when the server gives 60 s, and never otherwise."""

    async def handler(_: Request) -> Response:
        if maximum == 60:
            return Response(204)
        await asyncio.get_running_loop().create_future()
        raise AssertionError

    server: Any = SimpleNamespace(config=SimpleNamespace(request_timeout=maximum))
    return await with_deadline(server, handler)(request(verb, timeout))


@pytest.mark.parametrize("timeout", [None, "", "0s", "3m", "10s"])
@pytest.mark.parametrize("verb", ["get", "create", "watch"])
async def test_served(verb: str, timeout: str | None) -> None:
    assert (await answer(verb, timeout)).status == 204


async def test_no_duration() -> None:
    with pytest.raises(StatusError) as raised:
        await answer("get", "invalid")
    assert (raised.value.code, raised.value.message) == (
        400,
        'invalid timeout specified in the request URL - time: invalid duration "invalid"',
    )
    assert (await answer("watch", "invalid")).status == 204


@pytest.mark.parametrize(
    ("verb", "timeout", "maximum"),
    [("create", "1ms", 50), ("create", "3m", 0.001), ("create", None, 0.001)],
)
async def test_too_late(verb: str, timeout: str | None, maximum: float) -> None:
    with pytest.raises(StatusError) as raised:
        await answer(verb, timeout, maximum)
    assert raised.value.code == 504
