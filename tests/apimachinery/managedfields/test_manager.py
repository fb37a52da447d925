"""managedFields across creates and updates."""

from __future__ import annotations

import copy
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from pilothouse.apimachinery.managedfields import manager

if TYPE_CHECKING:
    from pilothouse.apimachinery.object import Obj
    from pilothouse.apimachinery.typeschema import TypeSchema

START = datetime(2026, 1, 1, tzinfo=UTC)


def widget(**spec: Any) -> Obj:
    return {
        "apiVersion": "test/v1",
        "kind": "Widget",
        "metadata": {"name": "w", "namespace": "n", "uid": "u", "resourceVersion": "1"},
        "spec": {"containers": [{"name": "c"}], **spec},
        "status": {},
    }


def update(
    old: Obj | None,
    new: Obj,
    schema: TypeSchema,
    name: str = "m",
    at: int = 0,
    version: str = "test/v1",
    subresource: str = "",
    reset_fields: tuple[tuple[str, ...], ...] = (),
) -> list[Obj]:
    """Runs the manager on a copy of nothing: ``new`` is what the server would write."""
    manager.update(
        old,
        new,
        schema,
        manager=name,
        api_version=version,
        time=START + timedelta(seconds=at),
        subresource=subresource,
        reset_fields=reset_fields,
    )
    entries: list[Obj] = new["metadata"].get("managedFields") or []
    return entries


def successor(obj: Obj, **spec: Any) -> Obj:
    new = copy.deepcopy(obj)
    new["spec"].update(spec)
    return new


def owned(entries: list[Obj], name: str) -> Obj:
    [entry] = [e for e in entries if e.get("manager") == name]
    fields: Obj = entry["fieldsV1"]
    return fields


def test_create(schema: TypeSchema) -> None:
    obj = widget(replicas=1, selector={"a": "b"})
    obj["metadata"]["labels"] = {"app": "x"}
    assert update(None, obj, schema) == [
        {
            "manager": "m",
            "operation": "Update",
            "apiVersion": "test/v1",
            "time": "2026-01-01T00:00:00Z",
            "fieldsType": "FieldsV1",
            "fieldsV1": {
                "f:metadata": {"f:labels": {".": {}, "f:app": {}}},
                "f:spec": {
                    # Go writes the list even when it is empty, so it was not added.
                    "f:containers": {'k:{"name":"c"}': {".": {}, "f:name": {}}},
                    "f:replicas": {},
                    "f:selector": {},
                },
            },
        }
    ]


def test_a_custom_resource_starts_from_nothing() -> None:
    from pilothouse.apimachinery.typeschema import ANY, TypeSchema

    custom = TypeSchema("object", fields={"metadata": ANY, "spec": ANY})
    obj = {"metadata": {"name": "x"}, "spec": {"a": 1}}
    [entry] = update(None, obj, custom)
    assert entry["fieldsV1"] == {"f:spec": {".": {}, "f:a": {}}}


def test_update_moves_what_changed(schema: TypeSchema) -> None:
    first = widget(replicas=1, selector={"a": "b"})
    update(None, first, schema, "creator")
    second = successor(first, replicas=2)
    entries = update(first, second, schema, "scaler", at=5)
    assert owned(entries, "scaler") == {"f:spec": {"f:replicas": {}}}
    assert "f:replicas" not in owned(entries, "creator")["f:spec"]
    assert [e["time"] for e in entries] == ["2026-01-01T00:00:00Z", "2026-01-01T00:00:05Z"]


def test_an_update_that_changes_nothing_keeps_everything(schema: TypeSchema) -> None:
    first = widget(replicas=1)
    before = update(None, first, schema)
    assert update(first, successor(first), schema, at=9) == before


def test_what_goes_is_owned_by_nobody(schema: TypeSchema) -> None:
    first = widget(replicas=1)
    update(None, first, schema, "creator")
    second = successor(first)
    del second["spec"]["replicas"]
    entries = update(first, second, schema, "other", at=5)
    assert [e["manager"] for e in entries] == ["creator"]
    assert "f:replicas" not in entries[0]["fieldsV1"]["f:spec"]


def test_the_same_manager_adds_to_its_entry(schema: TypeSchema) -> None:
    first = widget()
    update(None, first, schema)
    second = successor(first, replicas=1)
    [entry] = update(first, second, schema, at=3)
    assert set(entry["fieldsV1"]["f:spec"]) == {"f:containers", "f:replicas"}
    assert entry["time"] == "2026-01-01T00:00:03Z"


