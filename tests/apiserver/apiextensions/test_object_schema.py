"""Pruning, defaults and uniqueness of custom objects."""

from __future__ import annotations

import copy
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilothouse.apimachinery.schema import GroupVersionKind
from pilothouse.apiserver.apiextensions.object_schema import ObjectSchema
from pilothouse.apiserver.apiextensions.pruning import Pruner, compile_clean, drop_nulls
from pilothouse.apiserver.codec.decode import decode_body

S = dict[str, Any]
GVK = GroupVersionKind("example.com", "v1", "Widget")


def schema(**properties: Any) -> ObjectSchema:
    raw = {"type": "object", "properties": properties}
    return ObjectSchema(lambda: copy.deepcopy(raw))


def decoded(
    made: ObjectSchema, body: str, validation: str = "Warn"
) -> tuple[dict[str, Any], list[str]]:
    text = f'{{"apiVersion":"example.com/v1","kind":"Widget",{body}}}'
    found = decode_body(
        text.encode(),
        "application/json",
        default_gvk=GVK,
        field_validation=validation,
        schema_for=lambda gvk: made.node if gvk == GVK else None,
    )
    return found.obj, found.warnings


def test_unknown_fields_go_and_are_named() -> None:
    made = schema(
        spec={"type": "object", "properties": {"a": {"type": "object", "properties": {}}}},
        free={"type": "object", "x-kubernetes-preserve-unknown-fields": True},
        map={"type": "object", "additionalProperties": {"type": "object", "properties": {}}},
    )
    body = (
        '"metadata":{"name":"x","foo":1},"spec":{"a":{"b":1},"c":2},"free":{"x":{"y":[{"z":1}]}},'
        '"map":{"k":{"v":1}},"other":1'
    )
    obj, warnings = decoded(made, body)
    assert obj["spec"] == {"a": {}} and obj["map"] == {"k": {}}
    assert obj["free"] == {"x": {"y": [{"z": 1}]}} and obj["metadata"] == {"name": "x"}
    assert warnings == [
        'unknown field "metadata.foo"',
        'unknown field "map.k.v"',
        'unknown field "other"',
        'unknown field "spec.a.b"',
        'unknown field "spec.c"',
    ]
    assert decoded(made, body, "Ignore")[1] == []
    with pytest.raises(Exception, match=r'strict decoding error: unknown field "metadata\.foo"'):
        decoded(made, body, "Strict")


def test_duplicate_fields() -> None:
    made = schema(spec={"type": "object", "properties": {"a": {"type": "integer"}}})
    obj, warnings = decoded(made, '"spec":{"a":1,"a":2,"b":3}')
    assert obj["spec"] == {"a": 2} and type(obj["spec"]) is dict
    assert warnings == ['duplicate field "spec.a"', 'unknown field "spec.b"']


def test_nulls() -> None:
    made = schema(
        gone={"type": "string"},
        kept={"type": "string", "nullable": True},
        defaulted={"type": "string", "default": "d"},
        list={"type": "array", "items": {"type": "string"}},
    )
    obj, _ = decoded(made, '"gone":null,"kept":null,"defaulted":null,"list":[null]')
    assert "gone" not in obj and obj["kept"] is None and obj["list"] == [None]
    made.default(obj)
    assert obj["defaulted"] == "d" and obj["kept"] is None


def test_embedded_resources() -> None:
    made = schema(
        spec={
            "type": "object",
            "x-kubernetes-embedded-resource": True,
            "properties": {"spec": {"type": "object", "properties": {}}},
        }
    )
    obj, warnings = decoded(
        made, '"spec":{"apiVersion":"v1","kind":"X","metadata":{"name":"n","bad":1},"y":1}'
    )
    assert obj["spec"] == {"apiVersion": "v1", "kind": "X", "metadata": {"name": "n"}}
    assert warnings == ['unknown field "spec.y"', 'unknown field "spec.metadata.bad"']
    errors = made.extension_errors({"spec": {"kind": "", "metadata": {"labels": {"a": "-"}}}}, None)
    assert {error.field for error in errors} == {
        "spec.apiVersion",
        "spec.kind",
        "spec.metadata.labels",
    }


def test_wrong_metadata_is_a_bad_request() -> None:
    with pytest.raises(Exception, match="cannot unmarshal number into Go struct field"):
        decoded(schema(), '"metadata":{"name":5}')


def test_defaults_go_into_what_is_there() -> None:
    made = schema(
        spec={
            "type": "object",
            "default": {},
            "properties": {
                "a": {"type": "integer", "default": 0},
                "deep": {"type": "object", "properties": {"b": {"type": "string", "default": "x"}}},
                "items": {
                    "type": "array",
                    "items": {
                        "type": "object",
                        "properties": {"c": {"type": "integer", "default": 1}},
                    },
                },
                "map": {
                    "type": "object",
                    "additionalProperties": {
                        "type": "object",
                        "properties": {"d": {"type": "integer", "default": 2}},
                    },
                },
            },
        }
    )
    first: S = {}
    made.default(first)
    assert first == {"spec": {"a": 0}}
    first["spec"]["a"] = 9
    second: S = {"spec": {"deep": {}, "items": [{}], "map": {"k": {}}}}
    made.default(second)
    assert second == {
        "spec": {"a": 0, "deep": {"b": "x"}, "items": [{"c": 1}], "map": {"k": {"d": 2}}}
    }


def test_sets_and_maps() -> None:
    made = schema(
        set={"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "string"}},
        map={
            "type": "array",
            "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": ["k", "p"],
            "items": {"type": "object"},
        },
    )
    bad = {"set": ["a", "b", "a", "a"], "map": [{"k": 1, "p": "x"}, {"k": 1, "p": "x", "v": 2}]}
    assert [str(error) for error in made.extension_errors(bad, None)] == [
        'set[2]: Duplicate value: "a"',
        'map[1]: Duplicate value: {"k":1,"p":"x"}',
    ]
    assert made.extension_errors(bad, bad) == []
    assert made.extension_errors({"set": ["1", "2"], "map": [{"k": 1}, {"k": 2}]}, None) == []


FIELD: Any = st.recursive(
    st.sampled_from(
        [
            {"type": "string"},
            {"type": "string", "nullable": True},
            {"type": "object"},
            {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
            {"type": "object", "additionalProperties": True},
        ]
    ),
    lambda inner: st.one_of(
        st.builds(
            lambda p: {"type": "object", "properties": p},
            st.dictionaries(st.sampled_from("ab"), inner, min_size=1),
        ),
        st.builds(lambda i: {"type": "array", "items": i}, inner),
        st.builds(lambda i: {"type": "object", "additionalProperties": i}, inner),
    ),
    max_leaves=5,
)
VALUE = st.recursive(
    st.none() | st.just("s") | st.integers(0, 1),
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3)
    ),
    max_leaves=6,
)


@given(FIELD, VALUE)
def test_clean_means_that_pruning_changes_nothing(field: S, value: Any) -> None:
    raw = {"type": "object", "properties": {"x": field}}
    obj = {"x": value}
    pruned = orjson.loads(orjson.dumps(obj))
    Pruner().prune(pruned, raw, "", [])
    drop_nulls(pruned, raw)
    if compile_clean(raw, root=True)(obj):
        assert pruned == obj
