"""From CRDs to served resources, in a real API server."""

from __future__ import annotations

import asyncio
import copy
import random
from pathlib import Path
from typing import Any

import orjson
import pytest

from pilothouse.apimachinery.errors import StatusError
from pilothouse.apimachinery.schema import GroupVersionResource
from pilothouse.apimachinery.testing import FakeClock
from pilothouse.apiserver.apiextensions.controller import CRDS
from pilothouse.apiserver.config import ServerConfig
from pilothouse.apiserver.local import LocalClient
from pilothouse.apiserver.server import APIServer
from pilothouse.kubeclient.interfaces import ListOptions

WIDGETS = GroupVersionResource("example.com", "v1", "widgets")
WIDGETS_V2 = GroupVersionResource("example.com", "v2", "widgets")
MERGE: Any = "application/merge-patch+json"
APPLY: Any = "application/apply-patch+yaml"


def condition(crd: dict[str, Any], type_: str) -> tuple[str, str, str]:
    for each in crd["status"]["conditions"]:
        if each["type"] == type_:
            return each["status"], each["reason"], each["message"]
    raise AssertionError(f"no condition {type_}")


async def establish(server: APIServer, client: LocalClient, crd: dict[str, Any]) -> Any:
    await client.create(CRDS, crd)
    await server.activity.settle()
    return await client.get(CRDS, crd["metadata"]["name"])


async def test_no_conditions_yet(server: APIServer, client: LocalClient, make: Any) -> None:
    """Go writes null; so the list belongs to nobody afterwards, only its items do."""
    crd = await client.create(CRDS, make.crd())
    assert crd["status"]["conditions"] is None
    await server.activity.settle()
    crd = await client.get(CRDS, crd["metadata"]["name"])
    fields = {
        entry["manager"]: entry["fieldsV1"]
        for entry in crd["metadata"]["managedFields"]
        if entry.get("subresource") == "status"
    }
    assert set(fields["kube-apiserver"]["f:status"]["f:conditions"]) == {
        'k:{"type":"Established"}',
        'k:{"type":"NamesAccepted"}',
    }


async def test_established_and_served(server: APIServer, client: LocalClient, make: Any) -> None:
    with pytest.raises(StatusError, match="could not find the requested resource"):
        await client.list(WIDGETS)
    crd = await establish(server, client, make.crd(shortNames=["w"], categories=["all"]))
    assert condition(crd, "NamesAccepted") == ("True", "NoConflicts", "no conflicts found")
    assert condition(crd, "Established") == (
        "True",
        "InitialNamesAccepted",
        "the initial names have been accepted",
    )
    assert crd["status"]["acceptedNames"] == {
        "plural": "widgets",
        "singular": "widget",
        "kind": "Widget",
        "listKind": "WidgetList",
        "shortNames": ["w"],
        "categories": ["all"],
    }
    found = await client.request("GET", "/apis/example.com/v1")
    assert found["resources"][0]["shortNames"] == ["w"]
    groups = await client.request("GET", "/apis")
    assert "example.com" in {group["name"] for group in groups["groups"]}
    created = await client.create(WIDGETS, make.widget(spec={"x": 1}))
    assert created["metadata"]["generation"] == 1 and created["spec"] == {"x": 1}


async def test_it_is_served_before_it_is_said_to_be(
    server: APIServer, client: LocalClient, make: Any
) -> None:
    watch = await client.watch(CRDS)
    await client.create(CRDS, make.crd())
    async for batch in watch:
        if any((e.object.get("status") or {}).get("conditions") for e in batch):
            break
    await client.list(WIDGETS)
    await watch.close()


async def test_name_conflicts(server: APIServer, client: LocalClient, make: Any) -> None:
    await establish(server, client, make.crd(shortNames=["w"]))
    other = make.crd(plural="wonders", kind="Widget", shortNames=["w"])
    crd = await establish(server, client, other)
    assert condition(crd, "NamesAccepted") == (
        "False",
        "ListKindConflict",
        '"WidgetList" is already in use',
    )
    assert condition(crd, "Established") == ("False", "NotAccepted", "not all names are accepted")
    assert "shortNames" not in crd["status"]["acceptedNames"]
    await client.delete(CRDS, "widgets.example.com")
    await server.activity.settle()
    freed = await client.get(CRDS, "wonders.example.com")
    assert condition(freed, "Established")[0] == "True"
    assert freed["status"]["acceptedNames"]["shortNames"] == ["w"]


