"""Requests through the aggregator to a real second API server."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from pilothouse.apimachinery.errors import StatusError
from pilothouse.apimachinery.schema import GroupVersionResource
from pilothouse.apiserver.request.context import UserInfo
from pilothouse.apiserver.testing import running_server

API_SERVICES = GroupVersionResource("apiregistration.k8s.io", "v1", "apiservices")
SERVICES = GroupVersionResource("", "v1", "services")
FLUNDERS = GroupVersionResource("wardle.example.com", "v1", "flunders")
FLUNDER = {
    "apiVersion": "wardle.example.com/v1",
    "kind": "Flunder",
    "metadata": {"name": "one", "namespace": "default"},
    "spec": {"size": 3},
}
PATH = "/apis/wardle.example.com/v1/namespaces/default/flunders"
AGGREGATED = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"


def session(pair: Any, *, client: str = "admin") -> aiohttp.ClientSession:
    """A client with a certificate of the cluster's administrator."""
    pair.pki.client(client)
    context = ssl.create_default_context(cafile=str(pair.pki.crt("ca")))
    context.load_cert_chain(pair.pki.crt(client), pair.pki.key(client))
    return aiohttp.ClientSession(pair.main.url, connector=aiohttp.TCPConnector(ssl=context))


async def test_an_extension_answers_for_its_group(pair: Any) -> None:
    await pair.register()
    assert await pair.condition() | {"lastTransitionTime": ""} == {
        "type": "Available",
        "status": "True",
        "lastTransitionTime": "",
        "reason": "Passed",
        "message": "all checks passed",
    }
    async with session(pair) as http:
        async with http.post(PATH, json=FLUNDER) as answer:
            assert answer.status == 201
            made = await answer.json()
        async with http.get(PATH) as answer:
            listed = await answer.json()
            assert len(answer.headers.getall("Audit-Id")) == 1
        async with http.get(f"{PATH}/none") as answer:
            missing = await answer.json()
            assert answer.status == 404
    assert [item["metadata"]["uid"] for item in listed["items"]] == [made["metadata"]["uid"]]
    assert missing["reason"] == "NotFound"
    stored = await pair.extension.local_client().get(FLUNDERS, "one", "default")
    assert stored["spec"] == {"size": 3}


async def test_the_extension_learns_who_asks(pair: Any) -> None:
    await pair.register()
    bob = UserInfo("bob", ("devs", "system:authenticated"), "u1", (("scopes", ("a", "b")),))
    await _allow(pair, "bob")
    with pytest.raises(StatusError) as refused:
        await pair.main.local_client(bob).list(FLUNDERS, "default")
    # Ours let him through; the extension asks its own RBAC about the user it was told.
    assert refused.value.code == 403
    assert 'User "bob" cannot list resource "flunders"' in str(refused.value)


async def _allow(pair: Any, user: str) -> None:
    client = pair.main.local_client()
    rbac = "rbac.authorization.k8s.io"
    rules = [{"apiGroups": ["wardle.example.com"], "resources": ["*"], "verbs": ["*"]}]
    role = {"metadata": {"name": "all"}, "rules": rules}
    await client.create(GroupVersionResource(rbac, "v1", "clusterroles"), role)
    binding = {
        "metadata": {"name": "all"},
        "roleRef": {"apiGroup": rbac, "kind": "ClusterRole", "name": "all"},
        "subjects": [{"apiGroup": rbac, "kind": "User", "name": user}],
    }
    await client.create(GroupVersionResource(rbac, "v1", "clusterrolebindings"), binding)


async def test_a_client_cannot_name_itself_another(pair: Any) -> None:
    await pair.register()
    async with session(pair, client="scheduler") as http:
        headers = {"X-Remote-User": "admin", "X-Remote-Group": "system:masters"}
        async with http.get(PATH, headers=headers) as answer:
            assert answer.status == 403
            assert "system:kube-scheduler" in (await answer.json())["message"]


async def test_watches_pass_through(pair: Any) -> None:
    await pair.register()
    async with session(pair) as http, http.get(f"{PATH}?watch=true") as answer:
        assert answer.status == 200
        await pair.extension.local_client().create(FLUNDERS, FLUNDER)
        line = await answer.content.readline()
        assert b'"type":"ADDED"' in line and b'"name":"one"' in line


