"""Field sets: algebra, order, canonical form."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilothouse.apimachinery.managedfields import fieldset as fs

_PATHS = st.lists(st.sampled_from(["a", "b", 'k:{"name":"x"}', 'v:"y"']), min_size=1, max_size=3)
_SETS = st.lists(_PATHS.map(tuple), max_size=6).map(lambda paths: fs.make(*paths))


def members(fields: fs.FieldSet) -> set[tuple[str, ...]]:
    return set(fs.iterate(fields))


@given(_SETS, _SETS)
def test_the_algebra_is_that_of_sets_of_paths(a: fs.FieldSet, b: fs.FieldSet) -> None:
    assert members(fs.union(a, b)) == members(a) | members(b)
    assert members(fs.intersection(a, b)) == members(a) & members(b)
    assert members(fs.difference(a, b)) == members(a) - members(b)
    below = {
        path for path in members(a) if not any(path[: len(other)] == other for other in members(b))
    }
    assert members(fs.recursive_difference(a, b)) == below


@given(_SETS, _SETS)
def test_results_are_canonical(a: fs.FieldSet, b: fs.FieldSet) -> None:
    for result in (fs.union(a, b), fs.intersection(a, b), fs.difference(a, b)):
        assert fs.decode(result) == result
        assert list(fs.ordered(result)) == [k for k in result]
        assert fs.union(result, {}) == result


@given(_SETS)
def test_membership(fields: fs.FieldSet) -> None:
    for path in fs.iterate(fields):
        assert fs.has(fields, *path)
    assert not fs.has(fields, "f:nowhere")
    assert not fs.has(fields)


def test_order_is_by_value() -> None:
    ports = {f'k:{{"port":{port}}}': {} for port in (443, 80, 8080)}
    assert list(fs.ordered({**ports, "f:a": {}, ".": {}})) == [
        ".", "f:a", 'k:{"port":80}', 'k:{"port":443}', 'k:{"port":8080}',
    ]  # fmt: skip
    assert list(fs.ordered({"v:10": {}, "v:9": {}, 'v:"a"': {}})) == ["v:9", "v:10", 'v:"a"']


def test_decode_makes_canonical() -> None:
    given_fields: Any = {
        "f:b": {"f:c": {}},
        "f:a": {".": {}},
        'k:{"b": 1, "a": "x"}': {},
        "z:future": {},
    }
    assert fs.decode(given_fields) == {
        "f:a": {},
        "f:b": {"f:c": {}},
        'k:{"a":"x","b":1}': {},
    }
    assert fs.decode(None) == {}
    for bad in ("text", {"f": {}}, {"fx": {}}, {"v:{": {}}, {"i:x": {}}, {"k:[]": {}}):
        with pytest.raises(fs.FieldSetError):
            fs.decode(bad)


def test_paths_print_as_in_conflicts() -> None:
    path = ("f:spec", "f:ports", 'k:{"port":80,"protocol":"TCP"}', "f:name")
    assert fs.path_text(path) == '.spec.ports[port=80,protocol="TCP"].name'
    assert fs.path_text(("f:finalizers", 'v:"a/b"')) == '.finalizers[="a/b"]'
    assert fs.path_text(("f:x", "i:3")) == ".x[3]"


def test_values_are_encoded_as_go_does() -> None:
    assert fs.value_element("a<b>&\u2028é") == 'v:"a\\u003cb\\u003e\\u0026\\u2028é"'
    assert fs.key_element([("a", True), ("b", 1.5)]) == 'k:{"a":true,"b":1.5}'