async def test_deleting_a_crd_deletes_its_objects(
    server: APIServer, client: LocalClient, make: Any
) -> None:
    await establish(server, client, make.crd())
    held = make.widget("held")
    held["metadata"]["finalizers"] = ["example.com/hold"]
    await client.create(WIDGETS, held)
    await client.create(WIDGETS, make.widget("free"))
    watch = await client.watch(WIDGETS)
    types: list[str] = []

    async def follow() -> None:
        async for batch in watch:
            types.extend(event.type for event in batch)

    following = asyncio.ensure_future(follow())
    deleted = await client.delete(CRDS, "widgets.example.com")
    assert deleted["metadata"]["finalizers"] == ["customresourcecleanup.apiextensions.k8s.io"]
    assert condition(deleted, "Terminating")[:2] == ("True", "InstanceDeletionPending")
    await server.activity.settle()
    crd = await client.get(CRDS, "widgets.example.com")
    assert condition(crd, "Terminating") == (
        "True",
        "InstanceDeletionInProgress",
        "CustomResource deletion is in progress",
    )
    assert [o["metadata"]["name"] for o in (await client.list(WIDGETS)).items] == ["held"]
    with pytest.raises(StatusError, match="create not allowed while custom resource definition"):
        await client.create(WIDGETS, make.widget("new"))
    found = await client.request("GET", "/apis/example.com/v1")
    assert "create" not in found["resources"][0]["verbs"]
    await client.patch(WIDGETS, "held", {"metadata": {"finalizers": None}}, MERGE, "default")
    await server.activity.settle()
    with pytest.raises(StatusError, match="not found"):
        await client.get(CRDS, "widgets.example.com")
    with pytest.raises(StatusError, match="could not find the requested resource"):
        await client.list(WIDGETS)
    await following  # the watch has ended
    assert types[-1] == "DELETED"
    assert (await server.storage.range("/registry/example.com/")).count == 0


async def test_a_cleanup_that_hangs_is_said_and_tried_again(
    server: APIServer, client: LocalClient, make: Any
) -> None:
    await establish(server, client, make.crd())
    held = make.widget("held")
    held["metadata"]["finalizers"] = ["example.com/hold"]
    await client.create(WIDGETS, held)
    await client.delete(CRDS, "widgets.example.com")
    await server.activity.settle()
    clock: Any = server.clock
    clock.advance(61)
    await server.activity.settle()
    crd = await client.get(CRDS, "widgets.example.com")
    assert condition(crd, "Terminating")[1] == "InstanceDeletionCheck"
    await client.patch(WIDGETS, "held", {"metadata": {"finalizers": None}}, MERGE, "default")
    clock.advance(31)
    await server.activity.settle()
    with pytest.raises(StatusError, match="not found"):
        await client.get(CRDS, "widgets.example.com")


async def test_a_changed_schema_counts_at_once(
    server: APIServer, client: LocalClient, make: Any
) -> None:
    await establish(server, client, make.crd(make.version(schema=make.spec(a={"type": "string"}))))
    served = server.registry.lookup(*WIDGETS)
    await client.create(WIDGETS, make.widget("old", spec={"a": "x", "b": 1}))
    schema = make.spec(a={"type": "string"}, b={"type": "integer", "default": 7})
    patch = {"spec": {"versions": [make.version(schema=schema)]}}
    await client.patch(CRDS, "widgets.example.com", patch, MERGE)
    now = server.registry.lookup(*WIDGETS)
    assert now is not served and now is not None
    assert now.openapi_schema["properties"]["spec"]["properties"]["b"]["default"] == 7  # type: ignore[attr-defined]
    new = await client.create(WIDGETS, make.widget("new", spec={"a": "x"}))
    assert new["spec"] == {"a": "x", "b": 7}
    assert (await client.get(WIDGETS, "old", "default"))["spec"] == {"a": "x", "b": 7}
    # A status change makes nothing new.
    crd = copy.deepcopy(await client.get(CRDS, "widgets.example.com"))
    crd["metadata"]["labels"] = {"a": "b"}
    await client.update(CRDS, crd)
    assert server.registry.lookup(*WIDGETS) is now