async def test_upgraded_connections_pass_through(pair: Any) -> None:
    await pair.register()
    async with session(pair) as http, http.ws_connect(f"{PATH}?watch=true") as socket:
        await pair.extension.local_client().create(FLUNDERS, FLUNDER)
        event = await socket.receive_json()
        assert (event["type"], event["object"]["metadata"]["name"]) == ("ADDED", "one")


async def test_components_in_the_process_use_it_like_any_other_resource(pair: Any) -> None:
    await pair.register()
    client = pair.main.local_client()
    watch = await client.watch(FLUNDERS, "default")
    made = await client.create(FLUNDERS, FLUNDER)
    async for batch in watch:
        if seen := [(e.type, e.object["metadata"]["uid"]) for e in batch if e.type != "BOOKMARK"]:
            assert seen == [("ADDED", made["metadata"]["uid"])]
            break
    await watch.close()
    changed = await client.patch(
        FLUNDERS, "one", {"spec": {"size": 5}}, "application/merge-patch+json", "default"
    )
    assert changed["spec"]["size"] == 5
    assert len((await client.list(FLUNDERS, "default")).items) == 1
    await client.delete(FLUNDERS, "one", "default")
    with pytest.raises(StatusError) as gone:
        await client.get(FLUNDERS, "one", "default")
    assert gone.value.code == 404


async def test_discovery_is_merged(pair: Any) -> None:
    client = pair.main.local_client()
    assert "wardle.example.com" not in str(await client.request("GET", "/apis"))
    await pair.register()
    groups = (await client.request("GET", "/apis"))["groups"]
    names = [group["name"] for group in groups]
    assert names[0] == "apiregistration.k8s.io"
    assert names[-2:] == ["wardle.example.com", "metrics.k8s.io"]
    group = await client.request("GET", "/apis/wardle.example.com")
    assert group["preferredVersion"] == {"groupVersion": "wardle.example.com/v1", "version": "v1"}
    resources = await client.request("GET", "/apis/wardle.example.com/v1")
    assert [each["name"] for each in resources["resources"]] == ["flunders"]
    async with session(pair) as http, http.get("/apis", headers={"Accept": AGGREGATED}) as answer:
        document = await answer.json(content_type=None)
    (version,) = document["items"][-2]["versions"]
    assert version["freshness"] == "Current"
    assert version["resources"][0]["shortNames"] == ["fl"]


async def test_an_extension_that_is_gone_is_stale_and_unavailable(pair: Any) -> None:
    await pair.register()
    await pair.main.local_client().delete(SERVICES, "sample-api", "default")
    await pair.main.activity.settle()
    condition = await pair.condition()
    assert (condition["status"], condition["reason"]) == ("False", "ServiceNotFound")
    assert condition["message"] == 'service/sample-api in "default" is not present'
    async with session(pair) as http:
        async with http.get(PATH) as answer:
            assert answer.status == 503
            assert await answer.text() == "service unavailable\n"
        async with http.get("/apis", headers={"Accept": AGGREGATED}) as answer:
            document = await answer.json(content_type=None)
        async with http.get("/metrics") as answer:
            text = await answer.text()
    (version,) = document["items"][-2]["versions"]
    assert version == {"version": "v1", "resources": [], "freshness": "Stale"}
    name = 'name="v1.wardle.example.com"'
    assert f"aggregator_unavailable_apiservice{{{name}}} 1\n" in text
    assert f'aggregator_unavailable_apiservice_total{{{name},reason="ServiceNotFound"}} 1\n' in text
    await pair.main.local_client().create(SERVICES, pair.service())
    await pair.main.activity.settle()
    assert (await pair.condition())["reason"] == "Passed"


async def test_a_server_that_does_not_answer_fails_the_discovery_check(pair: Any) -> None:
    await pair.register(caBundle=None, insecureSkipTLSVerify=True)
    assert (await pair.condition())["reason"] == "Passed"
    await pair.extension.stop(grace=0)
    pair.main.clock.advance(31)
    await pair.main.activity.settle()
    condition = await pair.condition()
    assert (condition["status"], condition["reason"]) == ("False", "FailedDiscoveryCheck")
    port = pair.extension.port
    url = f"https://localhost:{port}/apis/wardle.example.com/v1"
    assert condition["message"].startswith(f'failing or missing response from {url}: Get "{url}":')


async def test_a_certificate_of_another_authority_is_refused(pair: Any) -> None:
    await pair.register(caBundle=_bundle(pair, "front-proxy-ca"))
    condition = await pair.condition()
    assert condition["reason"] == "FailedDiscoveryCheck"
    assert "certificate" in condition["message"].lower()


