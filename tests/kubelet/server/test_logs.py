from __future__ import annotations

import asyncio
import gc
import os
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import pytest

from pilothouse.apimachinery.testing import FakeClock
from pilothouse.kubelet.pod_cache import PodCache
from pilothouse.kubelet.runtime.fake import FakeRuntime
from pilothouse.kubelet.runtime.interfaces import ContainerConfig, ContainerStatus, PodSandboxConfig
from pilothouse.kubelet.server.inotify import DirectoryWatches
from pilothouse.kubelet.server.interfaces import Refusal
from pilothouse.kubelet.server.log_format import LogOptions
from pilothouse.kubelet.server.logs import ContainerLogs, find_attempt, logged_container

STAMP = b"2026-11-23T11:00:00.000000001Z stdout F "


class Container:
    """One running container of the fake runtime, with a log file that the test writes."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / "c" / "0.log"
        self.runtime = FakeRuntime(FakeClock(), Random(1))
        self.cache = PodCache(self.runtime)
        self.watches = DirectoryWatches()
        self.status: ContainerStatus
        self.path.parent.mkdir()

    async def start(self) -> None:
        sandbox = await self.runtime.run_pod_sandbox(
            PodSandboxConfig("p", "default", "uid", 0, "p", str(self.path.parent.parent))
        )
        image = await self.runtime.pull_image("busybox", None)
        config = ContainerConfig("c", 0, image, log_path="c/0.log")
        container = await self.runtime.create_container(sandbox, config)
        await self.runtime.start_container(container)
        await self.cache.relist()
        self.status = self.cache.get("uid").containers["c"][0]

    def write(self, text: str) -> None:
        with self.path.open("ab") as file:
            for line in text.splitlines():
                file.write(STAMP + line.encode() + b"\n")

    async def open(self, *, real_files: bool = True, **options: Any) -> AsyncIterator[bytes]:
        logs = ContainerLogs(self.cache, self.watches, real_files=real_files)
        return await logs.open(self.status, LogOptions(**options))

    async def exit(self) -> None:
        self.runtime.finish_container(self.status.id, 0)
        await self.cache.refresh_container("uid", self.status.id)


@pytest.fixture
async def container(tmp_path: Path) -> Container:
    made = Container(tmp_path)
    await made.start()
    return made


async def everything(chunks: AsyncIterator[bytes]) -> bytes:
    async with asyncio.timeout(5):
        return b"".join([chunk async for chunk in chunks])


async def following(chunks: AsyncIterator[bytes], wanted: bytes) -> None:
    got = b""
    async with asyncio.timeout(5):
        while got != wanted:
            got += await anext(chunks)


async def test_a_big_log_comes_in_chunks(container: Container) -> None:
    container.write("x" * 100 + "\n" + ("y" * 1000 + "\n") * 2000)
    chunks = [chunk async for chunk in await container.open()]
    assert len(chunks) > 3
    assert b"".join(chunks) == b"x" * 100 + b"\n" + (b"y" * 1000 + b"\n") * 2000


async def test_following(container: Container) -> None:
    container.write("before")
    chunks = await container.open(follow=True)
    await following(chunks, b"before\n")
    reading = asyncio.ensure_future(anext(chunks))
    container.write("now")
    assert await reading == b"now\n"
    container.path.rename(container.path.with_suffix(".old"))
    container.write("rotated")
    await following(chunks, b"rotated\n")
    container.write("last words")
    await container.exit()
    assert await everything(chunks) == b"last words\n"


async def test_following_what_has_ended(container: Container) -> None:
    container.write("all")
    await container.exit()
    assert await everything(await container.open(follow=True)) == b"all\n"


async def test_the_exit_ends_a_silent_log(container: Container) -> None:
    container.write("x")
    chunks = await container.open(follow=True)
    await following(chunks, b"x\n")
    ending = asyncio.ensure_future(everything(chunks))
    await asyncio.sleep(0)
    await container.exit()
    assert await ending == b""


async def test_a_follower_that_leaves_frees_everything(container: Container) -> None:
    container.write("x")
    chunks = await container.open(follow=True)
    await following(chunks, b"x\n")
    await chunks.aclose()  # type: ignore[attr-defined]
    await asyncio.sleep(0)
    assert container.watches._watchers == {}
    assert container.cache._exits == {}
    reading = asyncio.ensure_future(everything(await container.open(follow=True)))
    await asyncio.sleep(0.01)
    reading.cancel()
    await asyncio.wait({reading})
    assert container.watches._watchers == {}


async def test_an_answer_that_nobody_reads_leaves_no_file_open(container: Container) -> None:
    container.write("x")
    gc.collect()  # what other tests have left behind must not go meanwhile
    before = len(os.listdir("/proc/self/fd"))
    chunks = await container.open()
    assert len(os.listdir("/proc/self/fd")) == before + 1
    del chunks
    await asyncio.sleep(0)
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) == before


async def test_limits_end_a_follower(container: Container) -> None:
    container.write("12345\n6789")
    assert await everything(await container.open(follow=True, limit_bytes=3)) == b"123"


async def test_without_a_file(container: Container) -> None:
    with pytest.raises(Refusal, match=r"failed to open log file .*no such file") as refusal:
        await container.open()
    assert refusal.value.status == 400
    assert await everything(await container.open(real_files=False)) == b""
    chunks = await container.open(real_files=False, follow=True)
    ending = asyncio.ensure_future(everything(chunks))
    await asyncio.sleep(0)
    assert not ending.done()
    await container.exit()
    assert await ending == b""


# -- which container ---------------------------------------------------------------------


def pod(**status: Any) -> dict[str, Any]:
    return {
        "metadata": {"name": "p", "uid": "uid"},
        "status": {"containerStatuses": [{"name": "c", **status}]},
    }


RUNNING = {"state": {"running": {}}, "containerID": "fake://now"}
BEFORE = {"lastState": {"terminated": {"containerID": "fake://before"}}}


@pytest.mark.parametrize(
    ("status", "previous", "expected"),
    [
        (RUNNING, False, "fake://now"),
        (RUNNING | BEFORE, True, "fake://before"),
        ({"state": {"terminated": {"containerID": "fake://end"}}}, False, "fake://end"),
        ({"state": {"terminated": {}}} | BEFORE, False, "fake://before"),
        ({"state": {"waiting": {"reason": "CrashLoopBackOff"}}} | BEFORE, False, "fake://before"),
    ],
)
def test_the_attempt_that_is_meant(status: Any, previous: bool, expected: str) -> None:
    assert logged_container(pod(**status), "c", previous) == expected


@pytest.mark.parametrize(
    ("status", "previous", "text"),
    [
        (RUNNING, True, 'previous terminated container "c" in pod "p" not found'),
        ({"state": {"terminated": {}}}, False, 'container "c" in pod "p" is terminated'),
        ({"state": {"waiting": {"reason": "ContainerCreating"}}}, False,
         'container "c" in pod "p" is waiting to start: ContainerCreating'),
        ({"state": {"waiting": {"reason": "ErrImagePull"}}}, False,
         'container "c" in pod "p" is waiting to start: image can\'t be pulled'),
        ({"state": {"waiting": {"reason": "ImagePullBackOff"}}}, False,
         'container "c" in pod "p" is waiting to start: trying and failing to pull image'),
        ({}, False, 'container "c" in pod "p" is waiting to start - no logs yet'),
    ],
)  # fmt: skip
def test_no_log_yet(status: Any, previous: bool, text: str) -> None:
    with pytest.raises(Refusal) as refusal:
        logged_container(pod(**status), "c", previous)
    assert (refusal.value.status, str(refusal.value)) == (400, text)


def test_no_status_yet() -> None:
    bare = {"metadata": {"name": "p"}}
    with pytest.raises(Refusal, match='container "c" in pod "p" is not available'):
        logged_container(bare, "c", False)


async def test_an_attempt_that_has_been_removed(container: Container) -> None:
    owner = {"metadata": {"uid": "uid"}}
    found = find_attempt(container.cache, owner, "c", f"fake://{container.status.id}")
    assert found == replace(container.status)
    with pytest.raises(Refusal, match="unable to retrieve container logs for fake://gone"):
        find_attempt(container.cache, owner, "c", "fake://gone")
