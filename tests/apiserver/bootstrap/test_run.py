"""A real API server after its bootstrap: what is there, and that a second start adds nothing."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from typing import Any

import pytest

from pilothouse.apimachinery.errors import StatusError
from pilothouse.apimachinery.schema import GroupVersionResource
from pilothouse.apimachinery.testing import FakeClock
from pilothouse.apiserver.authorization.bootstrap_policy import GROUP, bootstrap_objects
from pilothouse.apiserver.bootstrap.run import run_bootstrap
from pilothouse.apiserver.config import ServerConfig
from pilothouse.apiserver.request.context import UserInfo
from pilothouse.apiserver.server import APIServer
from pilothouse.apiserver.storage.memory import MemoryStorage

NAMESPACES = GroupVersionResource("", "v1", "namespaces")
SERVICES = GroupVersionResource("", "v1", "services")
ENDPOINTS = GroupVersionResource("", "v1", "endpoints")
SLICES = GroupVersionResource("discovery.k8s.io", "v1", "endpointslices")
ROLES = GroupVersionResource(GROUP, "v1", "clusterroles")
PODS = GroupVersionResource("", "v1", "pods")
CONFIG_MAPS = GroupVersionResource("", "v1", "configmaps")


async def start(**more: Any) -> APIServer:
    storage = more.pop("storage", None)
    config = ServerConfig(advertise_address="10.1.2.3", secure_port=0, **more)
    server = APIServer(config, FakeClock(), random.Random(1), storage=storage)
    server.post_start_hooks.append(("bootstrap", run_bootstrap))
    await server.start()
    return server


@pytest.fixture
async def server() -> AsyncIterator[APIServer]:
    made = await start()
    yield made
    await made.stop()


async def test_objects(server: APIServer) -> None:
    client = server.local_client()
    names = {o["metadata"]["name"] for o in (await client.list(NAMESPACES)).items}
    assert names == {"default", "kube-system", "kube-public", "kube-node-lease"}
    classes = GroupVersionResource("scheduling.k8s.io", "v1", "priorityclasses")
    values = {o["metadata"]["name"]: o["value"] for o in (await client.list(classes)).items}
    assert values == {"system-node-critical": 2000001000, "system-cluster-critical": 2000000000}
    for kind in ("ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding"):
        resource = GroupVersionResource(GROUP, "v1", f"{kind.lower()}s")
        written = {
            (o["metadata"].get("namespace"), o["metadata"]["name"])
            for o in (await client.list(resource)).items
        }
        # The role of an add-on that is built in here; it may be a moment later.
        written.discard((None, "system:aggregated-metrics-reader"))
        assert written == {
            (o["metadata"].get("namespace"), o["metadata"]["name"])
            for o in bootstrap_objects()
            if o["kind"] == kind
        }
    await client.get(CONFIG_MAPS, "extension-apiserver-authentication", "kube-system")


async def test_kubernetes_service(server: APIServer) -> None:
    client = server.local_client()
    spec = (await client.get(SERVICES, "kubernetes", "default"))["spec"]
    assert spec["clusterIP"] == "10.96.0.1"
    assert spec["ports"][0]["targetPort"] == server.port
    endpoints = await client.get(ENDPOINTS, "kubernetes", "default")
    assert endpoints["subsets"] == [
        {
            "addresses": [{"ip": "10.1.2.3"}],
            "ports": [{"name": "https", "port": server.port, "protocol": "TCP"}],
        }
    ]
    found = await client.get(SLICES, "kubernetes", "default")
    assert found["endpoints"][0]["addresses"] == ["10.1.2.3"]
    assert found["metadata"]["labels"]["kubernetes.io/service-name"] == "kubernetes"


async def test_comes_back_when_deleted(server: APIServer) -> None:
    client = server.local_client()
    await client.delete(SERVICES, "kubernetes", "default")
    await client.delete(ENDPOINTS, "kubernetes", "default")
    await server.activity.settle()
    assert (await client.get(SERVICES, "kubernetes", "default"))["spec"]["clusterIP"] == "10.96.0.1"
    assert (await client.get(ENDPOINTS, "kubernetes", "default"))["subsets"]


async def test_second_start_writes_nothing_but_the_port() -> None:
    storage = MemoryStorage(FakeClock())
    first = await start(storage=storage)
    await first.activity.settle()
    revision = await storage.current_revision()
    await run_bootstrap(first)
    assert await storage.current_revision() == revision
    await first.stop()


async def test_changed_role_is_completed(server: APIServer) -> None:
    client = server.local_client()
    role = dict(await client.get(ROLES, "cluster-admin"))
    await client.update(ROLES, {**role, "rules": []})
    await run_bootstrap(server)
    rules = (await client.get(ROLES, "cluster-admin"))["rules"]
    assert {"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]} in rules


async def test_authorization_through_the_server(server: APIServer) -> None:
    alice = server.local_client(UserInfo("alice", ("system:authenticated",)))
    with pytest.raises(StatusError) as caught:
        await alice.list(PODS, "default")
    assert caught.value.message == (
        'pods is forbidden: User "alice" cannot list resource "pods" in API group "" in the '
        'namespace "default"'
    )
    admin = server.local_client()
    bindings = GroupVersionResource(GROUP, "v1", "rolebindings")
    binding = {
        "metadata": {"name": "viewers"},
        "roleRef": {"apiGroup": GROUP, "kind": "ClusterRole", "name": "view"},
        "subjects": [{"apiGroup": GROUP, "kind": "User", "name": "alice"}],
    }
    await admin.create(bindings, binding, "default")
    assert (await alice.list(PODS, "default")).items == []
    with pytest.raises(StatusError):
        await alice.list(PODS, "kube-system")


async def test_escalation_through_the_server(server: APIServer) -> None:
    admin = server.local_client()
    roles = GroupVersionResource(GROUP, "v1", "roles")
    bindings = GroupVersionResource(GROUP, "v1", "rolebindings")
    binding = {
        "metadata": {"name": "admins"},
        "roleRef": {"apiGroup": GROUP, "kind": "ClusterRole", "name": "admin"},
        "subjects": [{"apiGroup": GROUP, "kind": "User", "name": "alice"}],
    }
    await admin.create(bindings, binding, "default")
    alice = server.local_client(UserInfo("alice", ("dev",)))
    rule = {"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]}
    await alice.create(roles, {"metadata": {"name": "ok"}, "rules": [rule]}, "default")
    rule = {"verbs": ["get"], "apiGroups": [""], "resources": ["nodes"]}
    with pytest.raises(StatusError) as caught:
        await alice.create(roles, {"metadata": {"name": "bad"}, "rules": [rule]}, "default")
    assert caught.value.message == (
        'roles.rbac.authorization.k8s.io "bad" is forbidden: user "alice" (groups=["dev"]) is '
        "attempting to grant RBAC permissions not currently held:\n"
        '{APIGroups:[""], Resources:["nodes"], Verbs:["get"]}'
    )


async def test_quota_through_the_server(server: APIServer) -> None:
    client = server.local_client()
    quotas = GroupVersionResource("", "v1", "resourcequotas")
    hard = {"count/configmaps": "1"}
    quota = {"metadata": {"name": "q"}, "spec": {"hard": hard}}
    created = await client.create(quotas, quota, "default")
    status = {"hard": hard, "used": {"count/configmaps": "0"}}
    await client.update(quotas, {**created, "status": status}, subresource="status")
    await client.create(CONFIG_MAPS, {"metadata": {"name": "one"}}, "default")
    used = (await client.get(quotas, "q", "default"))["status"]["used"]
    assert used == {"count/configmaps": "1"}
    with pytest.raises(StatusError, match="exceeded quota: q, requested: count/configmaps=1"):
        await client.create(CONFIG_MAPS, {"metadata": {"name": "two"}}, "default")


async def test_tokens_and_reviews_through_the_server(server: APIServer) -> None:
    client = server.local_client()
    accounts = GroupVersionResource("", "v1", "serviceaccounts")
    await client.create(accounts, {"metadata": {"name": "bot"}}, "default")
    answer = await client.create(accounts, {"spec": {}}, "default", name="bot", subresource="token")
    token = answer["status"]["token"]
    reviews = GroupVersionResource("authentication.k8s.io", "v1", "tokenreviews")
    status = (await client.create(reviews, {"spec": {"token": token}}))["status"]
    assert status["authenticated"] is True
    assert status["user"]["username"] == "system:serviceaccount:default:bot"


async def test_loopback_only_has_no_endpoints() -> None:
    config = ServerConfig(secure_port=0)
    server = APIServer(config, FakeClock(), random.Random(1))
    server.post_start_hooks.append(("bootstrap", run_bootstrap))
    await server.start()
    client = server.local_client()
    await client.get(SERVICES, "kubernetes", "default")
    with pytest.raises(StatusError, match="not found"):
        await client.get(ENDPOINTS, "kubernetes", "default")
    await server.stop()