async def test_several_versions(server: APIServer, client: LocalClient, make: Any) -> None:
    first = make.spec(a={"type": "string"}, old={"type": "string"})
    second = make.spec(a={"type": "string"}, new={"type": "integer", "default": 1})
    second["properties"]["spec"]["required"] = ["a"]
    crd = make.crd(
        make.version(schema=first), make.version("v2", schema=second, storage=False, served=True)
    )
    await establish(server, client, crd)
    await client.create(WIDGETS, make.widget(spec={"a": "x", "old": "y"}))
    seen = await client.get(WIDGETS_V2, "a", "default")
    assert seen["apiVersion"] == "example.com/v2" and seen["spec"] == {"a": "x"}
    with pytest.raises(StatusError, match=r"spec\.a: Required value"):
        await client.create(WIDGETS_V2, make.widget("b", "v2", spec={}))
    await client.create(WIDGETS, make.widget("c", spec={}))
    made = await client.create(WIDGETS_V2, make.widget("d", "v2", spec={"a": "z"}))
    assert made["spec"] == {"a": "z"}  # v1, which is stored, has no such field
    stored = await server.storage.get("/registry/example.com/widgets/default/d")
    assert stored is not None
    value = orjson.loads(stored.value)
    assert value["apiVersion"] == "example.com/v1" and value["spec"] == {"a": "z"}
    watch = await client.watch(WIDGETS_V2, "default", send_initial_events=True)
    async for batch in watch:
        assert {e.object["apiVersion"] for e in batch} == {"example.com/v2"}
        break
    await watch.close()
    updated = await client.patch(WIDGETS_V2, "d", {"spec": {"a": "w"}}, MERGE, "default")
    assert updated["spec"] == {"a": "w"} and updated["metadata"]["generation"] == 2
    assert (await client.get(WIDGETS, "d", "default"))["spec"] == {"a": "w"}


async def test_a_write_that_changes_nothing_migrates(
    server: APIServer, client: LocalClient, make: Any
) -> None:
    await establish(
        server, client, make.crd(make.version(), make.version("v2", storage=False, served=False))
    )
    with pytest.raises(StatusError, match="could not find the requested resource"):
        await client.list(WIDGETS_V2)
    before = await client.create(WIDGETS, make.widget(spec={"x": 1}))
    patch = {"spec": {"versions": [make.version(storage=False), make.version("v2")]}}
    await client.patch(CRDS, "widgets.example.com", patch, MERGE)
    await server.activity.settle()
    live = await client.get(WIDGETS, "a", "default")
    assert live["metadata"]["resourceVersion"] == before["metadata"]["resourceVersion"]
    await client.update(WIDGETS, copy.deepcopy(live))
    stored = await server.storage.get("/registry/example.com/widgets/default/a")
    assert stored is not None
    assert orjson.loads(stored.value)["apiVersion"] == "example.com/v2"
    again = await client.get(WIDGETS, "a", "default")
    await client.update(WIDGETS, copy.deepcopy(again))
    assert (await client.get(WIDGETS, "a", "default"))["metadata"] == again["metadata"]


async def test_status_scale_and_generation(
    server: APIServer, client: LocalClient, make: Any
) -> None:
    version = make.version(
        schema=make.spec(replicas={"type": "integer", "minimum": 0}),
        subresources={
            "status": {},
            "scale": {
                "specReplicasPath": ".spec.replicas",
                "statusReplicasPath": ".status.replicas",
            },
        },
    )
    await establish(server, client, make.crd(version))
    made = await client.create(WIDGETS, make.widget(spec={"replicas": 1}, status={"replicas": 9}))
    assert "status" not in made
    status = {"spec": {"replicas": 5}, "status": {"replicas": 2}}
    made = await client.patch(WIDGETS, "a", status, MERGE, "default", subresource="status")
    assert made["spec"] == {"replicas": 1} and made["status"] == {"replicas": 2}
    assert made["metadata"]["generation"] == 1
    scale = await client.get(WIDGETS, "a", "default", subresource="scale")
    assert scale["spec"] == {"replicas": 1} and scale["status"] == {"replicas": 2}
    wanted = {"spec": {"replicas": 4}}
    scale = await client.patch(WIDGETS, "a", wanted, MERGE, "default", subresource="scale")
    assert scale["spec"] == {"replicas": 4}
    assert (await client.get(WIDGETS, "a", "default"))["metadata"]["generation"] == 2
    with pytest.raises(StatusError) as error:
        bad: Any = {"status": {"replicas": "x"}}
        await client.patch(WIDGETS, "a", bad, MERGE, "default", subresource="status")
    assert error.value.details is not None
    assert error.value.details["causes"][0]["field"] == "status.replicas"
    await client.create(WIDGETS, make.widget("none", spec={}))
    with pytest.raises(
        StatusError, match=r'the spec replicas field "\.spec\.replicas" does not exist'
    ):
        await client.get(WIDGETS, "none", "default", subresource="scale")


