"""metrics.k8s.io of a running server, fed by kubelets that the test plays."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from pilothouse.apimachinery.errors import StatusError
from pilothouse.apimachinery.schema import GroupVersionResource
from pilothouse.apimachinery.testing import FakeClock
from pilothouse.apiserver.request.context import Response
from pilothouse.apiserver.server import APIServer
from pilothouse.apiserver.testing import running_server
from pilothouse.kubeclient.resources import NODES, PODS

API_SERVICES = GroupVersionResource("apiregistration.k8s.io", "v1", "apiservices")
ROLES = GroupVersionResource("rbac.authorization.k8s.io", "v1", "clusterroles")
POD_METRICS = GroupVersionResource("metrics.k8s.io", "v1beta1", "pods")
NODE_METRICS = GroupVersionResource("metrics.k8s.io", "v1beta1", "nodes")
TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io"


class Kubelet:
    """Its containers use half a core each."""

    def __init__(self, clock: FakeClock) -> None:
        self.clock = clock
        self.pods = ["one", "two"]
        self.asked: list[str] = []
        self.broken = False

    async def request(
        self, method: str, path: str, query: str, headers: dict[str, str], body: bytes
    ) -> Response:
        self.asked.append(f"{path}?{query}")
        if self.broken:
            return Response(500)
        stats = {
            "startTime": "2020-01-01T00:00:00Z",
            "cpu": {"usageCoreNanoSeconds": int(self.clock.monotonic() * 5e8)},
            "memory": {"workingSetBytes": 64 << 20},
        }
        pods = [
            {
                "podRef": {"name": name, "namespace": "default"},
                "containers": [{"name": "app", **stats}],
            }
            for name in self.pods
        ]
        return Response(body=orjson.dumps({"node": stats, "pods": pods}))


async def populated(server: APIServer, clock: FakeClock) -> Kubelet:
    client = server.local_client()
    await client.create(NODES, {"metadata": {"name": "n1", "labels": {"zone": "a"}}})
    for name in ("one", "two", "waiting"):
        pod = {
            "metadata": {"name": name, "namespace": "default", "labels": {"app": name}},
            "spec": {"nodeName": "n1", "containers": [{"name": "app", "image": "nginx"}]},
        }
        made = await client.create(PODS, pod)
        phase = "Pending" if name == "waiting" else "Running"
        await client.update(PODS, {**made, "status": {"phase": phase}}, subresource="status")
    kubelet = Kubelet(clock)
    server.local_nodes.register("n1", kubelet)  # type: ignore[arg-type]
    return kubelet


async def test_usage_of_pods_and_nodes() -> None:
    clock = FakeClock()
    async with running_server(clock=clock) as server:
        kubelet = await populated(server, clock)
        client = server.local_client()
        await _first(server, clock)
        listed = (await client.list(POD_METRICS, "default")).items
        assert [each["metadata"]["name"] for each in listed] == ["one", "two"]
        (container,) = listed[0]["containers"]
        assert container == {"name": "app", "usage": {"cpu": "500000000n", "memory": "65536Ki"}}
        assert listed[0]["metadata"]["labels"] == {"app": "one"}
        assert (listed[0]["kind"], listed[0]["window"]) == ("PodMetrics", "1s")
        node = await client.get(NODE_METRICS, "n1")
        assert node["usage"] == container["usage"]
        # All of these were answered with two samples.
        assert kubelet.asked == ["/stats/summary?only_cpu_and_memory=true"] * 2
        clock.advance(10)
        again = await client.get(POD_METRICS, "one", "default")
        assert again["window"] == "10s"
        with pytest.raises(StatusError) as missing:
            await client.get(POD_METRICS, "waiting", "default")
        assert str(missing.value) == 'pods.metrics.k8s.io "default/waiting" not found'


async def _first(server: APIServer, clock: FakeClock) -> None:
    """The first question takes a second of the clock."""
    await server.activity.settle()
    waiting = clock.pending + 1
    reading = server.tasks.start(server.local_client().list(POD_METRICS, ""), "first")
    await clock.until_pending(waiting)
    clock.advance(1)
    await reading


async def test_selectors_tables_and_verbs() -> None:
    clock = FakeClock()
    async with running_server(clock=clock) as server:
        await populated(server, clock)
        await _first(server, clock)
        client = server.local_client()
        path = "/apis/metrics.k8s.io/v1beta1"
        selected = await client.request("GET", f"{path}/pods?labelSelector=app%3Done")
        assert selected["kind"] == "PodMetricsList"
        assert [each["metadata"]["name"] for each in selected["items"]] == ["one"]
        nodes = await client.request("GET", f"{path}/nodes?labelSelector=zone%3Db")
        assert nodes["items"] == []
        with pytest.raises(StatusError) as refused:
            await client.create(POD_METRICS, {"metadata": {"name": "x"}}, "default")
        assert refused.value.code == 405
        with pytest.raises(StatusError) as refused:
            await client.watch(POD_METRICS, "default")
        assert refused.value.code == 405
        discovered = await client.request("GET", path)
        assert [each["name"] for each in discovered["resources"]] == ["nodes", "pods"]
        v3 = await client.request("GET", f"/openapi/v3{path}")
        assert "io.k8s.metrics.v1beta1.PodMetrics" in v3["components"]["schemas"]
        client._headers["accept"] = TABLE
        table = await client.request("GET", f"{path}/namespaces/default/pods/two")
        assert [column["name"] for column in table["columnDefinitions"]] == [
            "Name", "cpu", "memory", "Window",
        ]  # fmt: skip
        assert table["rows"][0]["cells"] == ["two", "500m", "64Mi", "1s"]


async def test_a_kubelet_that_fails_leaves_a_gap() -> None:
    clock = FakeClock()
    async with running_server(clock=clock) as server:
        kubelet = await populated(server, clock)
        kubelet.broken = True
        client = server.local_client()
        assert (await client.list(NODE_METRICS)).items == []
        assert (await client.list(POD_METRICS, "default")).items == []


async def test_a_pod_that_is_younger_than_the_last_sample_is_asked_for_at_once() -> None:
    clock = FakeClock()
    async with running_server(clock=clock) as server:
        kubelet = await populated(server, clock)
        kubelet.pods = ["one"]
        await _first(server, clock)
        client = server.local_client()
        assert len((await client.list(POD_METRICS, "default")).items) == 1
        clock.advance(1)
        kubelet.pods = ["one", "two"]
        kubelet.asked.clear()
        waiting = clock.pending + 1
        reading = server.tasks.start(client.list(POD_METRICS, "default"), "second")
        await clock.until_pending(waiting)
        clock.advance(1)
        assert len((await reading).items) == 2
        assert len(kubelet.asked) == 2


async def test_the_api_service_and_the_role_are_there() -> None:
    async with running_server() as server:
        await server.activity.settle()
        client = server.local_client()
        found = await client.get(API_SERVICES, "v1beta1.metrics.k8s.io")
        assert found["status"]["conditions"][0]["reason"] == "Local"
        role = await client.get(ROLES, "system:aggregated-metrics-reader")
        labels: dict[str, Any] = role["metadata"]["labels"]
        assert labels["rbac.authorization.k8s.io/aggregate-to-view"] == "true"
