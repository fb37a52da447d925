"""Long YAML bodies: read in a thread while the event loop goes on."""

from __future__ import annotations

import asyncio
import json
import threading
from time import perf_counter

import pytest

from pilothouse.apiserver.codec.yaml_aside import ReadBody, YAMLReader
from pilothouse.apiserver.codec.yaml_body import YAMLError, load


async def test_the_event_loop_has_its_turns() -> None:
    reader = YAMLReader()
    body = b"".join(b"- %d\n" % i for i in range(100_000))
    longest, last = 0.0, perf_counter()

    async def ticking() -> None:
        nonlocal longest, last
        while True:
            await asyncio.sleep(0)
            now = perf_counter()
            longest, last = max(longest, now - last), now

    ticks = asyncio.create_task(ticking())
    started = perf_counter()
    read = await reader.read(body)
    took = perf_counter() - started
    ticks.cancel()
    assert read == body and load(read)[0] == list(range(100_000))
    assert longest < took / 2


async def test_errors_are_told_when_the_body_is_decoded() -> None:
    reader = YAMLReader()
    read = await reader.read(b"a: [")
    with pytest.raises(YAMLError) as told:
        load(read)
    with pytest.raises(YAMLError) as expected:
        load(b"a: [")
    assert str(told.value) == str(expected.value)
    read = await reader.read(b"a: 1\na: 2\n")
    assert load(read) == load(b"a: 1\na: 2\n")


async def test_json_needs_no_thread() -> None:
    body = json.dumps({"a": 1}).encode()
    assert not isinstance(await YAMLReader().read(body), ReadBody)


async def test_no_thread_stays() -> None:
    reader = YAMLReader()
    before = threading.active_count()
    await asyncio.gather(*(reader.read(b"a: %d" % i) for i in range(5)))
    for _ in range(1000):
        if threading.active_count() <= before:
            return
        await asyncio.sleep(0.001)
    raise AssertionError
