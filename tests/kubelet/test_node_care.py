"""Rotation of logs, image garbage, eviction: with the fake runtime and files that are real."""

from __future__ import annotations

import gzip
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from pilothouse.apimachinery.object import condition_of
from pilothouse.apimachinery.testing import FakeClock
from pilothouse.kubeclient.resources import NODES
from pilothouse.kubelet.eviction.manager import observe_node
from pilothouse.kubelet.eviction.thresholds import Observation, parse
from pilothouse.kubelet.housekeeping import Chore, Housekeeping
from pilothouse.kubelet.image_gc import ImageGarbage, ImageLimits, to_free
from pilothouse.kubelet.log_rotation import LogLimits, LogRotation, make_room
from pilothouse.kubelet.pod_cache import PodCache

from .test_kubelet import World, pod, running


def files(directory: Path) -> dict[str, bytes]:
    return {
        name: (gzip.open if name.endswith(".gz") else open)(directory / name, "rb").read()
        for name in sorted(os.listdir(directory))
    }


def test_older_logs_are_compressed_and_the_oldest_go(tmp_path: Path) -> None:
    for number in range(1, 5):
        (tmp_path / f"0.log.2026010{number}-000000").write_bytes(b"%d" % number)
    (tmp_path / "0.log.20260100-000000.gz.tmp").write_bytes(b"half")
    (tmp_path / "0.log").write_bytes(b"now")
    (tmp_path / "1.log").write_bytes(b"other")
    make_room(str(tmp_path / "0.log"), 4)
    assert files(tmp_path) == {
        "0.log": b"now", "0.log.20260103-000000.gz": b"3", "0.log.20260104-000000.gz": b"4",
        "1.log": b"other",
    }  # fmt: skip


class Reopens:
    def __init__(self, path: Path) -> None:
        self.path, self.count = path, 0

    async def reopen_container_log(self, container_id: str) -> None:
        assert not self.path.exists()
        self.path.write_bytes(b"")
        self.count += 1


async def test_a_large_log_is_rotated(tmp_path: Path) -> None:
    async with running(tmp_path, pod("a")) as world:
        path = tmp_path / "0.log"
        path.write_bytes(b"x" * 100)
        cache = PodCache(world.runtime)
        status = (await world.runtime.list_containers())[0]
        cache._put_container(replace(status, log_path=str(path)))
        reopens = Reopens(path)
        rotation = LogRotation(reopens, cache, FakeClock(), LogLimits(101, 3))  # type: ignore[arg-type]
        await rotation.look()
        assert reopens.count == 0
        path.write_bytes(b"x" * 101)
        await rotation.look()
        assert reopens.count == 1 and path.read_bytes() == b""
        assert [size for size in map(len, files(tmp_path).values()) if size] == [101]


def test_how_much_is_to_be_freed() -> None:
    limits = ImageLimits(high=85, low=80)
    assert to_free(Observation(200, 1000), limits) == 0
    assert to_free(Observation(150, 1000), limits) == 50
    assert to_free(Observation(10, 1000), limits) == 190
    assert to_free(Observation(0, 0), limits) == 0


async def test_unused_images_go_when_the_disk_is_full(tmp_path: Path) -> None:
    used = pod("a", containers=[{"name": "c", "image": "busybox"}])
    async with running(tmp_path, used) as world:
        for name in ("nginx", "httpd"):
            await world.runtime.pull_image(name, None)
        free = 200
        garbage = ImageGarbage(
            world.runtime, world.kubelet.cache, world.clock, ImageLimits(),
            lambda: Observation(free, 1000),
        )  # fmt: skip
        before = {image.id for image in await world.runtime.list_images()}
        assert len(before) == 3
        await garbage.look()
        free = 10
        await garbage.look()  # they are too young
        assert {image.id for image in await world.runtime.list_images()} == before
        await world.later(121)
        await garbage.look()
        left = [tag for i in await world.runtime.list_images() for tag in i.repo_tags]
        assert [tag for tag in left if "busybox" in tag] and len(left) == 2
        assert await garbage.remove_unused() > 0
        assert len(await world.runtime.list_images()) == 1


async def test_one_chore_after_the_other(tmp_path: Path) -> None:
    async with running(tmp_path) as world:
        done: list[str] = []

        def chore(name: str) -> Callable[[], object]:
            async def do() -> None:
                done.append(name)
                raise RuntimeError("its own trouble")

            return do

        chores = [Chore(n, s, chore(n)) for n, s in (("a", 10.0), ("b", 25.0))]  # type: ignore[arg-type]
        world.kubelet._tasks.start(Housekeeping(world.clock, chores).run(), "test")
        for _ in range(11):
            await world.later(5)
        assert done == ["a", "a", "b", "a", "a", "a", "b"]


def starve(world: World, signal: str, available: int) -> None:
    eviction = world.kubelet.care.eviction
    eviction._pressure.thresholds = parse(f"{signal}<100")
    eviction._observe = lambda _: {signal: Observation(available, 1000)}


async def test_a_pod_is_evicted_and_new_ones_are_not_taken(tmp_path: Path) -> None:
    important = pod("important", priority=10)
    async with running(tmp_path, important, pod("other")) as world:
        starve(world, "memory.available", 10)
        await world.kubelet.care.eviction.look()
        await world.settle()
        status = world.pod("other")["status"]
        assert (status["phase"], status["reason"]) == ("Failed", "Evicted")
        assert status["message"].startswith("The node was low on resource: memory. ")
        target = condition_of(world.pod("other"), "DisruptionTarget")
        assert target is not None and target["reason"] == "TerminationByKubelet"
        assert world.pod("important")["status"]["phase"] == "Running"
        assert "EvictionThresholdMet" in world.reasons()
        await world.later(10)
        node = world.client.current(NODES, "n1")
        assert node is not None
        pressure = condition_of(node, "MemoryPressure")
        assert pressure is not None and pressure["status"] == "True"
        assert pressure["reason"] == "KubeletHasInsufficientMemory"
        world.client.seed(pod("late"))
        await world.settle()
        assert world.pod("late")["status"]["reason"] == "Evicted"
        starve(world, "memory.available", 500)
        await world.later(301)
        await world.kubelet.care.eviction.look()
        assert world.kubelet.care.eviction.conditions == frozenset()


async def test_unused_images_go_before_pods(tmp_path: Path) -> None:
    async with running(tmp_path, pod("a")) as world:
        await world.runtime.pull_image("nginx", None)
        looks = iter((10, 500))
        starve(world, "nodefs.available", 10)
        world.kubelet.care.eviction._observe = lambda _: {
            "nodefs.available": Observation(next(looks), 1000)
        }
        await world.kubelet.care.eviction.look()
        await world.settle()
        assert world.pod("a")["status"]["phase"] == "Running"
        assert len(await world.runtime.list_images()) == 1


def test_this_machine_can_be_observed(tmp_path: Path) -> None:
    observed = observe_node(str(tmp_path))
    for signal in ("memory.available", "nodefs.available", "pid.available"):
        assert 0 < observed[signal].available <= observed[signal].capacity
