"""JSON Merge Patch: RFC 7386's table and round trips."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilothouse.apimachinery.patch import PatchError, merge_patch


@pytest.mark.parametrize(
    ("doc", "patch", "expected"),
    [
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),
        ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
        ({"a": "b"}, {"a": None}, {}),
        ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
        ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
        ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
        ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
        ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
        ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
        ({}, {"a": [None, {"b": None}]}, {"a": [None, {}]}),
        ({"a": {}}, {"a": [{"b": None}]}, {"a": [{"b": None}]}),
    ],
)
def test_apply(doc: Any, patch: Any, expected: Any) -> None:
    before = copy.deepcopy((doc, patch))
    assert merge_patch.apply(doc, patch) == expected
    assert (doc, patch) == before


def test_what_is_no_patch() -> None:
    with pytest.raises(PatchError, match="Invalid JSON Patch") as raised:
        merge_patch.apply({}, None)
    assert raised.value.code == 400
    with pytest.raises(PatchError, match="cannot unmarshal array into Go value"):
        merge_patch.apply({}, [])
    with pytest.raises(PatchError, match="cannot unmarshal bool into Go value"):
        merge_patch.apply({}, True)


def test_untouched_parts_are_shared() -> None:
    doc = {"a": {"b": 1}, "c": {"d": 1}}
    result = merge_patch.apply(doc, {"a": {"x": 1}})
    assert result["c"] is doc["c"]
    assert result is not doc


_VALUES = st.recursive(
    st.booleans() | st.integers(-3, 3) | st.text(max_size=2),
    lambda s: st.lists(s, max_size=3) | st.dictionaries(st.sampled_from("abc"), s, max_size=3),
    max_leaves=8,
)
_DOCUMENTS = st.dictionaries(st.sampled_from("abcd"), _VALUES)


@given(_DOCUMENTS, _DOCUMENTS)
def test_a_created_patch_leads_from_old_to_new(old: Any, new: Any) -> None:
    patch = merge_patch.create(old, new)
    result = merge_patch.apply(old, patch)
    assert result == new
    assert repr_types(result) == repr_types(new)


@given(_DOCUMENTS)
def test_the_same_needs_no_patch(doc: Any) -> None:
    assert merge_patch.create(doc, copy.deepcopy(doc)) == {}


def repr_types(value: Any) -> Any:
    """Tells 1 from True."""
    if isinstance(value, dict):
        return {k: repr_types(v) for k, v in value.items()}
    if isinstance(value, list):
        return [repr_types(v) for v in value]
    return (type(value).__name__, value)
