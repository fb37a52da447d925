"""Checks and explanations: they agree, and the words are kube-openapi's."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilothouse.apiserver.apiextensions.value_checks import compile_check
from pilothouse.apiserver.apiextensions.value_errors import explain, go_float

S = dict[str, Any]


def texts(schema: S, value: Any, path: str = "", **more: Any) -> list[str]:
    check = compile_check(schema)
    found = [str(error) for error in explain(schema, value, path, **more)]
    if not more:
        assert (check is None or check(value)) is (not found)
    return found


def at(field: S) -> S:
    return {"type": "object", "properties": {"x": field}}


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        (
            {"type": "integer"},
            "1",
            'Invalid value: "string": x in body must be of type integer: "string"',
        ),
        (
            {"type": "integer"},
            1.5,
            'Invalid value: "number": x in body must be of type integer: "number"',
        ),
        (
            {"type": "integer", "format": "int32"},
            1.5,
            'Invalid value: "float64": x in body must be of type int32: "float64"',
        ),
        (
            {"type": "string"},
            None,
            'Invalid value: "null": x in body must be of type string: "null"',
        ),
        (
            {"type": "object"},
            [],
            'Invalid value: "array": x in body must be of type object: "array"',
        ),
        (
            {"x-kubernetes-int-or-string": True},
            True,
            'Invalid value: "boolean": x in body must be of type integer,string: "boolean"',
        ),
        (
            {"type": "integer", "minimum": 2},
            1,
            "Invalid value: 1: x in body should be greater than or equal to 2",
        ),
        (
            {"type": "integer", "maximum": 2, "exclusiveMaximum": True},
            2,
            "Invalid value: 2: x in body should be less than 2",
        ),
        (
            {"type": "number", "multipleOf": 0.5},
            0.7,
            "Invalid value: 0.7: x in body should be a multiple of 0.5",
        ),
        (
            {"type": "string", "minLength": 2},
            "a",
            'Invalid value: "a": x in body should be at least 2 chars long',
        ),
        ({"type": "string", "maxLength": 1}, "ab", "Too long: may not be more than 1 byte"),
        (
            {"type": "string", "pattern": "^b"},
            "a",
            "Invalid value: \"a\": x in body should match '^b'",
        ),
        (
            {"type": "string", "enum": ["b", "a"]},
            "c",
            'Unsupported value: "c": supported values: "b", "a"',
        ),
        (
            {"type": "string", "format": "date-time"},
            "x",
            'Invalid value: "x": x in body must be of type date-time: "x"',
        ),
        (
            {"type": "array", "items": {"type": "string"}, "maxItems": 1},
            ["a", "b"],
            "Too many: 2: must have at most 1 item",
        ),
        (
            {"type": "array", "items": {"type": "string"}, "minItems": 1},
            [],
            "Invalid value: 0: x in body should have at least 1 items",
        ),
        (
            {"type": "array", "uniqueItems": True},
            [1, 1],
            'Invalid value: "": x in body shouldn\'t contain duplicates',
        ),
        (
            {"type": "object", "minProperties": 1},
            {},
            "Invalid value: 0: x in body should have at least 1 properties",
        ),
        (
            {"type": "object", "maxProperties": 0},
            {"a": 1},
            "Too many: 1: must have at most 0 items",
        ),
    ],
)
def test_one_message(field: S, value: Any, message: str) -> None:
    assert texts(at(field), {"x": value}) == [f"x: {message}"]


def test_required_and_paths() -> None:
    item = {"type": "object", "required": ["a"], "properties": {"a": {"type": "string"}}}
    schema = {
        "type": "object",
        "required": ["spec"],
        "properties": {
            "spec": {"type": "object", "properties": {"l": {"type": "array", "items": item}}},
            "m": {"type": "object", "additionalProperties": {"type": "integer"}},
        },
    }
    assert texts(schema, {}) == ["spec: Required value"]
    assert texts(schema, {"spec": {"l": [{"a": "x"}, {}]}, "m": {"k": "v"}}) == [
        "spec.l[1].a: Required value",
        'm.k: Invalid value: "string": m.k in body must be of type integer: "string"',
    ]
    assert texts(item, {}, "spec.versions[0]") == ["spec.versions[0].a: Required value"]


def test_junctors() -> None:
    one = {"oneOf": [{"required": ["a"]}, {"required": ["b"]}]}
    assert texts(at(one), {"x": {}}) == [
        '<nil>: Invalid value: "": "x" must validate one and only one schema (oneOf). '
        "Found none valid",
        "x.a: Required value",
    ]
    assert texts(at(one), {"x": {"a": 1, "b": 1}}) == [
        '<nil>: Invalid value: "": "x" must validate one and only one schema (oneOf). '
        "Found 2 valid alternatives"
    ]
    assert texts(at({"anyOf": [{"minimum": 3}, {"enum": [1]}]}), {"x": 2})[0] == (
        '<nil>: Invalid value: "": "x" must validate at least one schema (anyOf)'
    )
    assert texts(at({"allOf": [{"minimum": 3}, {"minimum": 1}]}), {"x": 2}) == [
        "x: Invalid value: 2: x in body should be greater than or equal to 3",
        '<nil>: Invalid value: "": "x" must validate all the schemas (allOf)',
    ]
    assert texts(at({"not": {"enum": ["a"]}}), {"x": "a"}) == [
        '<nil>: Invalid value: "": "x" must not validate the schema (not)'
    ]


def test_nullable() -> None:
    assert texts(at({"type": "string", "nullable": True}), {"x": None}) == []
    assert texts(at({"type": "string", "nullable": True, "enum": ["a"]}), {"x": None}) != []


def test_ratcheting_forgives_what_has_not_changed() -> None:
    schema = {
        "type": "object",
        "properties": {
            "a": {"type": "integer", "minimum": 5},
            "b": {"type": "integer", "minimum": 5},
            "list": {
                "type": "array",
                "x-kubernetes-list-type": "map",
                "x-kubernetes-list-map-keys": ["k"],
                "items": {
                    "type": "object",
                    "properties": {"k": {"type": "string"}, "v": {"type": "integer", "minimum": 5}},
                },
            },
        },
    }
    old = {"a": 1, "b": 1, "list": [{"k": "x", "v": 1}, {"k": "y", "v": 1}]}
    new = {"a": 1, "b": 2, "list": [{"k": "y", "v": 1}, {"k": "x", "v": 2}]}
    assert texts(schema, new, old=old) == [
        "b: Invalid value: 2: b in body should be greater than or equal to 5",
        "list[1].v: Invalid value: 2: list[1].v in body should be greater than or equal to 5",
    ]
    assert texts(schema, old, old=old) == []


@pytest.mark.parametrize(
    ("value", "text"),
    [(1.0, "1"), (0.5, "0.5"), (1e6, "1e+06"), (123456789.0, "1.23456789e+08"), (1e-5, "1e-05")],
)
def test_numbers_as_go_prints_them(value: float, text: str) -> None:
    assert go_float(value) == text


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-5, 5)
    | st.floats(-2, 2)
    | st.sampled_from(["a", "bb"]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("ab"), inner, max_size=2)
    ),
    max_leaves=8,
)
LEAF = st.fixed_dictionaries(
    {},
    optional={
        "type": st.sampled_from(["string", "integer", "number", "boolean", "object", "array"]),
        "nullable": st.booleans(),
        "minimum": st.integers(-1, 3),
        "maximum": st.integers(-1, 3),
        "minLength": st.integers(0, 2),
        "pattern": st.sampled_from(["^a", "b$"]),
        "enum": st.lists(st.sampled_from(["a", 1, True]), min_size=1, max_size=2),
        "maxItems": st.integers(0, 2),
        "minProperties": st.integers(0, 2),
        "x-kubernetes-int-or-string": st.just(True),
    },
)
SCHEMA = st.recursive(
    LEAF,
    lambda inner: st.builds(
        lambda leaf, more: {**leaf, **more},
        LEAF,
        st.fixed_dictionaries(
            {},
            optional={
                "properties": st.dictionaries(st.sampled_from("ab"), inner, max_size=2),
                "additionalProperties": inner,
                "items": inner,
                "required": st.lists(st.sampled_from("ab"), max_size=1),
                "oneOf": st.lists(inner, min_size=1, max_size=2),
                "anyOf": st.lists(inner, min_size=1, max_size=2),
                "allOf": st.lists(inner, min_size=1, max_size=2),
                "not": inner,
            },
        ),
    ),
    max_leaves=6,
)


@given(SCHEMA, JSON)
def test_check_and_explanation_agree(schema: S, value: Any) -> None:
    check = compile_check(schema)
    assert (check is None or check(value)) is (not explain(schema, value))
