"""Server-side apply: ownership, conflicts, pruning, upgrades."""

from __future__ import annotations

import copy
import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from pilothouse.apimachinery.errors import StatusError
from pilothouse.apimachinery.managedfields import manager
from pilothouse.apimachinery.managedfields.manager import ApplyConflict

if TYPE_CHECKING:
    from pilothouse.apimachinery.object import Obj
    from pilothouse.apimachinery.typeschema import TypeSchema

START = datetime(2026, 1, 1, tzinfo=UTC)
LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"


def config(metadata: Obj | None = None, **spec: Any) -> Obj:
    obj: Obj = {"apiVersion": "apps/v1", "kind": "Widget", "metadata": {"name": "w"}}
    obj["metadata"].update(metadata or {})
    if spec:
        obj["spec"] = spec
    return obj


def apply(
    live: Obj | None,
    applied: Obj,
    schema: TypeSchema,
    name: str = "me",
    at: int = 0,
    force: bool = False,
    **more: Any,
) -> Obj:
    snapshot = copy.deepcopy((live, applied))
    try:
        return manager.apply(
            live,
            applied,
            schema,
            manager=name,
            api_version="apps/v1",
            time=START + timedelta(seconds=at),
            force=force,
            **more,
        )
    finally:
        assert (live, applied) == snapshot


def managers(obj: Obj) -> dict[str, Obj]:
    return {e["manager"]: e["fieldsV1"] for e in obj["metadata"].get("managedFields") or ()}


def updated(obj: Obj, name: str, **spec: Any) -> Obj:
    new = copy.deepcopy(obj)
    new.setdefault("spec", {}).update(spec)
    manager.update(obj, new, schema_of(obj), manager=name, api_version="apps/v1", time=START)
    return new


_SCHEMA: list[Any] = []


@pytest.fixture(autouse=True)
def _remember(schema: TypeSchema) -> None:
    _SCHEMA[:] = [schema]


def schema_of(_: Obj) -> TypeSchema:
    found: TypeSchema = _SCHEMA[0]
    return found


def test_create(schema: TypeSchema) -> None:
    result = apply(None, config(replicas=1, containers=[{"name": "c"}]), schema)
    assert result["spec"] == {"replicas": 1, "containers": [{"name": "c"}]}
    assert result["metadata"]["managedFields"] == [
        {
            "manager": "me",
            "operation": "Apply",
            "apiVersion": "apps/v1",
            "time": "2026-01-01T00:00:00Z",
            "fieldsType": "FieldsV1",
            "fieldsV1": {
                "f:spec": {
                    "f:containers": {'k:{"name":"c"}': {".": {}, "f:name": {}}},
                    "f:replicas": {},
                }
            },
        }
    ]


def test_what_is_no_longer_applied_goes(schema: TypeSchema) -> None:
    first = apply(
        None,
        config({"labels": {"a": "1"}}, replicas=1, containers=[{"name": "c"}, {"name": "d"}]),
        schema,
    )
    second = apply(first, config(containers=[{"name": "d", "image": "x"}]), schema, at=1)
    assert second["spec"] == {"containers": [{"name": "d", "image": "x"}]}
    assert "labels" not in second["metadata"]
    assert "f:replicas" not in managers(second)["me"]["f:spec"]


def test_what_others_own_stays(schema: TypeSchema) -> None:
    first = apply(None, config(replicas=1, selector={"a": "b"}), schema, "one")
    second = apply(first, config(replicas=1), schema, "two")
    assert managers(second)["two"] == {"f:spec": {"f:replicas": {}}}
    third = apply(second, config(selector={"a": "b"}), schema, "one")
    assert third["spec"]["replicas"] == 1
    fourth = apply(third, config(), schema, "two")
    assert "replicas" not in fourth["spec"]
    assert list(managers(fourth)) == ["one"]


def test_what_was_defaulted_stays(schema: TypeSchema) -> None:
    first = apply(None, config(replicas=1), schema)
    first["spec"]["strategy"] = {"type": "RollingUpdate"}
    second = apply(first, config(selector={"a": "b"}), schema)
    assert second["spec"] == {"strategy": {"type": "RollingUpdate"}, "selector": {"a": "b"}}


def test_one_conflict(schema: TypeSchema) -> None:
    live = apply(None, config(replicas=1), schema, "owner")
    live = updated(live, "kubectl-client-side-apply", replicas=2)
    with pytest.raises(ApplyConflict) as raised:
        apply(live, config(replicas=3), schema)
    conflict = raised.value
    assert conflict.message == (
        'Apply failed with 1 conflict: conflict with "kubectl-client-side-apply" using apps/v1: '
        ".spec.replicas"
    )
    assert conflict.causes == [
        {
            "reason": "FieldManagerConflict",
            "message": 'conflict with "kubectl-client-side-apply" using apps/v1',
            "field": ".spec.replicas",
        }
    ]
    status = conflict.to_status_error()
    assert (status.code, status.reason) == (409, "Conflict")
    assert status.has_cause("FieldManagerConflict")


