"""Drivers and device plugins as real gRPC servers, a kubelet's part with devices as a whole."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from typing import Any

import pytest

from pilothouse.apimachinery.clock import RealClock
from pilothouse.apimachinery.testing import make_object, make_pod
from pilothouse.componentbase.activity import ActivityTracker
from pilothouse.kubeclient.cache.factory import SharedInformerFactory
from pilothouse.kubeclient.interfaces import Environment
from pilothouse.kubeclient.testing import FakeClient
from pilothouse.kubelet.plugins import messages as m
from pilothouse.kubelet.plugins.drivers import Drivers
from pilothouse.kubelet.plugins.node_devices import NodeDevices
from pilothouse.kubelet.plugins.rpc import Channel, PluginError, ShortPath
from pilothouse.kubelet.plugins.wire import decode, encode

grpc: Any = pytest.importorskip("grpc.aio")


class Server:
    """A plugin's side: methods by path, each from request to answer(s)."""

    def __init__(self, path: Path) -> None:
        import grpc as base

        self._base = base
        self._server = grpc.server()
        self._path = ShortPath(str(path))
        self._server.add_insecure_port(f"unix:{self._path.path}")

    def unary(self, method: m.Method, handler: Callable[[Any], Any]) -> None:
        async def serve(request: bytes, context: Any) -> bytes:
            return encode(method.response, handler(decode(method.request, request)) or {})

        self._add(method, self._base.unary_unary_rpc_method_handler(serve))

    def stream(self, method: m.Method, answers: asyncio.Queue[Any]) -> None:
        async def serve(request: bytes, context: Any) -> AsyncIterator[bytes]:
            while (answer := await answers.get()) is not None:
                yield encode(method.response, answer)

        self._add(method, self._base.unary_stream_rpc_method_handler(serve))

    def _add(self, method: m.Method, handler: Any) -> None:
        service, _, name = method.path[1:].rpartition("/")
        made = self._base.method_handlers_generic_handler(service, {name: handler})
        self._server.add_generic_rpc_handlers((made,))

    async def start(self) -> None:
        await self._server.start()

    async def stop(self) -> None:
        await self._server.stop(None)


class Node:
    def __init__(self, root: Path, *claims: Any) -> None:
        self.root = root
        self.client = FakeClient()
        for claim in claims:
            self.client.seed(claim)
        clock, activity = RealClock(), ActivityTracker()
        informers = SharedInformerFactory(self.client, clock, Random(1), activity)
        env = Environment(self.client, informers, clock, Random(1), activity)
        self.kicked: list[str] = []
        self.changed = asyncio.Event()
        self.devices = NodeDevices(
            env, "n", str(root), kick=self._kick, capacity_changed=self.changed.set
        )

    def _kick(self, uid: str) -> None:
        self.kicked.append(uid)
        self.changed.set()


async def until(condition: Callable[[], Any], *, seconds: float = 5.0) -> None:
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 -- another process's or library's doing
            await asyncio.sleep(0.01)


@asynccontextmanager
async def running(node: Node, *active: str) -> AsyncIterator[NodeDevices]:
    await node.devices.start(active)
    try:
        yield node.devices
    finally:
        await node.devices.stop()


def claim(name: str = "c", driver: str = "d.example") -> Any:
    made = make_object("resource.k8s.io/v1", "ResourceClaim", name, "default")
    made["metadata"]["uid"] = f"uid-{name}"
    result = {"request": "r", "driver": driver, "pool": "p", "device": "a"}
    made["status"] = {
        "allocation": {"devices": {"results": [result]}},
        "reservedFor": [{"resource": "pods", "name": "p", "uid": "uid-p"}],
    }
    return made


def pod_with_claim() -> Any:
    pod = make_pod("p")
    pod["metadata"]["uid"] = "uid-p"
    pod["spec"]["resourceClaims"] = [{"name": "gpu", "resourceClaimName": "c"}]
    pod["spec"]["containers"] = [{"name": "main", "resources": {"claims": [{"name": "gpu"}]}}]
    return pod