async def test_a_scale_without_a_resource_version_is_written_at_once(
    server: APIServer, client: LocalClient, make: Any
) -> None:
    """fabric8's scale(): the custom resource itself refuses unconditional updates."""
    paths = {"specReplicasPath": ".spec.replicas", "statusReplicasPath": ".status.replicas"}
    version = make.version(
        schema=make.spec(replicas={"type": "integer"}), subresources={"scale": paths}
    )
    await establish(server, client, make.crd(version))
    await client.create(WIDGETS, make.widget(spec={"replicas": 1}))
    scale = {
        "kind": "Scale",
        "apiVersion": "autoscaling/v1",
        "metadata": {"name": "a", "namespace": "default"},
        "spec": {"replicas": 3},
    }
    scaled = await client.update(WIDGETS, copy.deepcopy(scale), subresource="scale")
    assert scaled["spec"] == {"replicas": 3}
    scale["metadata"]["resourceVersion"] = "1"  # type: ignore[index]
    with pytest.raises(StatusError) as error:
        await client.update(WIDGETS, scale, subresource="scale")
    assert error.value.reason == "Conflict"


async def test_a_status_that_creation_drops_is_defaulted_for_readers(
    server: APIServer, client: LocalClient, make: Any
) -> None:
    """Flux's kinds start with ``observedGeneration: -1`` by that."""
    schema = make.spec()
    schema["properties"]["status"]["default"] = {"replicas": -1}
    version = make.version(schema=schema, subresources={"status": {}})
    await establish(server, client, make.crd(version))
    watch = await client.watch(WIDGETS, "default")
    dry = await client.create(WIDGETS, make.widget(status={"replicas": 9}), dry_run=True)
    assert dry["status"] == {"replicas": -1}
    made = await client.create(WIDGETS, make.widget(status={"replicas": 9}))
    assert made["status"] == {"replicas": -1}
    batch = await anext(aiter(watch))
    assert batch[-1].object["status"] == {"replicas": -1}
    assert (await client.get(WIDGETS, "a", "default"))["status"] == {"replicas": -1}
    stored = await server.storage.get("/registry/example.com/widgets/default/a")
    assert stored is not None and b"status" not in stored.value
    await watch.close()


async def test_without_a_status_subresource_status_is_a_field(
    server: APIServer, client: LocalClient, make: Any
) -> None:
    await establish(server, client, make.crd(make.version(schema=make.spec())))
    await client.create(WIDGETS, make.widget(status={"replicas": 1}))
    made = await client.patch(WIDGETS, "a", {"status": {"replicas": 2}}, MERGE, "default")
    assert made["metadata"]["generation"] == 2
    with pytest.raises(StatusError, match=r'widgets\.example\.com "a" not found'):
        await client.patch(WIDGETS, "a", {}, MERGE, "default", subresource="status")


async def test_an_apply_keeps_nulls(server: APIServer, client: LocalClient, make: Any) -> None:
    """A request body's are dropped where the schema forbids them; an apply's are judged."""
    fields = {"type": "object", "properties": {"a": {"type": "string"}}}
    schema = make.spec(
        o=fields, n={**fields, "nullable": True}, d={"type": "string", "default": ""}
    )
    await establish(server, client, make.crd(make.version(schema=schema)))

    async def apply(manager: str = "one", **spec: Any) -> Any:
        widget = make.widget(spec=spec)
        applied = await client.patch(
            WIDGETS, "a", widget, APPLY, "default", field_manager=manager, force=True
        )
        return applied["spec"]

    created = await client.create(WIDGETS, make.widget("b", spec={"o": None}), "default")
    assert created["spec"] == {"d": ""}
    with pytest.raises(StatusError, match=r'spec.o in body must be of type object: "null"'):
        await apply(o=None)
    assert await apply(o={"a": "x"}, n={"a": "x"}) == {"o": {"a": "x"}, "n": {"a": "x"}, "d": ""}
    assert await apply("two", o=None) == {"o": {"a": "x"}, "n": {"a": "x"}, "d": ""}
    with pytest.raises(StatusError, match=r'spec.o in body must be of type object: "null"'):
        await apply(o={})
    assert await apply(o={"a": "x"}, n=None, d=None) == {"o": {"a": "x"}, "n": None, "d": ""}


