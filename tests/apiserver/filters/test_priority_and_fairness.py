"""Requests over HTTP: classes, headers, rejection, the objects that are kept."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from pilothouse.apimachinery.schema import GroupVersionResource
from pilothouse.apimachinery.testing import FakeClock
from pilothouse.apiserver.request.context import Response, UserInfo
from pilothouse.apiserver.request.info import parse_request_info
from pilothouse.apiserver.server import APIServer
from pilothouse.apiserver.testing import running_server

GROUP = "flowcontrol.apiserver.k8s.io"
SCHEMAS = GroupVersionResource(GROUP, "v1", "flowschemas")
LEVELS = GroupVersionResource(GROUP, "v1", "prioritylevelconfigurations")
CONFIG_MAPS = GroupVersionResource("", "v1", "configmaps")


@pytest.fixture
async def server() -> AsyncIterator[APIServer]:
    settings = {"authorization_mode": ("AlwaysAllow",)}
    async with running_server(serve=True, **settings) as running:
        await running.activity.settle()
        yield running


def level_of(server: APIServer, user: UserInfo, method: str, path: str, **query: Any) -> Any:
    control = server.flow_control
    assert control is not None
    chosen = control.classify(user, parse_request_info(method, path, query))
    return chosen.schema, chosen.level.name


async def test_classes(server: APIServer) -> None:
    everybody = ("system:authenticated",)
    node = UserInfo("system:node:a", ("system:nodes", *everybody))
    account = UserInfo("system:serviceaccount:x:y", ("system:serviceaccounts", *everybody))
    system = UserInfo("system:serviceaccount:kube-system:y", account.groups)
    manager = UserInfo("system:kube-controller-manager", everybody)
    pods = "/api/v1/namespaces/a/pods"
    lease = "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases/l"
    cases = [
        (UserInfo("a", ("system:masters", *everybody)), "GET", pods, "exempt", "exempt"),
        (UserInfo("a", everybody), "GET", "/readyz", "probes", "exempt"),
        (UserInfo("a", everybody), "GET", "/readyz/etcd", "probes", "exempt"),
        (UserInfo("a", everybody), "GET", pods, "global-default", "global-default"),
        (node, "PATCH", "/api/v1/nodes/a/status", "system-node-high", "node-high"),
        (node, "GET", pods, "system-nodes", "system"),
        (account, "GET", pods, "service-accounts", "workload-low"),
        (system, "GET", pods, "kube-system-service-accounts", "workload-high"),
        (system, "PUT", lease, "system-leader-election", "leader-election"),
        (manager, "PUT", lease, "system-leader-election", "leader-election"),
        (manager, "DELETE", lease, "kube-controller-manager", "workload-high"),
        (UserInfo("stranger"), "GET", pods, "catch-all", "catch-all"),
    ]
    for user, method, path, schema, level in cases:
        assert level_of(server, user, method, path) == (schema, level), (user.name, path)


async def test_headers_name_the_objects(server: APIServer) -> None:
    client = server.local_client()
    schema = await client.get(SCHEMAS, "global-default")
    level = await client.get(LEVELS, "global-default")
    async with aiohttp.ClientSession(server.url) as http:
        for path, code in (("/api/v1/pods", 200), ("/api/v1/namespaces/a/pods/none", 404)):
            async with http.get(path) as response:
                assert response.status == code
                found = response.headers
                assert found["X-Kubernetes-PF-FlowSchema-UID"] == schema["metadata"]["uid"]
                assert found["X-Kubernetes-PF-PriorityLevel-UID"] == level["metadata"]["uid"]
    (condition,) = schema["status"]["conditions"]
    assert (condition["type"], condition["status"]) == ("Dangling", "False")


async def test_too_many(server: APIServer) -> None:
    """A level that rejects: one request runs, the next is sent away."""
    client = server.local_client()
    limited = {
        "nominalConcurrencyShares": 1,
        "borrowingLimitPercent": 0,
        "limitResponse": {"type": "Reject"},
    }
    await client.create(
        LEVELS, {"metadata": {"name": "tight"}, "spec": {"type": "Limited", "limited": limited}}
    )
    everything = {
        "subjects": [{"kind": "User", "user": {"name": "*"}}],
        "nonResourceRules": [{"verbs": ["*"], "nonResourceURLs": ["/slow"]}],
    }
    spec = {
        "priorityLevelConfiguration": {"name": "tight"},
        "matchingPrecedence": 50,
        "rules": [everything],
    }
    await client.create(SCHEMAS, {"metadata": {"name": "tight"}, "spec": spec})
    assert server.flow_control is not None
    server.flow_control.reload()
    limit = server.flow_control.levels["tight"].queues
    assert limit is not None and limit.limit == 3
    held = asyncio.Event()

    async def slow(request: Any) -> Response:
        await held.wait()
        return Response(body=b"{}")

    server.api.routes["/slow"] = slow
    async with aiohttp.ClientSession(server.url) as http:
        running = [asyncio.create_task(http.get("/slow")) for _ in range(3)]
        while limit.executing < 3:  # noqa: ASYNC110
            await asyncio.sleep(0)
        async with http.get("/slow") as response:
            assert response.status == 429
            assert response.headers["Retry-After"] == "1"
            assert await response.text() == "Too many requests, please try again later.\n"
            assert response.headers["X-Kubernetes-PF-FlowSchema-UID"]
        async with http.get("/version") as other:
            assert other.status == 200
        held.set()
        assert [(await task).status for task in running] == [200, 200, 200]
        async with http.get("/metrics") as response:
            text = await response.text()
    name = "apiserver_flowcontrol_rejected_requests_total"
    labels = 'priority_level="tight",flow_schema="tight",reason="concurrency-limit"'
    assert f"{name}{{{labels}}} 1" in text
    assert limit.seats_in_use == 0


async def test_long_lists_make_way(server: APIServer) -> None:
    """While one is streamed, another client's request is answered between its chunks."""
    client = server.local_client()
    for i in range(400):
        body = {"metadata": {"name": f"c{i}"}, "data": {"x": "y" * 500}}
        await client.create(CONFIG_MAPS, body, "default")
    assert server.flow_control is not None
    server.flow_control.turns._budget = 1e-9
    async with aiohttp.ClientSession(server.url) as http:

        async def names(_: int) -> int:
            async with http.get("/api/v1/namespaces/default/configmaps") as response:
                return len((await response.json())["items"])

        assert await asyncio.gather(*map(names, range(5))) == [400] * 5
    levels = server.flow_control.levels.values()
    assert all(not level.queues or not level.queues.seats_in_use for level in levels)


