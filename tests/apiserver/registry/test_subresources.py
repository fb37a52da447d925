"""Sub-resources through the in-process client and, where bytes matter, over a socket."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from pilothouse.apimachinery.errors import StatusError
from pilothouse.apimachinery.object import copy_object
from pilothouse.apimachinery.schema import GroupVersionResource
from pilothouse.apimachinery.testing import make_pod
from pilothouse.apiserver.local import LocalClient
from pilothouse.apiserver.request.context import Response
from pilothouse.apiserver.server import APIServer
from pilothouse.apiserver.testing import running_server

PODS = GroupVersionResource("", "v1", "pods")
NODES = GroupVersionResource("", "v1", "nodes")
BINDINGS = GroupVersionResource("", "v1", "bindings")
SERVICES = GroupVersionResource("", "v1", "services")
SLICES = GroupVersionResource("discovery.k8s.io", "v1", "endpointslices")
DEPLOYMENTS = GroupVersionResource("apps", "v1", "deployments")
BUDGETS = GroupVersionResource("policy", "v1", "poddisruptionbudgets")
ACCOUNTS = GroupVersionResource("", "v1", "serviceaccounts")
REVIEWS = GroupVersionResource("authorization.k8s.io", "v1", "selfsubjectaccessreviews")
MERGE: Any = "application/merge-patch+json"


class Kubelet:
    """A kubelet in this process that echoes what it is asked."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, str, str]] = []

    async def request(
        self, method: str, path: str, query: str, headers: dict[str, str], body: bytes
    ) -> Response:
        self.requests.append((method, path, query))
        if path.endswith("/broken"):
            return Response(400, b'container "broken" in pod "p" is waiting to start', "text/plain")

        async def lines() -> AsyncIterator[bytes]:
            yield b"line 1\n"
            yield b"line 2\n"

        return Response(content_type="text/plain", chunks=lines())

    async def upgrade(
        self,
        method: str,
        path: str,
        query: str,
        headers: dict[str, str],
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        self.requests.append((method, path, query))
        writer.write(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: SPDY/3.1\r\n\r\n")
        while data := await reader.read(100):
            writer.write(data[::-1])


@pytest.fixture
async def server() -> AsyncIterator[APIServer]:
    settings: dict[str, Any] = {"authorization_mode": ("AlwaysAllow",)}
    async with running_server(serve=True, **settings) as running:
        yield running


@pytest.fixture
def client(server: APIServer) -> LocalClient:
    return server.local_client()


@pytest.fixture
async def http(server: APIServer) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(server.url) as session:
        yield session


async def refused(awaitable: Any) -> StatusError:
    with pytest.raises(StatusError) as raised:
        await awaitable
    return raised.value


async def pod(client: LocalClient, name: str = "p", **spec: Any) -> dict[str, Any]:
    made = make_pod(name)
    made["metadata"] |= {"namespace": "default", "labels": {"app": "a"}}
    made["spec"].pop("nodeName", None)
    made["spec"] |= spec
    return await client.create(PODS, made)


def binding(name: str, node: str, **metadata: Any) -> dict[str, Any]:
    return {
        "metadata": {"name": name, "namespace": "default", **metadata},
        "target": {"kind": "Node", "name": node},
    }


async def test_binding(client: LocalClient) -> None:
    made = await pod(client)
    wanted = binding("p", "n", annotations={"x": "y"}, uid=made["metadata"]["uid"])
    answer = await client.create(PODS, wanted, "default", name="p", subresource="binding")
    assert answer["status"] == "Success"
    bound = await client.get(PODS, "p", "default")
    assert bound["spec"]["nodeName"] == "n"
    assert bound["metadata"]["annotations"] == {"x": "y"}
    (condition,) = bound["status"]["conditions"]
    assert (condition["type"], condition["status"]) == ("PodScheduled", "True")
    error = await refused(
        client.create(PODS, binding("p", "m"), "default", name="p", subresource="binding")
    )
    assert error.message == (
        'Operation cannot be fulfilled on pods/binding "p": pod p is already assigned to node "n"'
    )


async def test_bindings_that_can_not_be(client: LocalClient) -> None:
    await pod(client, "gated", schedulingGates=[{"name": "example.com/g"}])
    error = await refused(client.create(BINDINGS, binding("gated", "n"), "default"))
    assert "has non-empty .spec.schedulingGates" in error.message
    error = await refused(client.create(BINDINGS, binding("nobody", "n"), "default"))
    assert error.message == 'pods "nobody" not found'
    await pod(client)
    error = await refused(client.create(BINDINGS, binding("p", "n", uid="other"), "default"))
    assert error.code == 409 and "Precondition failed: UID" in error.message
    error = await refused(client.create(BINDINGS, binding("p", ""), "default"))
    assert (error.code, error.message) == (400, "target.name: Required value")


def deployment(name: str = "d") -> dict[str, Any]:
    template = {
        "metadata": {"labels": {"app": name}},
        "spec": {"containers": [{"name": "c", "image": "i"}]},
    }
    return {
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"selector": {"matchLabels": {"app": name}}, "template": template},
    }


async def test_scale(client: LocalClient) -> None:
    await client.create(DEPLOYMENTS, deployment())
    scale = await client.get(DEPLOYMENTS, "d", "default", subresource="scale")
    assert (scale["kind"], scale["apiVersion"]) == ("Scale", "autoscaling/v1")
    assert scale["spec"] == {"replicas": 1}
    assert scale["status"] == {"replicas": 0, "selector": "app=d"}
    scaled = await client.update(
        DEPLOYMENTS, {**scale, "spec": {"replicas": 4}}, subresource="scale", field_manager="me"
    )
    assert scaled["spec"] == {"replicas": 4}
    parent = await client.get(DEPLOYMENTS, "d", "default")
    assert (parent["spec"]["replicas"], parent["metadata"]["generation"]) == (4, 2)
    mine = [e for e in parent["metadata"]["managedFields"] if e["manager"] == "me"]
    assert mine[0]["subresource"] == "scale"
    assert mine[0]["fieldsV1"] == {"f:spec": {"f:replicas": {}}}
    error = await refused(client.update(DEPLOYMENTS, scale, subresource="scale"))
    assert error.reason == "Conflict"
    patched = await client.patch(
        DEPLOYMENTS, "d", {"spec": {"replicas": 0}}, MERGE, "default", subresource="scale"
    )
    assert patched["spec"]["replicas"] == 0
    error = await refused(
        client.patch(
            DEPLOYMENTS, "d", {"spec": {"replicas": -1}}, MERGE, "default", subresource="scale"
        )
    )
    assert error.code == 422


async def test_whole_numbers_with_a_fraction_in_a_strategic_patch(client: LocalClient) -> None:
    """As the Java client's rollback sends them: Go converts maps, it decodes no JSON there."""
    strategic = "application/strategic-merge-patch+json"
    await client.create(DEPLOYMENTS, deployment())
    patch = {"spec": {"replicas": 3.0, "template": {"spec": {"dnsPolicy": "Default"}}}}
    patched = await client.patch(DEPLOYMENTS, "d", patch, strategic, "default")
    assert patched["spec"]["replicas"] == 3 and type(patched["spec"]["replicas"]) is int
    for number in (
        {"replicas": 3.5},
        {"template": {"spec": {"terminationGracePeriodSeconds": 1.5}}},
    ):
        error = await refused(
            client.patch(DEPLOYMENTS, "d", {"spec": number}, strategic, "default")
        )
        assert error.code == 422 and "cannot convert float64 to int" in error.message
    error = await refused(
        client.patch(DEPLOYMENTS, "d", {"spec": {"replicas": 3.0}}, MERGE, "default")
    )
    assert error.code == 422


async def budget(client: LocalClient, allowed: int, **status: Any) -> None:
    made = await client.create(
        BUDGETS,
        {
            "metadata": {"name": "b", "namespace": "default"},
            "spec": {"minAvailable": 1, "selector": {"matchLabels": {"app": "a"}}},
        },
    )
    status = {
        "disruptionsAllowed": allowed,
        "currentHealthy": 1,
        "desiredHealthy": 1,
        "expectedPods": 1,
        "observedGeneration": made["metadata"].get("generation") or 0,
        **status,
    }
    await client.update(BUDGETS, {**made, "status": status}, subresource="status")


async def running_pod(client: LocalClient, ready: bool = True) -> None:
    made = copy_object(await pod(client))
    condition = {
        "type": "Ready",
        "status": "True" if ready else "False",
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    }
    made["status"] = {"phase": "Running", "conditions": [condition]}
    await client.update(PODS, made, subresource="status")


def eviction(**options: Any) -> dict[str, Any]:
    return {
        "apiVersion": "policy/v1",
        "kind": "Eviction",
        "metadata": {"name": "p", "namespace": "default"},
        **options,
    }


async def evict(client: LocalClient, **options: Any) -> dict[str, Any]:
    return await client.create(
        PODS, eviction(**options), "default", name="p", subresource="eviction"
    )


async def test_eviction_without_a_budget(client: LocalClient) -> None:
    await running_pod(client)
    assert (await evict(client))["status"] == "Success"
    assert (await refused(client.get(PODS, "p", "default"))).code == 404


async def test_eviction_takes_from_the_budget(client: LocalClient) -> None:
    await running_pod(client)
    await budget(client, 1)
    await evict(client)
    left = (await client.get(BUDGETS, "b", "default"))["status"]
    assert left["disruptionsAllowed"] == 0 and list(left["disruptedPods"]) == ["p"]


async def test_eviction_that_the_budget_refuses(client: LocalClient) -> None:
    await running_pod(client)
    await budget(client, 0)
    error = await refused(evict(client))
    assert (error.code, error.reason) == (429, "TooManyRequests")
    assert error.message == "Cannot evict pod as it would violate the pod's disruption budget."
    assert (error.details or {})["causes"] == [
        {
            "reason": "DisruptionBudget",
            "message": "The disruption budget b needs 1 healthy pods and has 1 currently",
        }
    ]
    assert (await client.get(PODS, "p", "default"))["status"]["phase"] == "Running"


async def test_eviction_of_an_unhealthy_pod(client: LocalClient) -> None:
    await running_pod(client, ready=False)
    await budget(client, 0, currentHealthy=2)
    await evict(client)
    assert (await refused(client.get(PODS, "p", "default"))).code == 404


async def test_eviction_dry_run(client: LocalClient) -> None:
    await running_pod(client)
    await budget(client, 1)
    await evict(client, deleteOptions={"dryRun": ["All"]})
    assert await client.get(PODS, "p", "default")
    assert (await client.get(BUDGETS, "b", "default"))["status"]["disruptionsAllowed"] == 1


async def test_ephemeral_containers(client: LocalClient) -> None:
    made = await pod(client)
    container = {"name": "debug", "image": "busybox"}
    patch = {"spec": {"ephemeralContainers": [container], "priority": 9}}
    kind: Any = "application/strategic-merge-patch+json"
    debugged = await client.patch(
        PODS, "p", patch, kind, "default", subresource="ephemeralcontainers"
    )
    (added,) = debugged["spec"]["ephemeralContainers"]
    assert debugged["metadata"]["generation"] == 2
    assert added["name"] == "debug" and added["terminationMessagePolicy"] == "File"
    assert debugged["spec"].get("priority") == made["spec"].get("priority")
    without = {**debugged, "spec": {**debugged["spec"], "ephemeralContainers": []}}
    error = await refused(client.update(PODS, without, subresource="ephemeralcontainers"))
    assert 'existing ephemeral containers "debug" may not be removed' in error.message


async def test_resize(client: LocalClient) -> None:
    resources = {"requests": {"cpu": "100m"}, "limits": {"cpu": "200m"}}
    containers = [{"name": "c", "image": "i", "resources": resources}]
    await pod(client, containers=containers)
    kind: Any = "application/strategic-merge-patch+json"
    wanted = {"requests": {"cpu": "150m"}}
    patch = {"spec": {"containers": [{"name": "c", "resources": wanted, "image": "other"}]}}
    resized = await client.patch(PODS, "p", patch, kind, "default", subresource="resize")
    assert resized["metadata"]["generation"] == 2
    (container,) = resized["spec"]["containers"]
    assert container["resources"]["requests"]["cpu"] == "150m"
    assert container["image"] == "i"


async def test_tokens_and_reviews(client: LocalClient, server: APIServer) -> None:
    allowed = await client.create(
        REVIEWS, {"spec": {"resourceAttributes": {"verb": "get", "resource": "pods"}}}
    )
    assert allowed["status"]["allowed"] is True
    error = await refused(
        client.create(ACCOUNTS, {"spec": {}}, "default", name="nobody", subresource="token")
    )
    assert error.message == 'serviceaccounts "nobody" not found'


async def scheduled(server: APIServer, client: LocalClient, **spec: Any) -> Kubelet:
    kubelet = Kubelet()
    server.local_nodes.register("n", kubelet)
    await client.create(NODES, {"metadata": {"name": "n"}})
    await pod(client, nodeName="n", **spec)
    return kubelet


async def test_logs(server: APIServer, client: LocalClient, http: aiohttp.ClientSession) -> None:
    kubelet = await scheduled(server, client)
    path = "/api/v1/namespaces/default/pods/p/log"
    async with http.get(f"{path}?follow=true&tailLines=5") as response:
        assert (response.status, await response.text()) == (200, "line 1\nline 2\n")
        assert response.headers["Content-Type"] == "text/plain"
    name = (await client.get(PODS, "p", "default"))["spec"]["containers"][0]["name"]
    assert kubelet.requests == [
        ("GET", f"/containerLogs/default/p/{name}", "follow=true&tailLines=5")
    ]
    async with http.get(f"{path}?container=x") as response:
        error = await response.json()
        assert (response.status, error["message"]) == (400, "container x is not valid for pod p")
    async with http.get(f"{path}?tailLines=-1") as response:
        error = await response.json()
        assert response.status == 422
        assert (
            "tailLines: Invalid value: -1: must be greater than or equal to 0" in error["message"]
        )
    assert await client.get(PODS, "p", "default", subresource="log") == "line 1\nline 2\n"


async def test_logs_over_a_websocket(
    server: APIServer, client: LocalClient, http: aiohttp.ClientSession
) -> None:
    await scheduled(server, client)
    path = "/api/v1/namespaces/default/pods/p/log"
    async with http.ws_connect(path, protocols=["binary.k8s.io"]) as socket:
        assert socket.protocol == "binary.k8s.io"
        assert [await socket.receive_bytes() for _ in range(3)] == [b"", b"line 1\n", b"line 2\n"]
        assert (await socket.receive()).type is aiohttp.WSMsgType.CLOSE
    async with http.ws_connect(path, protocols=["base64.binary.k8s.io"]) as socket:
        assert await socket.receive_str() == ""
        assert await socket.receive_str() == "bGluZSAxCg=="


async def test_a_watch_over_a_websocket(client: LocalClient, http: aiohttp.ClientSession) -> None:
    await pod(client)
    async with http.ws_connect("/api/v1/namespaces/default/pods?watch=1") as socket:
        event = await socket.receive_json()
        assert (event["type"], event["object"]["metadata"]["name"]) == ("ADDED", "p")
        await pod(client, "q")
        assert (await socket.receive_json())["object"]["metadata"]["name"] == "q"


async def test_logs_of_a_container_that_waits(
    server: APIServer, client: LocalClient, http: aiohttp.ClientSession
) -> None:
    await scheduled(server, client, containers=[{"name": "broken", "image": "i"}])
    async with http.get("/api/v1/namespaces/default/pods/p/log") as response:
        error = await response.json()
    assert response.status == 400 and "is waiting to start" in error["message"]


async def test_exec_hands_the_connection_over(server: APIServer, client: LocalClient) -> None:
    kubelet = await scheduled(server, client)
    host, port = server.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    path = "/api/v1/namespaces/default/pods/p/exec?command=ls&command=-l&stdin=true&stdout=1"
    writer.write(
        f"POST {path} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n"
        "Content-Length: 0\r\n\r\nabc".encode()
    )
    assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")
    assert await reader.readexactly(3) == b"cba"
    writer.write_eof()
    assert await reader.read() == b""
    writer.close()
    method, target, query = kubelet.requests[0]
    assert (method, query) == ("POST", "input=1&output=1&command=ls&command=-l")
    assert target.startswith("/exec/default/p/")


async def test_exec_errors_are_answered(
    server: APIServer, client: LocalClient, http: aiohttp.ClientSession
) -> None:
    await pod(client, "homeless")
    base = "/api/v1/namespaces/default/pods"
    upgrade = {"Connection": "Upgrade", "Upgrade": "websocket"}
    async with http.get(f"{base}/homeless/exec?command=ls", headers=upgrade) as response:
        error = await response.json()
    assert (response.status, error["message"]) == (
        400,
        "pod homeless does not have a host assigned",
    )
    await pod(client, "lost", nodeName="nowhere")
    async with http.get(f"{base}/lost/exec?command=ls", headers=upgrade) as response:
        error = await response.json()
    assert (response.status, error["message"]) == (404, 'nodes "nowhere" not found')
    async with http.post(f"{base}/lost/exec?command=ls") as response:
        error = await response.json()
    assert (response.status, error["message"]) == (400, "Upgrade request required")


async def test_node_proxy(
    server: APIServer, client: LocalClient, http: aiohttp.ClientSession
) -> None:
    kubelet = await scheduled(server, client)
    async with http.get("/api/v1/nodes/n/proxy/metrics/cadvisor?x=y%20z") as response:
        assert await response.text() == "line 1\nline 2\n"
    assert kubelet.requests[-1] == ("GET", "/metrics/cadvisor", "x=y%20z")
    async with http.get("/api/v1/nodes/n:10250/proxy/pods") as response:
        assert response.status == 200
    async with http.options("/api/v1/nodes/n/proxy/x") as response:
        assert response.status == 200
    assert kubelet.requests[-1][:2] == ("OPTIONS", "/x")
    async with http.options("/api/v1/nodes/n") as response:
        assert response.status == 405
    async with http.get("/api/v1/nodes/m/proxy/pods") as response:
        assert response.status == 404


async def test_pod_and_service_proxy_addresses(
    server: APIServer, client: LocalClient, http: aiohttp.ClientSession
) -> None:
    """Loopback must not be reachable through the API server."""
    made = copy_object(await pod(client))
    made["status"] = {"phase": "Running", "podIP": "127.0.0.1", "podIPs": [{"ip": "127.0.0.1"}]}
    await client.update(PODS, made, subresource="status")
    async with http.get("/api/v1/namespaces/default/pods/p:80/proxy/x") as response:
        error = await response.json()
    assert (response.status, error["message"]) == (400, "address not allowed")
    await client.create(
        SERVICES,
        {"metadata": {"name": "s", "namespace": "default"}, "spec": {"ports": [{"port": 80}]}},
    )
    async with http.get("/api/v1/namespaces/default/services/s/proxy/") as response:
        error = await response.json()
    assert (response.status, error["message"]) == (
        503,
        'no endpoints available for service "s"',
    )


async def test_what_is_not_there(http: aiohttp.ClientSession) -> None:
    for path in ("pods/p/nothing", "pods/p/binding/x/y", "configmaps/c/status"):
        async with http.get(f"/api/v1/namespaces/default/{path}") as response:
            assert response.status in (404, 405), path