def test_subresources_and_versions_have_entries_of_their_own(schema: TypeSchema) -> None:
    first = widget()
    update(None, first, schema)
    second = successor(first)
    second["status"] = {"phase": "Up"}
    entries = update(first, second, schema, subresource="status", at=1)
    assert [e.get("subresource") for e in entries] == [None, "status"]
    third = successor(second, replicas=3)
    entries = update(second, third, schema, version="test/v2", at=2)
    assert [e["apiVersion"] for e in entries] == ["test/v1", "test/v1", "test/v2"]


def test_a_subresource_request_cannot_set_managed_fields(schema: TypeSchema) -> None:
    first = widget()
    before = update(None, first, schema)
    second = successor(first)
    second["metadata"]["managedFields"] = []
    assert update(first, second, schema, subresource="status") == before


def test_reset_fields_are_not_taken(schema: TypeSchema) -> None:
    first = widget()
    before = update(None, first, schema)
    second = successor(first)
    second["status"] = {"phase": "Up"}
    assert update(first, second, schema, "x", reset_fields=(("status",),)) == before


def test_untracked_objects_stay_untracked(schema: TypeSchema) -> None:
    old = widget()
    assert update(old, successor(old, replicas=2), schema) == []


def test_clients_can_reset_the_tracking(schema: TypeSchema) -> None:
    for empty in ([], [{}]):
        first = widget()
        update(None, first, schema)
        second = successor(first, replicas=2)
        second["metadata"]["managedFields"] = empty
        assert update(first, second, schema) == []
        assert "managedFields" not in second["metadata"]


def test_clients_may_edit_managed_fields(schema: TypeSchema) -> None:
    first = widget(replicas=1)
    update(None, first, schema, "creator")
    second = successor(first)
    second["metadata"]["managedFields"][0]["fieldsV1"] = {"f:spec": {"f:replicas": {".": {}}}}
    [entry] = update(first, second, schema, "editor")
    assert entry["fieldsV1"] == {"f:spec": {"f:replicas": {}}}


def test_unreadable_managed_fields_count_as_the_live_ones(schema: TypeSchema) -> None:
    first = widget()
    before = update(None, first, schema)
    for bad in ("x", [1], [{"operation": "Undo"}], [{"operation": "Apply", "apiVersion": "v1"}]):
        second = successor(first)
        second["metadata"]["managedFields"] = bad
        assert update(first, second, schema) == before


def test_list_items_without_identity_keep_the_live_entries(schema: TypeSchema) -> None:
    first = widget()
    before = update(None, first, schema)
    second = successor(first, containers=[{"image": "x"}, {"name": "a"}])
    assert update(first, second, schema) == before


def test_old_updaters_are_merged(schema: TypeSchema) -> None:
    obj = widget()
    update(None, obj, schema, "creator")
    for i in range(12):
        new = copy.deepcopy(obj)
        new["metadata"].setdefault("labels", {})[f"l{i}"] = "x"
        entries = update(obj, new, schema, f"m{i:02d}", at=i + 1)
        obj = new
    assert len(entries) == 10
    assert entries[0]["manager"] == "ancient-changes"
    assert entries[0]["time"] == "2026-01-01T00:00:03Z"
    labels = entries[0]["fieldsV1"]["f:metadata"]["f:labels"]
    assert set(labels) == {".", "f:l0", "f:l1", "f:l2"}


def test_inputs_may_share_their_metadata(schema: TypeSchema) -> None:
    first = widget()
    update(None, first, schema)
    snapshot = copy.deepcopy(first)
    second = {**first, "spec": {**first["spec"], "replicas": 5}}
    assert len(update(first, second, schema, "other", at=1)) == 2
    assert first == snapshot


def test_timestamps_alone_are_no_change(schema: TypeSchema) -> None:
    old = widget()
    update(None, old, schema)
    new = copy.deepcopy(old)
    new["metadata"]["managedFields"][0]["time"] = "2027-01-01T00:00:00Z"
    assert manager.ignore_timestamps(new, old) == old
    changed = successor(new, replicas=7)
    assert manager.ignore_timestamps(changed, old) is changed
    other = copy.deepcopy(new)
    other["metadata"]["managedFields"][0]["manager"] = "x"
    assert manager.ignore_timestamps(other, old) is other