async def test_apply_merges_by_the_schema(
    server: APIServer, client: LocalClient, make: Any
) -> None:
    ports = {
        "type": "array",
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["port"],
        "items": {
            "type": "object",
            "required": ["port"],
            "properties": {"port": {"type": "integer"}, "name": {"type": "string"}},
        },
    }
    await establish(server, client, make.crd(make.version(schema=make.spec(ports=ports))))

    async def apply(manager: str, *items: dict[str, Any], force: bool = False) -> Any:
        return await client.patch(
            WIDGETS,
            "a",
            make.widget(spec={"ports": list(items)}),
            APPLY,
            "default",
            field_manager=manager,
            force=force,
        )

    await apply("one", {"port": 1, "name": "x"})
    both = await apply("two", {"port": 2})
    assert both["spec"]["ports"] == [{"port": 1, "name": "x"}, {"port": 2}]
    with pytest.raises(StatusError, match="conflict"):
        await apply("two", {"port": 2}, {"port": 1, "name": "y"})
    left = await apply("one")
    assert left["spec"]["ports"] == [{"port": 2}]
    strategic: Any = "application/strategic-merge-patch+json"
    with pytest.raises(StatusError) as error:
        await client.patch(WIDGETS, "a", {}, strategic, "default")
    assert error.value.code == 415


async def test_field_selectors(server: APIServer, client: LocalClient, make: Any) -> None:
    version = make.version(
        schema=make.spec(color={"type": "string"}), selectableFields=[{"jsonPath": ".spec.color"}]
    )
    await establish(server, client, make.crd(version))
    for name, color in (("a", "red"), ("b", "blue"), ("c", "red")):
        await client.create(WIDGETS, make.widget(name, spec={"color": color}))
    found = await client.list(WIDGETS, "", ListOptions(field_selector="spec.color=red"))
    assert [o["metadata"]["name"] for o in found.items] == ["a", "c"]
    with pytest.raises(StatusError, match=r"field label not supported: spec\.size"):
        await client.list(WIDGETS, "", ListOptions(field_selector="spec.size=1"))


async def test_deprecated_versions_warn(server: APIServer, client: LocalClient, make: Any) -> None:
    old = make.version("v1", storage=False, deprecated=True)
    own = make.version("v1alpha1", storage=False, deprecated=True, deprecationWarning="go away")
    await establish(server, client, make.crd(make.version("v2"), old, own))
    warnings = {
        served.resource.version: served.warnings
        for served in server.registry.all()
        if served.resource.name == "widgets"
    }
    assert warnings == {
        "v2": (),
        "v1": ("example.com/v1 Widget is deprecated; use example.com/v2 Widget",),
        "v1alpha1": ("go away",),
    }


async def test_after_a_restart(tmp_path: Path, make: Any) -> None:
    config = ServerConfig(secure_port=0, storage="sqlite", data_dir=str(tmp_path))
    first = APIServer(config, FakeClock(), random.Random(1))
    await first.start(serve=False)
    client = first.local_client()
    await establish(first, client, make.crd())
    await client.create(WIDGETS, make.widget(spec={"x": 1}))
    await client.delete(CRDS, "widgets.example.com", options=_dry())
    await first.stop()
    second = APIServer(config, FakeClock(), random.Random(2))
    starting = asyncio.ensure_future(second.start(serve=False))
    await starting
    assert (await second.local_client().get(WIDGETS, "a", "default"))["spec"] == {"x": 1}
    await second.stop()


def _dry() -> Any:
    from pilothouse.kubeclient.interfaces import DeleteOptions

    return DeleteOptions(dry_run=True)
