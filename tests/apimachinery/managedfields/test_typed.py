"""Typed values: field sets of objects, comparison, merge, removal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from pilothouse.apimachinery.managedfields import fieldset, typed
from pilothouse.apimachinery.managedfields.typed import TypedError
from pilothouse.apimachinery.managedfields.validate import validate
from pilothouse.apimachinery.typeschema import ANY, TypeSchema

if TYPE_CHECKING:
    from pilothouse.apimachinery.object import Obj


def paths(fields: fieldset.FieldSet) -> list[str]:
    return [fieldset.path_text(path) for path in fieldset.iterate(fields)]


def spec(**fields: Any) -> Obj:
    return {"spec": fields}


def test_to_field_set(schema: TypeSchema) -> None:
    obj = {
        "metadata": {"labels": {"a": "1"}, "finalizers": ["x"], "annotations": {}},
        "spec": {
            "replicas": 1,
            "selector": {"app": "x"},
            "containers": [
                {"name": "c", "ports": [{"containerPort": 80}], "env": [], "args": ["x"]}
            ],
        },
    }
    assert typed.to_field_set(obj, schema) == {
        "f:metadata": {
            "f:annotations": {},
            "f:finalizers": {'v:"x"': {}},
            "f:labels": {"f:a": {}},
        },
        "f:spec": {
            "f:containers": {
                'k:{"name":"c"}': {
                    ".": {},
                    "f:args": {},
                    "f:name": {},
                    "f:ports": {
                        'k:{"containerPort":80,"protocol":"TCP"}': {
                            ".": {},
                            "f:containerPort": {},
                        }
                    },
                }
            },
            "f:replicas": {},
            "f:selector": {},
        },
    }


def test_untyped_values_behave_as_they_look() -> None:
    value = {"a": {"b": 1}, "c": [1], "d": {}}
    assert typed.to_field_set(value, ANY) == {
        "f:a": {".": {}, "f:b": {}},
        "f:c": {},
        "f:d": {},
    }
    go_any = TypeSchema("object", fields={"raw": TypeSchema("any", go_type="v1.JSON")})
    assert typed.to_field_set({"raw": {"a": 1}}, go_any) == {"f:raw": {}}


def test_duplicates_are_one_leaf(schema: TypeSchema) -> None:
    obj = spec(containers=[{"name": "a", "image": "1"}, {"name": "a"}])
    assert paths(typed.to_field_set(obj, schema)) == ['.spec.containers[name="a"]']


@pytest.mark.parametrize(
    ("old", "new", "removed", "modified", "added"),
    [
        ({}, {}, [], [], []),
        (spec(replicas=1), spec(replicas=2), [], [".spec.replicas"], []),
        (spec(), spec(replicas=2), [], [], [".spec.replicas"]),
        (spec(replicas=1), {}, [".spec", ".spec.replicas"], [], []),
        (spec(selector={"a": "1"}), spec(selector={"b": "1"}), [], [".spec.selector"], []),
        (
            {"metadata": {"labels": {"a": "1", "b": "1"}}},
            {"metadata": {"labels": {"b": "2", "c": "1"}}},
            [".metadata.labels.a"],
            [".metadata.labels.b"],
            [".metadata.labels.c"],
        ),
        (
            {"metadata": {"finalizers": ["a", "b"]}},
            {"metadata": {"finalizers": ["b", "c"]}},
            ['.metadata.finalizers[="a"]'],
            [],
            ['.metadata.finalizers[="c"]'],
        ),
        (
            spec(containers=[{"name": "a", "image": "1"}]),
            spec(containers=[{"name": "a", "image": "2"}, {"name": "b"}]),
            [],
            ['.spec.containers[name="a"].image'],
            ['.spec.containers[name="b"]', '.spec.containers[name="b"].name'],
        ),
        (spec(containers=None), spec(containers=[]), [], [".spec.containers"], []),
        (
            spec(containers=[{"name": "a"}, {"name": "a"}]),
            spec(containers=[{"name": "a"}]),
            ['.spec.containers[name="a"]'],
            [],
            ['.spec.containers[name="a"]', '.spec.containers[name="a"].name'],
        ),
        (spec(anything=1), spec(anything={"a": 1}), [], [".spec.anything"], [".spec.anything.a"]),
    ],
)
def test_compare(
    old: Obj,
    new: Obj,
    removed: list[str],
    modified: list[str],
    added: list[str],
    schema: TypeSchema,
) -> None:
    comparison = typed.compare(old, new, schema)
    assert sorted(paths(comparison.removed)) == removed
    assert paths(comparison.modified) == modified
    assert sorted(paths(comparison.added)) == sorted(added)


@pytest.mark.parametrize(
    ("live", "applied", "merged"),
    [
        (["a", "b", "c"], ["b"], ["a", "b", "c"]),
        (["a", "b", "c"], ["c", "a"], ["b", "c", "a"]),
        (["a", "b"], ["b", "x", "a"], ["b", "x", "a"]),
        ([], ["a"], ["a"]),
        (["a", "b", "c", "d"], ["d", "a"], ["b", "c", "d", "a"]),
    ],
)
def test_merged_lists_keep_the_applied_order(
    live: list[str], applied: list[str], merged: list[str], schema: TypeSchema
) -> None:
    def obj(names: list[str]) -> Obj:
        return spec(containers=[{"name": name} for name in names])

    result = typed.merge(obj(live), obj(applied), schema)
    assert [c["name"] for c in result["spec"]["containers"]] == merged


def test_merge_refuses_duplicates(schema: TypeSchema) -> None:
    doubled = spec(containers=[{"name": "a"}, {"name": "a"}])
    with pytest.raises(TypedError, match=r'duplicate entries for key \[name="a"\]'):
        typed.merge(spec(containers=[{"name": "b"}]), doubled, schema)


def test_remove_items(schema: TypeSchema) -> None:
    obj = spec(replicas=1, containers=[{"name": "a", "image": "1"}, {"name": "b"}])
    gone = {"f:spec": {"f:replicas": {}, "f:containers": {'k:{"name":"b"}': {}}}}
    assert typed.remove_items(obj, gone, schema) == spec(containers=[{"name": "a", "image": "1"}])
    inner = {"f:spec": {"f:containers": {'k:{"name":"a"}': {"f:image": {}}}}}
    assert typed.remove_items(obj, inner, schema)["spec"]["containers"][0] == {"name": "a"}


@pytest.mark.parametrize(
    ("obj", "error"),
    [
        (spec(replicas=1, containers=[{"name": "a"}]), ""),
        (spec(bogus=1), ".spec.bogus: field not declared in schema"),
        (
            spec(containers=[{"name": "a"}, {"name": "a"}]),
            '.spec.containers: duplicate entries for key [name="a"]',
        ),
        (
            spec(containers=[{"image": "x"}]),
            ".spec.containers: element 0: associative list with keys has an element that omits "
            'all key fields ["name"] (and doesn\'t have default values for any key fields)',
        ),
        (spec(replicas="1"), ".spec.replicas: expected numeric (int or float), got string"),
        (spec(selector=[]), ".spec.selector: expected map, got &{[]}"),
        (
            {"metadata": {"finalizers": {}}, "spec": {"selector": 1}},
            "errors:\n  .metadata.finalizers: expected list, got &{map[]}\n"
            "  .spec.selector: expected map, got &{1}",
        ),
    ],
)
def test_validate(obj: Obj, error: str, schema: TypeSchema) -> None:
    if not error:
        validate(obj, schema)
        return
    with pytest.raises(TypedError) as raised:
        validate(obj, schema)
    assert str(raised.value) == error