class DRADriver:
    """Registers, prepares what it is asked to, and notes it."""

    def __init__(self, root: Path, cdi: str = "x.example/dev=a") -> None:
        self.calls: list[tuple[str, list[str]]] = []
        self.told: list[Any] = []
        self.problem = ""
        self.health: asyncio.Queue[Any] = asyncio.Queue()
        self._cdi = cdi
        plugins = root / "plugins"
        plugins.mkdir(exist_ok=True)
        self.registration = Server(root / "plugins_registry" / "d-reg.sock")
        self.registration.unary(m.GET_INFO, self._info)
        self.registration.unary(m.NOTIFY, self.told.append)
        self.dra = Server(plugins / "d.sock")
        self.dra.unary(m.node_prepare(m.DRA_V1), self._prepare)
        self.dra.unary(m.node_unprepare(m.DRA_V1), self._unprepare)
        self.dra.stream(m.watch_health(m.HEALTH_SERVICES[0]), self.health)

    def _info(self, request: Any) -> Any:
        return {
            "type": "DRAPlugin", "name": "d.example",
            "endpoint": "/var/lib/kubelet/plugins/d.sock",
            "supported_versions": ["v1.DRAPlugin", "v1beta1.DRAPlugin", "v1.DRAResourceHealth"],
        }  # fmt: skip

    def _prepare(self, request: Any) -> Any:
        self.calls.append(("prepare", [c["uid"] for c in request["claims"]]))
        device = {"pool_name": "p", "device_name": "a", "cdi_device_ids": [self._cdi]}
        answer = {"error": self.problem} if self.problem else {"devices": [device]}
        return {"claims": {c["uid"]: answer for c in request["claims"]}}

    def _unprepare(self, request: Any) -> Any:
        self.calls.append(("unprepare", [c["uid"] for c in request["claims"]]))
        return {"claims": {c["uid"]: {} for c in request["claims"]}}

    async def start(self) -> None:
        await self.dra.start()
        await self.registration.start()

    async def stop(self) -> None:
        await self.registration.stop()
        self.health.put_nowait(None)
        await self.dra.stop()


