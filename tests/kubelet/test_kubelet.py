"""A kubelet with the fake runtime, client and clock: pods' whole lives without a real container."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from typing import Any

import pytest

from pilothouse.apimachinery.object import condition_of
from pilothouse.apimachinery.testing import FakeClock, make_pod
from pilothouse.componentbase.activity import ActivityTracker
from pilothouse.kubeclient.cache.factory import SharedInformerFactory
from pilothouse.kubeclient.interfaces import DeleteOptions, Environment
from pilothouse.kubeclient.record import EventRecorder
from pilothouse.kubeclient.resources import LEASES, NODES, PODS
from pilothouse.kubeclient.testing import FakeClient
from pilothouse.kubelet.config import KubeletConfig
from pilothouse.kubelet.environment import EnvironmentMaker
from pilothouse.kubelet.kubelet import Kubelet
from pilothouse.kubelet.lifecycle_hooks import HookRunner
from pilothouse.kubelet.node_status import Machine
from pilothouse.kubelet.probes.manager import ProbeManager
from pilothouse.kubelet.probes.prober import HTTPGetter, Prober
from pilothouse.kubelet.runtime.fake import FakeRuntime
from pilothouse.kubelet.runtime.interfaces import Capabilities, PodSandboxConfig, RuntimeInfo
from pilothouse.kubelet.volumes.manager import VolumeManager
from pilothouse.kubelet.volumes.projected import ObjectVolumes

MACHINE = Machine(4, 8 << 30, 100 << 30, "amd64", "6.1", "Linux", "", "")


def pod(name: str, **spec: Any) -> dict[str, Any]:
    obj = make_pod(name)
    obj["metadata"]["uid"] = f"uid-{name}"
    obj["spec"] |= {"nodeName": "n1", "terminationGracePeriodSeconds": 30} | spec
    return obj


class World:
    def __init__(self, root: Path, *objects: dict[str, Any]) -> None:
        self.clock, self.activity, self.random = FakeClock(), ActivityTracker(), Random(1)
        self.client = FakeClient(*objects, clock=self.clock, graceful_pods=True)
        self.root = root
        self.runtime = FakeRuntime(self.clock, self.random, pod_cidr="10.244.0.0/24")
        informers = SharedInformerFactory(self.client, self.clock, self.random, self.activity)
        self.env = Environment(self.client, informers, self.clock, self.random, self.activity)
        self.kubelet = self.make()

    def make(self) -> Kubelet:
        config = KubeletConfig("n1", str(self.root), serve=False)
        objects = ObjectVolumes(self.client, self.clock, allocatable=dict, host_ip="10.0.0.1")
        recorder = EventRecorder(
            self.client, "kubelet", clock=self.clock, random=self.random, activity=self.activity
        )
        http = HTTPGetter()
        probes = ProbeManager(
            Prober(self.runtime, http), recorder, self.clock, self.random,
            lambda uid: self.kubelet.probe_changed(uid),
        )  # fmt: skip
        return Kubelet(
            self.env, config, self.runtime, self.runtime,
            volumes=VolumeManager(config.root_dir, objects, real_files=False),
            environments=EnvironmentMaker(
                self.client, services=lambda ns: (), allocatable=dict, host_ip="10.0.0.1"
            ),
            hooks=HookRunner(self.runtime, http, self.clock), probes=probes, recorder=recorder,
            machine=MACHINE,
        )  # fmt: skip

    def pod(self, name: str) -> dict[str, Any]:
        found = self.client.current(PODS, name, "default")
        assert found is not None
        return found

    def container(self, name: str) -> dict[str, Any]:
        status: dict[str, Any] = self.pod(name)["status"]["containerStatuses"][0]
        return status

    def container_id(self, name: str) -> str:
        return str(self.container(name)["containerID"]).rpartition("/")[2]

    async def finish(self, name: str, code: int) -> None:
        self.runtime.finish_container(self.container_id(name), code)
        await self.settle()

    async def later(self, seconds: float) -> None:
        self.clock.advance(seconds)
        await self.settle()

    async def settle(self) -> None:
        await self.activity.settle()

    def reasons(self) -> list[str]:
        return [reason for _, reason, _ in self.client.events()]


@asynccontextmanager
async def running(root: Path, *objects: dict[str, Any]) -> AsyncIterator[World]:
    world = World(root, *objects)
    await world.kubelet.start()
    try:
        await world.settle()
        yield world
    finally:
        await world.kubelet.stop()
        await world.env.informers.stop()


async def test_registers_its_node_and_lease(tmp_path: Path) -> None:
    async with running(tmp_path) as world:
        node = world.client.current(NODES, "n1")
        assert node is not None
        ready = condition_of(node, "Ready")
        assert ready is not None and ready["status"] == "True"
        assert node["status"]["allocatable"]["cpu"] == "4"
        lease = world.client.current(LEASES, "n1", "kube-node-lease")
        assert lease is not None
        before = lease["spec"]["renewTime"]
        await world.later(10.0)
        lease = world.client.current(LEASES, "n1", "kube-node-lease")
        assert lease is not None and lease["spec"]["renewTime"] > before


async def test_runs_a_pod(tmp_path: Path) -> None:
    async with running(tmp_path, pod("a")) as world:
        status = world.pod("a")["status"]
        assert status["phase"] == "Running"
        assert status["podIP"].startswith("10.244.0.")
        assert world.container("a")["ready"]
        assert {"Created", "Started"} <= set(world.reasons())


async def test_one_status_write_for_a_pod_that_starts_at_once(tmp_path: Path) -> None:
    async with running(tmp_path, pod("a")) as world:
        writes = [w for w in world.client.writes() if w[1] == "pods/status"]
        assert writes == [("patch", "pods/status", "a")]


async def test_crashing_container_backs_off(tmp_path: Path) -> None:
    async with running(tmp_path, pod("a")) as world:
        await world.finish("a", 1)
        assert (
            world.container("a")["restartCount"],
            "running" in world.container("a")["state"],
        ) == (1, True)
        await world.finish("a", 1)
        assert world.container("a")["state"]["waiting"]["reason"] == "CrashLoopBackOff"
        await world.later(9.0)
        assert "waiting" in world.container("a")["state"]
        await world.later(2.0)
        assert world.container("a")["restartCount"] == 2
        await world.finish("a", 1)
        await world.later(15.0)
        assert "waiting" in world.container("a")["state"]  # 20 s now
        await world.later(6.0)
        assert world.container("a")["restartCount"] == 3


async def test_finished_pod_succeeds_and_keeps_its_containers(tmp_path: Path) -> None:
    async with running(tmp_path, pod("a", restartPolicy="Never")) as world:
        await world.finish("a", 0)
        assert world.pod("a")["status"]["phase"] == "Succeeded"
        assert len(await world.runtime.list_containers()) == 1
        await world.client.delete(PODS, "a", "default")
        await world.settle()
        assert world.client.current(PODS, "a", "default") is None
        assert await world.runtime.list_containers() == []
        assert await world.runtime.list_pod_sandboxes() == []


async def test_deleted_pod_is_stopped_then_removed(tmp_path: Path) -> None:
    async with running(tmp_path, pod("a")) as world:
        await world.client.delete(PODS, "a", "default")
        await world.settle()
        assert world.client.current(PODS, "a", "default") is None
        assert await world.runtime.list_containers() == []
        assert "Killing" in world.reasons()
        assert world.kubelet.workers.states() == []


async def test_readiness_is_asked_until_the_end(tmp_path: Path) -> None:
    serving = {"readiness": True, "liveness": True}

    class Pretend:
        async def probe(self, spec: Any, *_: object) -> tuple[bool, str]:
            return serving[spec.handler["exec"]["command"][0]], ""

    probed = pod("a")
    for kind in ("readiness", "liveness"):
        handler = {"exec": {"command": [kind]}, "periodSeconds": 1, "failureThreshold": 1}
        probed["spec"]["containers"][0][f"{kind}Probe"] = handler
    probed["spec"]["containers"][0]["lifecycle"] = {"preStop": {"sleep": {"seconds": 20}}}
    world = World(tmp_path, probed)
    world.kubelet.probes._prober = Pretend()  # type: ignore[attr-defined]
    await world.kubelet.start()
    try:
        for _ in range(3):
            await world.later(1.0)
        assert world.container("a")["ready"]
        deletion = asyncio.create_task(world.client.delete(PODS, "a", "default"))
        await asyncio.sleep(0)
        serving["readiness"] = serving["liveness"] = False
        for _ in range(50):
            world.clock.advance(0.1)
            await asyncio.sleep(0)
        status = world.container("a")
        assert (status["ready"], status["restartCount"]) == (False, 0)
        assert "running" in status["state"]
        await world.later(60.0)
        await deletion
        assert world.client.current(PODS, "a", "default") is None
    finally:
        await world.kubelet.stop()
        await world.env.informers.stop()


async def test_forced_delete_leaves_nothing(tmp_path: Path) -> None:
    async with running(tmp_path, pod("a")) as world:
        await world.client.delete(PODS, "a", "default", DeleteOptions(grace_period_seconds=0))
        await world.settle()
        assert await world.runtime.list_containers() == []
        assert world.kubelet.workers.states() == []


async def test_deadline_fails_the_pod(tmp_path: Path) -> None:
    async with running(tmp_path, pod("a", activeDeadlineSeconds=60)) as world:
        await world.later(59.0)
        assert world.pod("a")["status"]["phase"] == "Running"
        await world.later(2.0)
        status = world.pod("a")["status"]
        assert (status["phase"], status["reason"]) == ("Failed", "DeadlineExceeded")


async def test_unknown_image_backs_off(tmp_path: Path) -> None:
    broken = pod("a")
    broken["spec"]["containers"][0]["image"] = "foo:non-existent"
    async with running(tmp_path, broken) as world:
        assert world.pod("a")["status"]["phase"] == "Pending"
        assert world.container("a")["state"]["waiting"]["reason"] == "ErrImagePull"
        await world.later(3.0)
        assert world.container("a")["state"]["waiting"]["reason"] == "ImagePullBackOff"
        assert {"Pulling", "Failed", "BackOff"} <= set(world.reasons())


async def test_missing_config_map_is_a_config_error(tmp_path: Path) -> None:
    broken = pod("a")
    reference = {"configMapKeyRef": {"name": "cm", "key": "k"}}
    broken["spec"]["containers"][0]["env"] = [{"name": "V", "valueFrom": reference}]
    async with running(tmp_path, broken) as world:
        waiting = world.container("a")["state"]["waiting"]
        assert waiting["reason"] == "CreateContainerConfigError"
        assert waiting["message"] == 'configmap "cm" not found'


async def test_failing_readiness_probe_keeps_the_pod_unready(tmp_path: Path) -> None:
    probed = pod("a")
    probed["spec"]["containers"][0]["readinessProbe"] = {
        "tcpSocket": {"port": 1, "host": "127.0.0.1"}, "periodSeconds": 5,
    }  # fmt: skip
    async with running(tmp_path, probed) as world:
        assert not world.container("a")["ready"]


async def test_new_kubelet_finds_running_containers(tmp_path: Path) -> None:
    async with running(tmp_path, pod("a")) as world:
        before = world.container_id("a")
        await world.kubelet.stop()
        world.kubelet = world.make()
        await world.kubelet.start()
        await world.settle()
        assert world.container_id("a") == before
        assert len(await world.runtime.list_containers()) == 1


async def test_pods_whose_containers_are_gone_are_not_ready_until_they_run_again(
    tmp_path: Path,
) -> None:
    async with running(tmp_path, pod("a")) as world:
        await world.kubelet.stop()
        for sandbox in await world.runtime.list_pod_sandboxes():
            await world.runtime.remove_pod_sandbox(sandbox.id)
        world.kubelet = world.make()
        told: list[dict[str, Any]] = []
        real = world.runtime.run_pod_sandbox

        async def slowly(config: PodSandboxConfig) -> str:
            for _ in range(20):
                await asyncio.sleep(0)  # the status gets its turn
            told.append(world.pod("a")["status"])
            return await real(config)

        world.runtime.run_pod_sandbox = slowly  # type: ignore[method-assign]
        await world.kubelet.start()
        await world.settle()
        conditions = {c["type"]: c["status"] for c in told[0]["conditions"]}
        assert conditions["Ready"] == conditions["ContainersReady"] == "False"
        assert not told[0]["containerStatuses"][0]["ready"]
        assert world.container("a")["ready"]


async def test_pod_that_vanished_meanwhile_is_ended(tmp_path: Path) -> None:
    async with running(tmp_path, pod("a")) as world:
        await world.kubelet.stop()
        world.client.remove(PODS, "a", "default")
        world.kubelet = world.make()
        await world.kubelet.start()
        await world.settle()
        assert await world.runtime.list_pod_sandboxes() == []


async def test_init_container_that_ends_at_once_holds_nothing_up(tmp_path: Path) -> None:
    """It has ended before the kubelet looks at it for the first time."""
    init = {"name": "init", "image": "busybox", "command": ["true"]}
    async with running(tmp_path, pod("a", initContainers=[init])) as world:
        assert world.pod("a")["status"]["phase"] == "Running"
        assert world.container("a")["ready"]


async def test_container_that_ends_at_once_is_restarted_then_backs_off(tmp_path: Path) -> None:
    short = {"name": "c", "image": "busybox", "command": ["true"]}
    async with running(tmp_path, pod("a", containers=[short])) as world:
        assert world.container("a")["restartCount"] == 1
        assert world.container("a")["state"]["waiting"]["reason"] == "CrashLoopBackOff"


async def test_a_new_image_starts_without_delay(tmp_path: Path) -> None:
    async with running(tmp_path, pod("a")) as world:
        await world.finish("a", 1)
        await world.finish("a", 1)
        assert world.container("a")["state"]["waiting"]["reason"] == "CrashLoopBackOff"
        changed = copy.deepcopy(world.pod("a"))
        changed["spec"]["containers"][0]["image"] = "busybox:2"
        await world.client.update(PODS, changed)
        await world.settle()
        assert world.container("a")["restartCount"] == 2
        assert "running" in world.container("a")["state"]


async def test_resize_is_pending_until_it_is_taken_back(tmp_path: Path) -> None:
    async with running(tmp_path, pod("a")) as world:

        async def request(cpu: str) -> dict[str, Any]:
            changed = copy.deepcopy(world.pod("a"))
            changed["spec"]["containers"][0]["resources"] = {"requests": {"cpu": cpu}}
            await world.client.update(PODS, changed)
            await world.settle()
            return {c["type"]: c for c in world.pod("a")["status"]["conditions"]}

        conditions = await request("9000")
        assert conditions["PodResizePending"]["reason"] == "Infeasible"
        assert "allocatedResources" not in world.container("a")
        assert "PodResizePending" not in await request("1m")
        assert world.container("a")["allocatedResources"] == {"cpu": "1m"}


async def test_no_pod_runs_without_the_user_namespace_it_asks_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only the fake runtime, which runs nothing, takes such pods."""
    async with running(tmp_path, pod("pretended", hostUsers=False)) as world:
        assert world.pod("pretended")["status"]["phase"] == "Running"

    async def info(self: FakeRuntime) -> RuntimeInfo:
        return RuntimeInfo("crun", "1", Capabilities())

    monkeypatch.setattr(FakeRuntime, "info", info)
    other, wants = pod("other", hostUsers=True), pod("wants", hostUsers=False)
    async with running(tmp_path, other, wants) as world:
        assert world.pod("other")["status"]["phase"] == "Running"
        assert world.pod("wants")["status"]["phase"] == "Pending"
        told = [text for _, reason, text in world.client.events() if "SandBox" in reason]
        assert told and "does not support user namespaces" in told[0]