async def test_mandatory_objects_come_back_at_once_suggested_ones_later(
    server: APIServer,
) -> None:
    client, clock = server.local_client(), server.clock
    assert isinstance(clock, FakeClock)
    await client.delete(SCHEMAS, "catch-all")
    await client.delete(SCHEMAS, "probes")
    await server.activity.settle()
    assert (await client.get(SCHEMAS, "catch-all"))["spec"]["matchingPrecedence"] == 10000
    names = {obj["metadata"]["name"] for obj in (await client.list(SCHEMAS)).items}
    assert "probes" not in names
    clock.advance(60)
    await server.activity.settle()
    await client.get(SCHEMAS, "probes")


async def test_changes_of_ours_are_undone_unless_marked(server: APIServer) -> None:
    client = server.local_client()

    async def change(note: str) -> int:
        level: Any = dict(await client.get(LEVELS, "workload-low"))
        limited = {**level["spec"]["limited"], "nominalConcurrencyShares": 7}
        level["spec"] = {**level["spec"], "limited": limited}
        notes = {"apf.kubernetes.io/autoupdate-spec": note}
        level["metadata"] = {**level["metadata"], "annotations": notes}
        await client.update(LEVELS, level)
        await server.activity.settle()
        found = await client.get(LEVELS, "workload-low")
        return int(found["spec"]["limited"]["nominalConcurrencyShares"])

    assert await change("true") == 100
    assert await change("false") == 7