def _bundle(pair: Any, name: str) -> str:
    import base64

    return base64.b64encode(pair.pki.crt(name).read_bytes()).decode()


async def test_deleting_the_api_service_takes_the_group_away(pair: Any) -> None:
    await pair.register()
    client = pair.main.local_client()
    await client.delete(API_SERVICES, "v1.wardle.example.com")
    await pair.main.activity.settle()
    with pytest.raises(StatusError) as gone:
        await client.list(FLUNDERS, "default")
    assert gone.value.code == 404
    assert "wardle.example.com" not in str(await client.request("GET", "/apis"))
    assert pair.main.api.aggregated is None


async def test_openapi_is_merged(pair: Any) -> None:
    client = pair.main.local_client()
    await pair.register()
    v2 = await client.request("GET", "/openapi/v2")
    assert PATH.replace("default", "{namespace}") in v2["paths"]
    assert "com.example.wardle.v1.Flunder" in v2["definitions"]
    index = await client.request("GET", "/openapi/v3")
    url = index["paths"]["apis/wardle.example.com/v1"]["serverRelativeURL"]
    assert "?hash=" in url
    document = await client.request("GET", url)
    assert "com.example.wardle.v1.Flunder" in document["components"]["schemas"]
    async with session(pair) as http:
        form = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf"
        async with http.get("/openapi/v2", headers={"Accept": form}) as answer:
            assert b"com.example.wardle.v1.Flunder" in await answer.read()


async def test_an_extension_without_openapi_v3_has_its_v2_converted(pair: Any) -> None:
    del pair.extension.api.routes["/openapi/v3"]
    await pair.register()
    client = pair.main.local_client()
    index = await client.request("GET", "/openapi/v3")
    url = index["paths"]["apis/wardle.example.com/v1"]["serverRelativeURL"]
    document = await client.request("GET", url)
    schema = document["components"]["schemas"]["com.example.wardle.v1.Flunder"]
    assert schema["properties"]["metadata"]["$ref"].startswith("#/components/schemas/")


async def test_a_remote_group_version_stands_in_the_place_of_ours(pair: Any) -> None:
    client = pair.main.local_client()
    await client.create(SERVICES, pair.service())
    batch = await client.get(API_SERVICES, "v1.batch")
    spec = pair.api_service()["spec"]
    extra = {key: spec[key] for key in ("service", "caBundle")}
    await client.update(API_SERVICES, {**batch, "spec": batch["spec"] | extra})
    await pair.main.activity.settle()
    jobs = GroupVersionResource("batch", "v1", "jobs")
    assert (await client.list(jobs, "default")).items == []
    job = {"metadata": {"name": "theirs", "namespace": "default"}, "spec": {"template": TEMPLATE}}
    await client.create(jobs, job)
    assert (await pair.extension.local_client().get(jobs, "theirs", "default"))["spec"]
    await client.update(API_SERVICES, await _without_service(pair))
    await pair.main.activity.settle()
    assert (await client.list(jobs, "default")).items == []
    condition = (await client.get(API_SERVICES, "v1.batch"))["status"]["conditions"][0]
    assert condition["reason"] == "Local"


async def _without_service(pair: Any) -> dict[str, Any]:
    live = await pair.main.local_client().get(API_SERVICES, "v1.batch")
    spec = {k: v for k, v in live["spec"].items() if k not in ("service", "caBundle")}
    return {**live, "spec": spec}


TEMPLATE = {
    "spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "busybox"}]},
}


async def test_a_restarted_server_knows_its_extensions(pair: Any, tmp_path: Path) -> None:
    settings = {"storage": "sqlite", "data_dir": str(tmp_path / "data")}
    proxy = {
        name: getattr(pair.main.config, name)
        for name in ("proxy_client_cert_file", "proxy_client_key_file")
    }
    (tmp_path / "data").mkdir()
    for turn in range(2):
        async with running_server(**settings, **proxy) as server:
            client = server.local_client()
            if not turn:
                await client.create(SERVICES, pair.service())
                await client.create(API_SERVICES, pair.api_service())
            await server.activity.settle()
            assert (await client.list(FLUNDERS, "default")).items == []
            names = [each["name"] for each in (await client.request("GET", "/apis"))["groups"]]
            assert "wardle.example.com" in names
