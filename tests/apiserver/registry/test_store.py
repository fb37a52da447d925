"""Create, update and delete through the whole chain from authorization on (memory store)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from pilothouse.apimachinery.errors import StatusError
from pilothouse.apimachinery.schema import GroupVersionResource
from pilothouse.apimachinery.testing import FakeClock, make_pod
from pilothouse.apiserver.local import LocalClient
from pilothouse.apiserver.request.context import UserInfo
from pilothouse.apiserver.server import APIServer
from pilothouse.apiserver.testing import running_server
from pilothouse.kubeclient.interfaces import DeleteOptions, ListOptions
from pilothouse.kubeclient.resources import CONFIG_MAPS, DEPLOYMENTS, EVENTS, NAMESPACES, PODS

NEW_EVENTS = GroupVersionResource("events.k8s.io", "v1", "events")


@pytest.fixture
async def server() -> AsyncIterator[APIServer]:
    async with running_server() as running:
        yield running


@pytest.fixture
def client(server: APIServer) -> LocalClient:
    return server.local_client()


def config_map(name: str = "a", **data: str) -> dict[str, Any]:
    return {"metadata": {"name": name, "namespace": "default"}, "data": data}


def deployment(name: str = "d") -> dict[str, Any]:
    template = {
        "metadata": {"labels": {"app": name}},
        "spec": {"containers": [{"name": "c", "image": "i"}]},
    }
    spec = {"selector": {"matchLabels": {"app": name}}, "template": template}
    return {"metadata": {"name": name, "namespace": "default"}, "spec": spec}


async def refused(awaitable: Any) -> StatusError:
    with pytest.raises(StatusError) as raised:
        await awaitable
    return raised.value


async def test_create_fills_in_system_fields(client: LocalClient) -> None:
    wanted = config_map(x="1")
    wanted["metadata"] |= {
        "uid": "mine",
        "creationTimestamp": "2001-01-01T00:00:00Z",
        "deletionTimestamp": "2001-01-01T00:00:00Z",
        "selfLink": "/x",
    }
    made = await client.create(CONFIG_MAPS, wanted)
    metadata = made["metadata"]
    assert len(metadata["uid"]) == 36
    assert metadata["creationTimestamp"] != "2001-01-01T00:00:00Z"
    assert "deletionTimestamp" not in metadata and "selfLink" not in metadata
    assert metadata["managedFields"][0]["fieldsV1"] == {"f:data": {".": {}, "f:x": {}}}
    assert wanted["metadata"]["uid"] == "mine"  # the caller's object is its own
    assert (made["kind"], made["apiVersion"]) == ("ConfigMap", "v1")


async def test_create_refuses_a_resource_version(client: LocalClient) -> None:
    wanted = config_map()
    wanted["metadata"]["resourceVersion"] = "1"
    error = await refused(client.create(CONFIG_MAPS, wanted))
    assert (error.code, error.message) == (
        400,
        "resourceVersion should not be set on objects to be created",
    )


async def test_a_resource_version_stops_no_dry_run_and_hides_no_error(client: LocalClient) -> None:
    wanted = config_map()
    wanted["metadata"]["resourceVersion"] = "1"
    made = await client.create(CONFIG_MAPS, wanted, dry_run=True)
    assert made["metadata"]["resourceVersion"] == "1"  # as upstream
    wanted["metadata"] |= {"name": "No Name"}
    assert (await refused(client.create(CONFIG_MAPS, wanted))).code == 422
    wanted["metadata"] |= {"name": "zero", "resourceVersion": "0"}
    assert (await client.create(CONFIG_MAPS, wanted))["metadata"]["resourceVersion"] != "0"


async def test_create_twice(client: LocalClient) -> None:
    await client.create(CONFIG_MAPS, config_map())
    error = await refused(client.create(CONFIG_MAPS, config_map()))
    assert (error.reason, error.message) == ("AlreadyExists", 'configmaps "a" already exists')


async def test_create_while_being_deleted(client: LocalClient) -> None:
    wanted = config_map()
    wanted["metadata"]["finalizers"] = ["example.com/f"]
    await client.create(CONFIG_MAPS, wanted)
    await client.delete(CONFIG_MAPS, "a", "default")
    error = await refused(client.create(CONFIG_MAPS, config_map()))
    assert error.message == 'object is being deleted: configmaps "a" already exists'


async def test_generated_names_differ(client: LocalClient) -> None:
    names = set()
    for _ in range(20):
        made = await client.create(
            CONFIG_MAPS, {"metadata": {"generateName": "x-", "namespace": "default"}}
        )
        names.add(made["metadata"]["name"])
    assert len(names) == 20 and all(len(name) == 7 for name in names)


async def test_wrong_namespace(client: LocalClient) -> None:
    error = await refused(client.create(CONFIG_MAPS, config_map(), "other"))
    assert error.code == 400
    assert error.message == (
        "the namespace of the provided object does not match the namespace sent on the request"
    )


async def test_invalid_metadata(client: LocalClient) -> None:
    wanted = config_map("BAD_NAME")
    wanted["metadata"]["labels"] = {"-x": "ok"}
    error = await refused(client.create(CONFIG_MAPS, wanted))
    assert (error.code, error.reason) == (422, "Invalid")
    fields = {cause["field"] for cause in (error.details or {})["causes"]}
    assert fields == {"metadata.name", "metadata.labels"}


async def test_dry_run_writes_nothing(client: LocalClient) -> None:
    made = await client.create(CONFIG_MAPS, config_map(), dry_run=True)
    assert made["metadata"]["uid"] and "resourceVersion" not in made["metadata"]
    assert (await refused(client.get(CONFIG_MAPS, "a", "default"))).code == 404
    stored = await client.create(CONFIG_MAPS, config_map(x="1"))
    changed = await client.update(CONFIG_MAPS, config_map(x="2"), dry_run=True)
    assert changed["data"] == {"x": "2"}
    assert (await client.get(CONFIG_MAPS, "a", "default")) == stored
    await client.delete(CONFIG_MAPS, "a", "default", DeleteOptions(dry_run=True))
    assert (await client.get(CONFIG_MAPS, "a", "default")) == stored
    assert (await refused(client.create(CONFIG_MAPS, config_map(), dry_run=True))).code == 409


async def test_update_conflicts(client: LocalClient) -> None:
    made = await client.create(CONFIG_MAPS, config_map(x="1"))
    await client.update(CONFIG_MAPS, config_map(x="2"))
    error = await refused(client.update(CONFIG_MAPS, {**made, "data": {"x": "3"}}))
    assert error.reason == "Conflict"
    assert error.message == (
        'Operation cannot be fulfilled on configmaps "a": the object has been modified; please '
        "apply your changes to the latest version and try again"
    )


async def test_update_with_a_wrong_uid(client: LocalClient) -> None:
    made = await client.create(CONFIG_MAPS, config_map())
    wanted = config_map()
    wanted["metadata"]["uid"] = "other"
    error = await refused(client.update(CONFIG_MAPS, wanted))
    assert error.code == 409
    assert error.message.endswith(
        f"Precondition failed: UID in precondition: other, UID in object meta: "
        f"{made['metadata']['uid']}"
    )


async def test_update_of_what_is_not_there(client: LocalClient) -> None:
    error = await refused(client.update(CONFIG_MAPS, config_map()))
    assert error.message == 'configmaps "a" not found'


async def test_a_no_op_update_keeps_the_resource_version(
    server: APIServer, client: LocalClient
) -> None:
    made = await client.create(CONFIG_MAPS, config_map(x="1"))
    clock = server.clock
    assert isinstance(clock, FakeClock)
    clock.advance(10)
    again = await client.update(CONFIG_MAPS, config_map(x="1"))
    assert again["metadata"]["resourceVersion"] == made["metadata"]["resourceVersion"]


async def test_system_metadata_can_not_be_changed(client: LocalClient) -> None:
    made = await client.create(CONFIG_MAPS, config_map())
    wanted = config_map(x="1")
    wanted["metadata"]["creationTimestamp"] = "2001-01-01T00:00:00Z"
    changed = await client.update(CONFIG_MAPS, wanted)
    for key in ("uid", "creationTimestamp", "name", "namespace"):
        assert changed["metadata"][key] == made["metadata"][key]


async def test_generation_counts_changes_of_the_spec(client: LocalClient) -> None:
    made = await client.create(DEPLOYMENTS, deployment())
    assert made["metadata"]["generation"] == 1
    labelled = await client.patch(
        DEPLOYMENTS,
        "d",
        {"metadata": {"labels": {"a": "b"}}},
        "application/merge-patch+json",
        "default",
    )
    assert labelled["metadata"]["generation"] == 1
    scaled = await client.patch(
        DEPLOYMENTS, "d", {"spec": {"replicas": 3}}, "application/merge-patch+json", "default"
    )
    assert scaled["metadata"]["generation"] == 2


async def test_status_and_spec_are_written_apart(client: LocalClient) -> None:
    wanted = deployment()
    wanted["status"] = {"replicas": 7}
    made = await client.create(DEPLOYMENTS, wanted)
    assert not (made.get("status") or {}).get("replicas")
    changed = {**made, "spec": {**made["spec"], "replicas": 9}, "status": {"replicas": 2}}
    after = await client.update(DEPLOYMENTS, changed, subresource="status")
    assert (after["spec"]["replicas"], after["status"]["replicas"]) == (1, 2)
    assert after["metadata"]["generation"] == 1
    main = await client.update(DEPLOYMENTS, {**after, "status": {"replicas": 5}})
    assert main["status"] == {"replicas": 2}
    managers = {
        (entry["manager"], entry.get("subresource")) for entry in main["metadata"]["managedFields"]
    }
    assert managers == {("apiserver", None), ("apiserver", "status")}


async def test_finalizers_keep_an_object(client: LocalClient) -> None:
    wanted = config_map()
    wanted["metadata"]["finalizers"] = ["example.com/f"]
    await client.create(CONFIG_MAPS, wanted)
    await client.delete(CONFIG_MAPS, "a", "default")
    waiting = await client.get(CONFIG_MAPS, "a", "default")
    assert waiting["metadata"]["deletionTimestamp"]
    assert waiting["metadata"]["deletionGracePeriodSeconds"] == 0
    more = {**waiting, "metadata": {**waiting["metadata"], "finalizers": ["example.com/g"]}}
    error = await refused(client.update(CONFIG_MAPS, more))
    assert "no new finalizers can be added if the object is being deleted" in error.message
    emptied = {**waiting, "metadata": {**waiting["metadata"], "finalizers": []}}
    await client.update(CONFIG_MAPS, emptied)
    assert (await refused(client.get(CONFIG_MAPS, "a", "default"))).code == 404


@pytest.mark.parametrize(
    ("policy", "finalizer"), [("Orphan", "orphan"), ("Foreground", "foregroundDeletion")]
)
async def test_propagation_policies(client: LocalClient, policy: str, finalizer: str) -> None:
    await client.create(DEPLOYMENTS, deployment())
    await client.delete(DEPLOYMENTS, "d", "default", DeleteOptions(propagation_policy=policy))
    waiting = await client.get(DEPLOYMENTS, "d", "default")
    assert waiting["metadata"]["finalizers"] == [finalizer]
    assert waiting["metadata"]["generation"] == 2


async def test_background_deletes_at_once(client: LocalClient) -> None:
    made = await client.create(DEPLOYMENTS, deployment())
    answer = await client.delete(
        DEPLOYMENTS, "d", "default", DeleteOptions(propagation_policy="Background")
    )
    assert answer["status"] == "Success"
    assert answer["details"] == {
        "name": "d",
        "group": "apps",
        "kind": "deployments",
        "uid": made["metadata"]["uid"],
    }
    assert (await refused(client.get(DEPLOYMENTS, "d", "default"))).code == 404


async def test_bad_delete_options(client: LocalClient) -> None:
    await client.create(CONFIG_MAPS, config_map())
    error = await refused(
        client.delete(CONFIG_MAPS, "a", "default", DeleteOptions(propagation_policy="Later"))
    )
    assert error.message == (
        'DeleteOptions.meta.k8s.io "" is invalid: propagationPolicy: Unsupported value: "Later": '
        'supported values: "Foreground", "Background", "Orphan", "nil"'
    )
    assert error.code == 422


async def test_delete_preconditions(client: LocalClient) -> None:
    made = await client.create(CONFIG_MAPS, config_map())
    uid = made["metadata"]["uid"]
    error = await refused(
        client.delete(CONFIG_MAPS, "a", "default", DeleteOptions(precondition_uid="x"))
    )
    assert error.reason == "Conflict"
    assert f"the UID in the precondition (x) does not match the UID in record ({uid})" in str(error)
    await client.delete(CONFIG_MAPS, "a", "default", DeleteOptions(precondition_uid=uid))


async def test_pods_are_deleted_gracefully(server: APIServer, client: LocalClient) -> None:
    pod = make_pod("p")
    pod["metadata"]["namespace"] = "default"
    pod["spec"]["nodeName"] = "n"
    await client.create(PODS, pod)
    going = await client.delete(PODS, "p", "default")
    assert going["metadata"]["deletionGracePeriodSeconds"] == 30
    assert going["metadata"]["generation"] == 2
    # Only a shorter period counts.
    same = await client.delete(PODS, "p", "default", DeleteOptions(grace_period_seconds=60))
    assert same["metadata"]["deletionGracePeriodSeconds"] == 30
    shorter = await client.delete(PODS, "p", "default", DeleteOptions(grace_period_seconds=5))
    assert shorter["metadata"]["deletionGracePeriodSeconds"] == 5
    await client.delete(PODS, "p", "default", DeleteOptions(grace_period_seconds=0))
    assert (await refused(client.get(PODS, "p", "default"))).code == 404


async def test_pods_without_a_node_go_at_once(client: LocalClient) -> None:
    pod = make_pod("p")
    pod["metadata"]["namespace"] = "default"
    pod["spec"].pop("nodeName", None)
    await client.create(PODS, pod)
    await client.delete(PODS, "p", "default")
    assert (await refused(client.get(PODS, "p", "default"))).code == 404


async def test_namespaces_terminate(client: LocalClient) -> None:
    made = await client.create(NAMESPACES, {"metadata": {"name": "n"}})
    assert made["spec"]["finalizers"] == ["kubernetes"]
    going = await client.delete(NAMESPACES, "n")
    assert going["status"]["phase"] == "Terminating" and going["metadata"]["deletionTimestamp"]
    error = await refused(client.create(CONFIG_MAPS, {"metadata": {"name": "x", "namespace": "n"}}))
    assert error.code == 403
    assert error.has_cause("NamespaceTerminating")
    still = await client.delete(NAMESPACES, "n")
    assert still["status"]["phase"] == "Terminating"
    emptied = {**going, "spec": {"finalizers": []}}
    await client.update(NAMESPACES, emptied, subresource="finalize")
    assert (await refused(client.get(NAMESPACES, "n"))).code == 404


async def test_delete_collection(client: LocalClient) -> None:
    for name, label in (("a", "x"), ("b", "x"), ("c", "y")):
        wanted = config_map(name)
        wanted["metadata"]["labels"] = {"l": label}
        await client.create(CONFIG_MAPS, wanted)
    await client.delete_collection(CONFIG_MAPS, "default", ListOptions(label_selector="l=x"))
    left = await client.list(CONFIG_MAPS, "default")
    assert [item["metadata"]["name"] for item in left.items] == ["c"]


async def test_patches_do_not_touch_the_cached_object(client: LocalClient) -> None:
    made = await client.create(CONFIG_MAPS, config_map(x="1"))
    await client.patch(
        CONFIG_MAPS, "a", {"data": {"x": "2"}}, "application/merge-patch+json", "default"
    )
    assert made["data"] == {"x": "1"}


@pytest.mark.parametrize(
    ("kind", "patch"),
    [
        ("application/merge-patch+json", {"data": {"x": None, "y": "2"}}),
        ("application/strategic-merge-patch+json", {"data": {"x": None, "y": "2"}}),
        (
            "application/json-patch+json",
            [{"op": "remove", "path": "/data/x"}, {"op": "add", "path": "/data/y", "value": "2"}],
        ),
    ],
)
async def test_patch_types(client: LocalClient, kind: Any, patch: Any) -> None:
    await client.create(CONFIG_MAPS, config_map(x="1", z="0"))
    patched = await client.patch(CONFIG_MAPS, "a", patch, kind, "default")
    assert patched["data"] == {"z": "0", "y": "2"}


async def test_json_patch_that_does_not_fit(client: LocalClient) -> None:
    await client.create(CONFIG_MAPS, config_map(x="1"))
    operations = [{"op": "test", "path": "/data/x", "value": "9"}]
    error = await refused(
        client.patch(CONFIG_MAPS, "a", operations, "application/json-patch+json", "default")
    )
    assert error.code == 422


async def test_patch_to_a_wrong_type(client: LocalClient) -> None:
    await client.create(CONFIG_MAPS, config_map(x="1"))
    error = await refused(
        client.patch(
            CONFIG_MAPS, "a", {"data": {"x": 1}}, "application/merge-patch+json", "default"
        )
    )
    assert error.code == 422 and "patch: Invalid value" in error.message


async def test_a_patch_can_not_rename(client: LocalClient) -> None:
    await client.create(CONFIG_MAPS, config_map())
    error = await refused(
        client.patch(
            CONFIG_MAPS,
            "a",
            {"metadata": {"name": "b"}},
            "application/merge-patch+json",
            "default",
        )
    )
    assert error.message == "the name of the object (b) does not match the name on the URL (a)"


async def test_apply_creates_merges_and_conflicts(client: LocalClient) -> None:
    applied = {"apiVersion": "v1", "kind": "ConfigMap", **config_map(x="1")}
    kind: Any = "application/apply-patch+yaml"
    made = await client.patch(CONFIG_MAPS, "a", applied, kind, "default", field_manager="one")
    assert made["metadata"]["managedFields"][0]["operation"] == "Apply"
    other = {"apiVersion": "v1", "kind": "ConfigMap", **config_map(x="2", y="3")}
    error = await refused(
        client.patch(CONFIG_MAPS, "a", other, kind, "default", field_manager="two")
    )
    assert error.reason == "Conflict" and error.has_cause("FieldManagerConflict")
    assert error.message == 'Apply failed with 1 conflict: conflict with "one": .data.x'
    forced = await client.patch(
        CONFIG_MAPS, "a", other, kind, "default", field_manager="two", force=True
    )
    assert forced["data"] == {"x": "2", "y": "3"}
    again = await client.patch(CONFIG_MAPS, "a", other, kind, "default", field_manager="two")
    assert again["metadata"]["resourceVersion"] == forced["metadata"]["resourceVersion"]
    # What a manager applies no more is removed, if nobody else owns it.
    less = {"apiVersion": "v1", "kind": "ConfigMap", **config_map(y="3")}
    left = await client.patch(CONFIG_MAPS, "a", less, kind, "default", field_manager="two")
    assert left["data"] == {"y": "3"}


async def test_apply_needs_a_manager(client: LocalClient) -> None:
    applied = {"apiVersion": "v1", "kind": "ConfigMap", **config_map(x="1")}
    kind: Any = "application/apply-patch+yaml"
    error = await refused(client.patch(CONFIG_MAPS, "a", applied, kind, "default"))
    assert error.message == (
        'PatchOptions.meta.k8s.io "" is invalid: fieldManager: Required value: is required for '
        "apply patch"
    )


async def test_duplicate_owner_references_are_dropped(
    server: APIServer, client: LocalClient
) -> None:
    owner = {"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "u"}
    wanted = config_map()
    wanted["metadata"]["ownerReferences"] = [owner, dict(owner)]
    made = await client.create(CONFIG_MAPS, wanted)
    assert made["metadata"]["ownerReferences"] == [owner]


async def test_events_are_one_thing_in_two_groups(client: LocalClient) -> None:
    regarding = {"kind": "Pod", "name": "p", "namespace": "default", "apiVersion": "v1"}
    made = await client.create(
        EVENTS,
        {
            "metadata": {"name": "e", "namespace": "default"},
            "involvedObject": regarding,
            "reason": "R",
            "message": "M",
            "type": "Normal",
        },
    )
    seen = await client.get(NEW_EVENTS, "e", "default")
    assert (seen["apiVersion"], seen["note"], seen["regarding"]["name"]) == (
        "events.k8s.io/v1",
        "M",
        "p",
    )
    assert seen["metadata"]["uid"] == made["metadata"]["uid"]
    listed = await client.list(
        NEW_EVENTS, "default", ListOptions(field_selector="regarding.name=p")
    )
    assert len(listed.items) == 1
    options = ListOptions(field_selector="involvedObject.name=q")
    assert (await client.list(EVENTS, "default", options)).items == []


async def test_events_expire(server: APIServer, client: LocalClient) -> None:
    regarding = {"kind": "Pod", "name": "p", "namespace": "default", "apiVersion": "v1"}
    metadata = {"name": "e", "namespace": "default"}
    await client.create(EVENTS, {"metadata": metadata, "involvedObject": regarding})
    clock = server.clock
    assert isinstance(clock, FakeClock)
    clock.advance(server.config.event_ttl - 1)
    assert await client.get(EVENTS, "e", "default")
    clock.advance(2)
    await server.activity.settle()
    assert (await refused(client.get(EVENTS, "e", "default"))).code == 404


async def test_users_may_only_what_they_may(server: APIServer) -> None:
    nobody = server.local_client(UserInfo("bob", ("system:authenticated",)))
    error = await refused(nobody.list(CONFIG_MAPS, "default"))
    assert error.message == (
        'configmaps is forbidden: User "bob" cannot list resource "configmaps" in API group "" in '
        'the namespace "default"'
    )
    error = await refused(nobody.get(NAMESPACES, "default"))
    assert error.message == (
        'namespaces "default" is forbidden: User "bob" cannot get resource "namespaces" in API '
        'group "" in the namespace "default"'
    )