@pytest.fixture(params=["n", "n" * 120], ids=["short", "long"])
def root(request: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A socket's path may have 108 characters, a kubelet's folder may be longer."""
    root = tmp_path_factory.mktemp("r") / request.param
    (root / "plugins_registry").mkdir(parents=True)
    return root


async def test_claims_are_prepared_and_unprepared(root: Path) -> None:
    node, pod = Node(root, claim()), pod_with_claim()
    driver = DRADriver(root)
    async with running(node) as devices:
        problem = await devices.prepare(pod)
        assert problem == (
            "Failed to prepare dynamic resources: prepare dynamic resources: "
            "DRA driver d.example is not registered"
        )
        await driver.start()
        await until(lambda: driver.told)
        assert driver.told == [{"plugin_registered": True, "error": ""}]
        driver.problem = "broken"
        assert (await devices.prepare(pod)).endswith(
            "NodePrepareResources failed for ResourceClaim c: broken"
        )
        driver.problem = ""
        assert await devices.prepare(pod) == ""
        assert await devices.prepare(pod) == ""
        assert driver.calls == [("prepare", ["uid-c"])] * 2
        outer = json.loads((root / "dra_manager_state").read_text())
        (kept,) = json.loads(outer["Data"])["ClaimInfoStateList"]
        assert kept["PodUIDs"] == {"uid-p": {}}
        assert kept["DriverState"]["d.example"]["Devices"][0]["CDIDeviceIDs"] == ["x.example/dev=a"]
        await devices.end(pod)
        assert driver.calls[2:] == [("unprepare", ["uid-c"])]
        await devices.end(pod)
        assert len(driver.calls) == 3
    await driver.stop()


async def test_the_next_kubelet_unprepares_what_is_left(root: Path) -> None:
    driver, pod = DRADriver(root), pod_with_claim()
    await driver.start()
    first = Node(root, claim())
    async with running(first) as devices:
        await until(lambda: driver.told)
        assert await devices.prepare(pod) == ""
    async with running(Node(root, claim()), "uid-p"):
        await until(lambda: len(driver.told) == 2)
        assert driver.calls == [("prepare", ["uid-c"])]
    second = Node(root, claim())
    async with running(second) as devices:
        await until(lambda: len(driver.told) == 3)
        await devices.end(pod)  # or the start had found the driver already
        assert driver.calls[1] == ("unprepare", ["uid-c"])
    await driver.stop()


async def test_claims_of_others_are_refused(root: Path) -> None:
    driver, pod = DRADriver(root), pod_with_claim()
    pod["metadata"]["uid"] = "other"
    await driver.start()
    async with running(Node(root, claim())) as devices:
        await until(lambda: driver.told)
        assert "is not allowed to use ResourceClaim c (uid-c)" in await devices.prepare(pod)
    await driver.stop()


async def test_health_reaches_the_status(root: Path) -> None:
    driver, pod = DRADriver(root), pod_with_claim()
    node = Node(root, claim())
    await driver.start()
    status: dict[str, Any] = {"containerStatuses": [{"name": "main"}]}
    async with running(node) as devices:
        await until(lambda: driver.told)
        assert await devices.prepare(pod) == ""
        devices.add_health(pod, status)
        entry: dict[str, Any] = {"resourceID": "x.example/dev=a", "health": "Unknown"}
        shown = [{"name": "claim:gpu", "resources": [entry]}]
        assert status["containerStatuses"][0]["allocatedResourcesStatus"] == shown
        device = {"pool_name": "p", "device_name": "a"}
        driver.health.put_nowait(
            {"devices": [{"device": device, "health": m.UNHEALTHY, "message": "hot"}]}
        )
        await until(lambda: node.kicked)
        devices.add_health(pod, status)
        entry |= {"health": "Unhealthy", "message": "hot"}
        assert status["containerStatuses"][0]["allocatedResourcesStatus"] == shown
    await driver.stop()


async def test_slices_go_with_their_driver(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pilothouse.kubelet.plugins.drivers.WIPE_SECONDS", 0.05)
    wiped: list[str] = []

    async def delete_collection(resource: Any, namespace: str = "", options: Any = None) -> None:
        wiped.append(options.field_selector)

    node, driver = Node(root), DRADriver(root)
    monkeypatch.setattr(node.client, "delete_collection", delete_collection)
    await driver.start()
    async with running(node):
        await until(lambda: driver.told)
        await driver.stop()
        (root / "plugins_registry" / "d-reg.sock").unlink(missing_ok=True)
        await until(lambda: len(wiped) > 1)
    assert wiped == ["spec.nodeName=n", "spec.driver=d.example,spec.nodeName=n"]


async def test_services_that_nobody_knows(root: Path) -> None:
    drivers = Drivers(FakeClient(), RealClock(), "n", lambda *_: None, lambda p: p)
    with pytest.raises(PluginError, match=r'none of services .* \(\["v9"\]\) are supported'):
        await drivers.register("d", "/x", ["v9"])
    with pytest.raises(PluginError, match="empty list of supported gRPC services"):
        await drivers.register("d", "/x", [])
    await drivers.stop()


async def test_plugins_of_unknown_types_are_told(root: Path) -> None:
    driver = DRADriver(root)
    driver.registration.unary(m.GET_INFO, lambda _: {})
    other = Server(root / "plugins_registry" / "x.sock")
    told: list[Any] = []
    other.unary(m.GET_INFO, lambda _: {"type": "CSIPlugin", "name": "x"})
    other.unary(m.NOTIFY, told.append)
    await other.start()
    async with running(Node(root)):
        await until(lambda: told)
    assert not told[0]["plugin_registered"]
    assert told[0]["error"].startswith("no handler registered for plugin type: CSIPlugin at socket")
    await other.stop()


# -- device plugins ----------------------------------------------------------------------


class DevicePlugin:
    def __init__(self, root: Path, **options: bool) -> None:
        self.root, self.options = root, options
        self.lists: asyncio.Queue[Any] = asyncio.Queue()
        self.allocated: list[list[str]] = []
        self.server = Server(root / "device-plugins" / "x.sock")
        self.server.stream(m.LIST_AND_WATCH, self.lists)
        self.server.unary(m.ALLOCATE, self._allocate)
        self.server.unary(m.PREFERRED, self._preferred)

    def _allocate(self, request: Any) -> Any:
        (ids,) = (r["devices_ids"] for r in request["container_requests"])
        self.allocated.append(ids)
        answer = {
            "envs": {"X": ",".join(ids)},
            "mounts": [
                {
                    "container_path": "/x",
                    "host_path": "/var/lib/kubelet/plugins/x",
                    "read_only": True,
                }
            ],
            "devices": [{"container_path": "/dev/x", "host_path": "/dev/null", "permissions": "r"}],
        }
        return {"container_responses": [answer]}

    def _preferred(self, request: Any) -> Any:
        (wanted,) = request["container_requests"]
        ids = wanted["available_deviceIDs"][-wanted["allocation_size"] :]
        return {"container_responses": [{"deviceIDs": ids}]}

    def has(self, **devices: str) -> None:
        self.lists.put_nowait({"devices": [{"ID": d, "health": h} for d, h in devices.items()]})

    async def start(self, resource: str = "e.com/x", version: str = "v1beta1") -> None:
        await self.server.start()
        channel = Channel(str(self.root / "device-plugins" / "kubelet.sock"))
        request = {"version": version, "endpoint": "x.sock", "resource_name": resource,
                   "options": self.options}  # fmt: skip
        try:
            await channel.call(m.REGISTER, request)
        finally:
            await channel.close()

    async def stop(self) -> None:
        self.lists.put_nowait(None)
        await self.server.stop()


def pod_with_devices(name: str, count: int, init: int = 0) -> Any:
    pod = make_pod(name)
    pod["metadata"]["uid"] = f"uid-{name}"
    pod["spec"]["containers"] = [_uses("main", count)]
    pod["spec"]["initContainers"] = [_uses("init", init)] if init else []
    return pod


def _uses(name: str, count: int) -> Any:
    return {"name": name, "resources": {"limits": {"e.com/x": str(count)}}}


async def test_devices_of_plugins(root: Path) -> None:
    node = Node(root)
    async with running(node) as devices:
        plugin = DevicePlugin(root)
        await plugin.start()
        plugin.has(a="Healthy", b="Healthy", c="Unhealthy")
        await until(lambda: devices.counts() == {"e.com/x": (3, 2)})
        assert node.changed.is_set()
        pod = pod_with_devices("p", 1, init=2)
        assert await devices.admit(pod) is None
        assert await devices.admit(pod) is None
        assert plugin.allocated == [["a", "b"], ["a"]]
        edits = await devices.edits(pod, pod["spec"]["containers"][0])
        assert edits.envs == [("X", "a")]
        assert [(x.host_path, x.container_path, x.readonly) for x in edits.mounts] == [
            (f"{root}/plugins/x", "/x", True)
        ]
        (device,) = edits.devices
        assert (device["path"], device["access"], device["minor"]) == ("/dev/x", "r", 3)
        refused = await devices.admit(pod_with_devices("q", 1))
        assert refused == (
            "UnexpectedAdmissionError",
            "Pod was rejected: Allocate failed due to requested number of devices unavailable for "
            "e.com/x. Requested: 1, Available: 0, which is unexpected",
        )
        plugin.has(a="Unhealthy", b="Healthy", c="Unhealthy")
        await until(lambda: node.kicked == ["uid-p"])
        status: dict[str, Any] = {"containerStatuses": [{"name": "main"}]}
        devices.add_health(pod, status)
        (shown,) = status["containerStatuses"][0]["allocatedResourcesStatus"]
        assert shown == {
            "name": "e.com/x",
            "resources": [{"resourceID": "a", "health": "Unhealthy"}],
        }
        await devices.end(pod)
        assert await devices.admit(pod_with_devices("q", 1)) is None
        await plugin.stop()
        await until(lambda: devices.counts() == {"e.com/x": (3, 0)})
    assert "kubelet.sock" not in os.listdir(root / "device-plugins")


async def test_devices_that_plugins_like_better(root: Path) -> None:
    async with running(Node(root)) as devices:
        plugin = DevicePlugin(root, get_preferred_allocation_available=True)
        await plugin.start()
        plugin.has(a="Healthy", b="Healthy", c="Healthy")
        await until(lambda: devices.counts())
        await until(lambda: devices.counts() == {"e.com/x": (3, 3)})
        assert await devices.admit(pod_with_devices("p", 2)) is None
        assert plugin.allocated == [["b", "c"]]
        await plugin.stop()


async def test_plugins_that_are_not_accepted(root: Path) -> None:
    async with running(Node(root)):
        plugin = DevicePlugin(root)
        with pytest.raises(PluginError, match=r'requested API version "v9" is not supported'):
            await plugin.start(version="v9")
        await plugin.stop()
        plugin = DevicePlugin(root)
        with pytest.raises(PluginError, match=r'the ResourceName "cpu" is invalid'):
            await plugin.start("cpu")
        await plugin.stop()
