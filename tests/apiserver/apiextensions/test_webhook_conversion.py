"""Custom resources whose versions a webhook converts, with a real HTTPS webhook."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import AsyncIterator
from typing import Any

import orjson
import pytest

from pilothouse.apimachinery.errors import StatusError
from pilothouse.apimachinery.schema import GroupVersionResource
from pilothouse.apiserver.apiextensions.controller import CRDS
from pilothouse.apiserver.apiextensions.webhook_conversion import (
    InvalidConversion,
    checked,
    converted_objects,
)
from pilothouse.apiserver.local import LocalClient
from pilothouse.apiserver.server import APIServer
from pilothouse.apiserver.webhook.testing import WebhookServer
from pilothouse.kubeclient.interfaces import ListOptions

V1 = GroupVersionResource("example.com", "v1", "widgets")
V2 = GroupVersionResource("example.com", "v2", "widgets")
PATH = "/convert"
MERGE: Any = "application/merge-patch+json"
APPLY: Any = "application/apply-patch+yaml"


def convert(obj: dict[str, Any], desired: str) -> dict[str, Any]:
    """v1 has ``hostPort: h:p``, v2 ``host`` and ``port``."""
    spec = dict(obj.get("spec") or {})
    if desired.endswith("v2") and "hostPort" in spec:
        spec["host"], _, spec["port"] = spec.pop("hostPort").partition(":")
    elif desired.endswith("v1") and "host" in spec:
        spec["hostPort"] = f"{spec.pop('host')}:{spec.pop('port', '')}"
    return {**obj, "apiVersion": desired, "spec": spec}


def answer(review: dict[str, Any]) -> dict[str, Any]:
    request = review["request"]
    desired = request["desiredAPIVersion"]
    objects = [convert(obj, desired) for obj in request["objects"]]
    return {"convertedObjects": objects, "result": {"status": "Success"}}


@pytest.fixture
async def hooks() -> AsyncIterator[WebhookServer]:
    async with WebhookServer() as server:
        server.on(PATH, answer)
        yield server


def definition(make: Any, hooks: WebhookServer, *, storage: str = "v1") -> dict[str, Any]:
    text = {"type": "string"}
    v1 = make.spec(hostPort=text, size={"type": "integer", "default": 1})
    v2 = make.spec(host=text, port=text, size={"type": "integer"})
    crd: dict[str, Any] = make.crd(
        make.version("v1", v1, storage=storage == "v1"),
        make.version(
            "v2", v2, storage=storage == "v2", selectableFields=[{"jsonPath": ".spec.host"}]
        ),
    )
    crd["spec"]["conversion"] = {
        "strategy": "Webhook",
        "webhook": {
            "clientConfig": hooks.client_config(PATH),
            "conversionReviewVersions": ["v1", "v1beta1"],
        },
    }
    return crd


@pytest.fixture
async def crd(
    server: APIServer, client: LocalClient, make: Any, hooks: WebhookServer
) -> dict[str, Any]:
    await client.create(CRDS, definition(make, hooks))
    await server.activity.settle()
    found: dict[str, Any] = await client.get(CRDS, "widgets.example.com")
    return found


def widget(name: str, version: str = "v1", **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": f"example.com/{version}",
        "kind": "Widget",
        "metadata": {"name": name, "namespace": "default"},
        "spec": spec,
    }


async def read(client: LocalClient, gvr: GroupVersionResource, name: str) -> dict[str, Any]:
    found: dict[str, Any] = await client.get(gvr, name, "default")
    return found


async def test_reads_convert_and_the_storage_version_never_asks(
    client: LocalClient, crd: Any, hooks: WebhookServer
) -> None:
    await client.create(V1, widget("a", hostPort="h:80"))
    found = await read(client, V1, "a")
    assert found["spec"] == {"hostPort": "h:80", "size": 1}
    assert (await client.list(V1, "default")).items
    assert not hooks.reviews
    found = await read(client, V2, "a")
    assert found["spec"] == {"host": "h", "port": "80", "size": 1}
    assert found["apiVersion"] == "example.com/v2"
    asked = hooks.reviews[PATH]
    assert len(asked) == 1
    assert asked[0]["kind"] == "ConversionReview"
    assert asked[0]["apiVersion"] == "apiextensions.k8s.io/v1"
    assert asked[0]["request"]["desiredAPIVersion"] == "example.com/v2"
    assert hooks.targets == [f"{PATH}?timeout=30s"]


async def test_metrics(
    server: APIServer, client: LocalClient, crd: Any, hooks: WebhookServer
) -> None:
    await client.create(V1, widget("a", hostPort="h:80"))
    await read(client, V2, "a")
    hooks.on(PATH, lambda review: {"convertedObjects": [], "result": {"status": "Success"}})
    await client.patch(V1, "a", {"spec": {"hostPort": "i:1"}}, MERGE, "default")
    with pytest.raises(StatusError):
        await read(client, V2, "a")
    hooks.on(PATH, lambda review: {"result": {"status": "Failure", "message": "no"}})
    with pytest.raises(StatusError):
        await read(client, V2, "a")
    text = server.metrics.text()
    labels = 'crd_name="widgets.example.com",from_version="v1",to_version="v2",succeeded='
    name = "apiserver_crd_conversion_webhook_duration_seconds_count"
    assert f'{name}{{{labels}"true"}} 1' in text
    assert f'{name}{{{labels}"false"}} ' in text
    requests: Any = server.metrics.get("apiserver_conversion_webhook_request_total")
    assert requests.values[("success", "")] == 1
    failures = {kind for result, kind in requests.values if result == "failure"}
    assert failures == {
        "conversion_webhook_partial_response_failure",
        "conversion_webhook_malformed_response_failure",
    }


async def test_an_object_is_converted_once_per_version(
    client: LocalClient, crd: Any, hooks: WebhookServer
) -> None:
    await client.create(V1, widget("a", hostPort="h:80"))
    for _ in range(3):
        await read(client, V2, "a")
        await client.list(V2, "default")
    assert len(hooks.reviews[PATH]) == 1
    await client.patch(V1, "a", {"spec": {"hostPort": "i:1"}}, MERGE, "default")
    assert (await read(client, V2, "a"))["spec"]["host"] == "i"
    await read(client, V2, "a")
    assert len(hooks.reviews[PATH]) == 2


async def test_a_list_is_one_review(client: LocalClient, crd: Any, hooks: WebhookServer) -> None:
    for i in range(20):
        await client.create(V1, widget(f"w{i:02}", hostPort=f"h{i}:80"))
    listed = await client.list(V2, "default")
    assert [item["spec"]["host"] for item in listed.items] == [f"h{i}" for i in range(20)]
    assert [len(r["request"]["objects"]) for r in hooks.reviews[PATH]] == [20]


async def test_writes_in_another_version_are_stored_in_the_storage_version(
    server: APIServer, client: LocalClient, crd: Any, hooks: WebhookServer
) -> None:
    created = await client.create(V2, widget("a", "v2", host="h", port="80"))
    # The default of the stored version, since the answer is what a read would give.
    assert created["spec"] == {"host": "h", "port": "80", "size": 1}
    stored = await server.storage.get("/registry/example.com/widgets/default/a")
    assert stored is not None
    value = orjson.loads(stored.value)
    assert value["apiVersion"] == "example.com/v1"
    assert value["spec"] == {"hostPort": "h:80"}
    assert (await read(client, V1, "a"))["spec"] == {"hostPort": "h:80", "size": 1}
    changed = {**created, "spec": {**created["spec"], "port": "81"}}
    updated = await client.update(V2, changed)
    assert updated["spec"]["port"] == "81"
    assert updated["metadata"]["generation"] == 2
    assert (await read(client, V1, "a"))["spec"]["hostPort"] == "h:81"
    patched = await client.patch(V2, "a", {"spec": {"host": "x"}}, MERGE, "default")
    assert patched["spec"]["host"] == "x"
    assert (await read(client, V2, "a"))["metadata"]["resourceVersion"] == (
        patched["metadata"]["resourceVersion"]
    )


async def test_an_update_without_a_change_writes_nothing(
    client: LocalClient, crd: Any, hooks: WebhookServer
) -> None:
    await client.create(V2, widget("a", "v2", host="h", port="80"))
    before = await read(client, V2, "a")
    after = await client.update(V2, before)
    assert after["metadata"]["resourceVersion"] == before["metadata"]["resourceVersion"]


async def test_stale_updates_conflict(client: LocalClient, crd: Any) -> None:
    first = await client.create(V2, widget("a", "v2", host="h", port="80"))
    await client.patch(V1, "a", {"spec": {"hostPort": "i:1"}}, MERGE, "default")
    with pytest.raises(StatusError) as caught:
        await client.update(V2, first)
    assert caught.value.code == 409
    with pytest.raises(StatusError, match="already exists"):
        await client.create(V2, widget("a", "v2", host="h", port="80"))


async def test_watches_see_their_version(
    client: LocalClient, crd: Any, hooks: WebhookServer
) -> None:
    await client.create(V1, widget("a", hostPort="h:80"))
    listed = await client.list(V2, "default")
    watch = await client.watch(V2, "default", ListOptions(resource_version=listed.resource_version))
    await client.create(V1, widget("b", hostPort="i:1"))
    await client.create(V2, widget("c", "v2", host="j", port="2"))
    await client.patch(V1, "a", {"spec": {"hostPort": "k:3"}}, MERGE, "default")
    await client.delete(V1, "b", "default")
    seen: list[tuple[str, str, str]] = []
    async with asyncio.timeout(5):
        async for batch in watch:
            seen += [
                (e.type, e.object["metadata"]["name"], e.object["spec"]["host"]) for e in batch
            ]
            if len(seen) >= 4:
                break
    await watch.close()
    assert seen == [
        ("ADDED", "b", "i"),
        ("ADDED", "c", "j"),
        ("MODIFIED", "a", "k"),
        ("DELETED", "b", "i"),
    ]


async def test_a_failing_webhook_fails_what_needs_it(
    client: LocalClient, crd: Any, hooks: WebhookServer
) -> None:
    await client.create(V1, widget("a", hostPort="h:80"))
    hooks.on(PATH, lambda review: {"result": {"status": "Failure", "message": "no way"}})
    for call in (
        lambda: read(client, V2, "a"),
        lambda: client.list(V2, "default"),
        lambda: client.create(V2, widget("b", "v2", host="h", port="1")),
        lambda: client.delete(V2, "a", "default"),
    ):
        with pytest.raises(StatusError) as caught:
            await call()  # type: ignore[no-untyped-call]
        assert caught.value.code == 500
        assert "conversion webhook for example.com/v" in caught.value.message
        assert "Kind=Widget failed: no way" in caught.value.message
    assert (await read(client, V1, "a"))["spec"]["hostPort"] == "h:80"
    hooks.on(PATH, answer)
    assert (await read(client, V2, "a"))["spec"]["host"] == "h"
    await client.delete(V2, "a", "default")


async def test_errors_of_reads_and_writes(
    client: LocalClient, crd: Any, hooks: WebhookServer
) -> None:
    made = await client.create(V1, widget("a", hostPort="h:80"))
    hooks.on(PATH, lambda review: {"result": {"status": "Failure", "message": "no way"}})
    with pytest.raises(StatusError) as caught:
        await read(client, V2, "a")
    assert (caught.value.reason, caught.value.message) == (
        "InternalError",
        "Internal error occurred: StorageError: corrupt object, Code: 7, Key: "
        "/example.com/widgets/default/a, ResourceVersion: 0, AdditionalErrorMsg: object not "
        f"decodable revision={made['metadata']['resourceVersion']}: conversion webhook for "
        "example.com/v1, Kind=Widget failed: no way",
    )
    with pytest.raises(StatusError) as caught:
        await client.create(V2, widget("b", "v2", host="h", port="80"))
    assert (caught.value.reason, caught.value.message) == (
        "",
        "conversion webhook for example.com/v2, Kind=Widget failed: no way",
    )


async def test_one_broken_object_does_not_hide_the_others(
    client: LocalClient, crd: Any, hooks: WebhookServer
) -> None:
    await client.create(V1, widget("good", hostPort="h:80"))
    await client.create(V1, widget("bad", hostPort="x:80"))

    def picky(review: dict[str, Any]) -> dict[str, Any]:
        reply = answer(review)
        for obj in reply["convertedObjects"]:
            if obj["metadata"]["name"] == "bad":
                obj["kind"] = "Other"
        return reply

    hooks.on(PATH, picky)
    with pytest.raises(StatusError, match=r"default/bad, .* invalid kind"):
        await client.list(V2, "default")
    assert (await read(client, V2, "good"))["spec"]["host"] == "h"
    made = await client.create(V2, widget("new", "v2", host="i", port="1"))
    assert made["spec"]["host"] == "i"
    await client.patch(V2, "good", {"spec": {"host": "j"}}, MERGE, "default")
    await client.delete(V2, "new", "default")
    with pytest.raises(StatusError, match="invalid kind"):
        await read(client, V2, "bad")
    assert (await read(client, V1, "good"))["spec"]["hostPort"] == "j:80"


async def test_failure_in_the_middle_ends_watches_and_recovers(
    client: LocalClient, crd: Any, hooks: WebhookServer
) -> None:
    await client.list(V2, "default")
    hooks.on(PATH, lambda review: (500, b"broken"))
    await client.create(V1, widget("a", hostPort="h:80"))
    with pytest.raises(StatusError, match="broken"):
        await read(client, V2, "a")
    hooks.on(PATH, answer)
    assert (await read(client, V2, "a"))["spec"]["host"] == "h"


async def test_apply_in_another_version(client: LocalClient, crd: Any) -> None:
    obj = widget("a", "v2", host="h", port="80")
    made = await client.patch(V2, "a", obj, APPLY, "default", field_manager="tester")
    assert made["spec"] == {"host": "h", "port": "80", "size": 1}
    obj["spec"] = {"host": "i", "port": "80"}
    made = await client.patch(V2, "a", obj, APPLY, "default", field_manager="tester")
    assert made["spec"]["host"] == "i"
    (entry,) = made["metadata"]["managedFields"]
    assert (entry["manager"], entry["apiVersion"]) == ("tester", "example.com/v2")


def owned(obj: dict[str, Any]) -> dict[str, list[str]]:
    """Which fields of the spec each manager owns."""
    found = {}
    for entry in obj["metadata"]["managedFields"]:
        fields = entry["fieldsV1"].get("f:spec") or {}
        found[entry["manager"]] = sorted(fields)
    return found


async def test_managers_of_other_versions(client: LocalClient, crd: Any) -> None:
    first = widget("a", hostPort="h:80", size=3)
    await client.patch(V1, "a", first, APPLY, "default", field_manager="one")
    second = widget("a", "v2", host="i")
    with pytest.raises(StatusError) as caught:
        await client.patch(V2, "a", second, APPLY, "default", field_manager="two")
    assert caught.value.code == 409
    assert caught.value.message == (
        'Apply failed with 1 conflict: conflict with "one": .spec.hostPort'
    )
    made = await client.patch(V2, "a", second, APPLY, "default", field_manager="two", force=True)
    assert owned(made) == {"one": ["f:size"], "two": ["f:host"]}
    made = await client.patch(V2, "a", {"spec": {"size": 4}}, MERGE, "default", field_manager="x")
    assert owned(made) == {"two": ["f:host"], "x": ["f:size"]}


async def test_storage_version_moves_on(
    server: APIServer, client: LocalClient, crd: Any, make: Any, hooks: WebhookServer
) -> None:
    await client.create(V1, widget("a", hostPort="h:80"))
    live = copy.deepcopy(await client.get(CRDS, "widgets.example.com"))
    live["spec"]["versions"][0]["storage"] = False
    live["spec"]["versions"][1]["storage"] = True
    await client.update(CRDS, live)
    await server.activity.settle()
    assert (await read(client, V2, "a"))["spec"]["host"] == "h"
    await client.update(V2, await read(client, V2, "a"))
    stored = await server.storage.get("/registry/example.com/widgets/default/a")
    assert stored is not None
    assert orjson.loads(stored.value)["apiVersion"] == "example.com/v2"


async def test_field_selectors_of_a_converted_version(client: LocalClient, crd: Any) -> None:
    await client.create(V1, widget("a", hostPort="h:80"))
    await client.create(V1, widget("b", hostPort="i:80"))
    options = ListOptions(field_selector="spec.host=i")
    listed = await client.list(V2, "default", options)
    assert [item["metadata"]["name"] for item in listed.items] == ["b"]
    with pytest.raises(StatusError, match="field label not supported"):
        await client.list(V1, "default", options)


async def test_deleting_the_definition_deletes_its_objects(
    server: APIServer, client: LocalClient, crd: Any
) -> None:
    await client.create(V2, widget("a", "v2", host="h", port="80"))
    await client.delete(CRDS, "widgets.example.com")
    await server.activity.settle()
    assert await server.storage.get("/registry/example.com/widgets/default/a") is None


async def test_beta_reviews(
    server: APIServer, client: LocalClient, make: Any, hooks: WebhookServer
) -> None:
    crd = definition(make, hooks)
    crd["spec"]["conversion"]["webhook"]["conversionReviewVersions"] = ["v1beta1"]
    await client.create(CRDS, crd)
    await server.activity.settle()
    await client.create(V1, widget("a", hostPort="h:80"))
    assert (await read(client, V2, "a"))["spec"]["host"] == "h"
    assert hooks.reviews[PATH][0]["apiVersion"] == "apiextensions.k8s.io/v1beta1"


ORIGINAL = {
    "apiVersion": "example.com/v1",
    "kind": "Widget",
    "metadata": {"name": "a", "namespace": "n", "uid": "u", "generation": 3},
}


def test_only_labels_and_annotations_are_taken() -> None:
    converted = {
        **ORIGINAL,
        "apiVersion": "example.com/v2",
        "metadata": {**ORIGINAL["metadata"], "generation": 9, "labels": {"a": "b"}},  # type: ignore[dict-item]
    }
    found = checked(ORIGINAL, converted, "example.com/v2")
    assert found["metadata"] == {**ORIGINAL["metadata"], "labels": {"a": "b"}}  # type: ignore[dict-item]


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"apiVersion": "example.com/v3"}, "invalid groupVersion"),
        ({"kind": "Other"}, "invalid kind"),
        ({"metadata": {"name": "b", "namespace": "n", "uid": "u"}}, "must have the same name"),
        ({"metadata": {"name": "a", "namespace": "n", "uid": "x"}}, "must have the same UID"),
        ({"metadata": {**ORIGINAL["metadata"], "labels": {"a": 1}}}, "must be a string"),  # type: ignore[dict-item]
        ({"metadata": {**ORIGINAL["metadata"], "labels": {"/": "x"}}}, "metadata.labels"),  # type: ignore[dict-item]
        ({"metadata": 3}, "must have the same name: a != "),
    ],
)
def test_invalid_objects(change: dict[str, Any], text: str) -> None:
    converted = {**ORIGINAL, "apiVersion": "example.com/v2", **change}
    with pytest.raises(InvalidConversion, match=text):
        checked(ORIGINAL, converted, "example.com/v2")


@pytest.mark.parametrize(
    ("review", "text"),
    [
        ({}, "expected webhook response of apiextensions.k8s.io/v1, Kind=ConversionReview"),
        ({"response": None}, "no response provided"),
        ({"response": {"uid": "other"}}, 'expected response.uid="u", got "other"'),
        ({"response": {"uid": "u", "result": {}}}, "response.result.status was ''"),
        ({"response": {"uid": "u", "result": {"message": "bad"}}}, "bad"),
    ],
)
def test_invalid_answers(review: dict[str, Any], text: str) -> None:
    if review:
        review |= {"kind": "ConversionReview", "apiVersion": "apiextensions.k8s.io/v1"}
    with pytest.raises(InvalidConversion) as caught:
        converted_objects(review, "v1", "u")
    assert text in str(caught.value)