def test_several_conflicts(schema: TypeSchema) -> None:
    live = apply(None, config(replicas=1, containers=[{"name": "c", "image": "1"}]), schema, "b")
    live = updated(live, "a", selector={"x": "y"})
    wanted = config(replicas=2, selector={"x": "z"}, containers=[{"name": "c", "image": "2"}])
    with pytest.raises(ApplyConflict) as raised:
        apply(live, wanted, schema)
    assert raised.value.message == (
        "Apply failed with 3 conflicts: "
        'conflicts with "a" using apps/v1:\n- .spec.selector\n'
        'conflicts with "b":\n- .spec.replicas\n- .spec.containers[name="c"].image'
    )
    forced = apply(live, wanted, schema, force=True)
    assert set(managers(forced)) == {"b", "me"}
    assert managers(forced)["b"] == {
        "f:spec": {"f:containers": {'k:{"name":"c"}': {".": {}, "f:name": {}}}}
    }


def test_the_same_value_is_no_conflict(schema: TypeSchema) -> None:
    live = apply(None, config(replicas=1), schema, "one")
    both = apply(live, config(replicas=1), schema, "two", at=4)
    assert managers(both) == {
        "one": {"f:spec": {"f:replicas": {}}},
        "two": {"f:spec": {"f:replicas": {}}},
    }


def test_applying_the_same_again_changes_nothing(schema: TypeSchema) -> None:
    first = apply(None, config(replicas=1), schema)
    assert apply(first, config(replicas=1), schema, at=60) == first
    changed = apply(first, config(replicas=2), schema, at=60)
    assert changed["metadata"]["managedFields"][0]["time"] == "2026-01-01T00:01:00Z"


def test_an_untracked_object_is_owned_before_the_first_apply(schema: TypeSchema) -> None:
    live = {**config(replicas=1, selector={"a": "b"}), "status": {}}
    with pytest.raises(ApplyConflict) as raised:
        apply(live, config(replicas=2), schema)
    assert 'conflict with "before-first-apply" using apps/v1: .spec.replicas' in str(raised.value)
    result = apply(live, config(replicas=1), schema)
    assert set(managers(result)) == {"before-first-apply", "me"}


def test_reset_fields_are_not_owned(schema: TypeSchema) -> None:
    applied = {**config(replicas=1), "status": {"phase": "Up"}}
    result = apply(None, applied, schema, reset_fields=(("status",),))
    assert managers(result)["me"] == {"f:spec": {"f:replicas": {}}}


def test_what_is_refused(schema: TypeSchema) -> None:
    cases = [
        (
            {**config(), "apiVersion": "apps/v2"},
            "Incorrect version specified in apply patch. Specified patch version: apps/v2, "
            "expected: apps/v1",
        ),
        (config({"managedFields": []}), "metadata.managedFields must be nil"),
        (
            config(bogus=1),
            "failed to create typed patch object (/w; apps/v1, Kind=Widget): .spec.bogus: field "
            "not declared in schema",
        ),
        (
            config(containers=[{"name": "a"}, {"name": "a"}]),
            "failed to create typed patch object (/w; apps/v1, Kind=Widget): .spec.containers: "
            'duplicate entries for key [name="a"]',
        ),
    ]
    for applied, message in cases:
        with pytest.raises(StatusError) as raised:
            apply(None, applied, schema)
        assert (raised.value.code, raised.value.message) == (400, message)


def test_client_side_apply_is_upgraded(schema: TypeSchema) -> None:
    """kubectl apply --server-side after kubectl apply: its own fields are no conflict."""
    old_config = config(replicas=1, selector={"a": "b"})
    live = config({"uid": "u"}, replicas=1, selector={"a": "b"})
    live["metadata"]["annotations"] = {LAST_APPLIED: json.dumps(old_config)}
    manager.update(
        None,
        live,
        schema,
        manager="kubectl-client-side-apply",
        api_version="apps/v1",
        time=START,
    )
    wanted = config(replicas=2, selector={"a": "b"})
    with pytest.raises(ApplyConflict):
        apply(live, wanted, schema, "someone")
    result = apply(live, wanted, schema, "kubectl")
    assert result["spec"]["replicas"] == 2
    assert json.loads(result["metadata"]["annotations"][LAST_APPLIED]) == wanted
    # What somebody else has changed since is a conflict all the same.
    scaled = updated(live, "scaler", replicas=5)
    with pytest.raises(ApplyConflict, match="scaler"):
        apply(scaled, wanted, schema, "kubectl")


def test_lists_keep_the_applied_order(schema: TypeSchema) -> None:
    live = apply(None, config(containers=[{"name": "a"}, {"name": "b"}]), schema, "one")
    result = apply(live, config(containers=[{"name": "b"}, {"name": "x"}]), schema, "two")
    assert [c["name"] for c in result["spec"]["containers"]] == ["a", "b", "x"]


def test_default_keys_identify_items(schema: TypeSchema) -> None:
    def ports(*items: Obj) -> Obj:
        return config(containers=[{"name": "c", "ports": list(items)}])

    live = apply(None, ports({"containerPort": 80}), schema, "one")
    both = apply(live, ports({"containerPort": 80, "protocol": "UDP"}), schema, "two")
    assert len(both["spec"]["containers"][0]["ports"]) == 2
    same = apply(live, ports({"containerPort": 80, "protocol": "TCP"}), schema, "two")
    assert len(same["spec"]["containers"][0]["ports"]) == 1
