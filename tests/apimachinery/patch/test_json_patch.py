"""JSON Patch: RFC 6902's examples and the habits of evanphx/json-patch v4."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilothouse.apimachinery.patch import PatchError, json_patch


@pytest.mark.parametrize(
    ("doc", "operations", "expected"),
    [
        ({"foo": "bar"}, [{"op": "add", "path": "/baz", "value": 1}], {"foo": "bar", "baz": 1}),
        ({"a": [1, 3]}, [{"op": "add", "path": "/a/1", "value": 2}], {"a": [1, 2, 3]}),
        ({"a": [1]}, [{"op": "add", "path": "/a/-", "value": 2}], {"a": [1, 2]}),
        ({"a": [1]}, [{"op": "add", "path": "/a/-1", "value": 2}], {"a": [1, 2]}),
        ({"a": [1, 2]}, [{"op": "remove", "path": "/a/-2"}], {"a": [2]}),
        ({"a": 1}, [{"op": "replace", "path": "/b", "value": 2}], {"a": 1, "b": 2}),
        ({"a": 1}, [{"op": "add", "path": "/a"}], {"a": None}),
        ({"a": {"b": 1}}, [{"op": "move", "from": "/a/b", "path": "/c"}], {"a": {}, "c": 1}),
        ({"a": [1, 2]}, [{"op": "move", "from": "/a/0", "path": "/a/1"}], {"a": [2, 1]}),
        (
            {"a": {"b": 1}},
            [{"op": "copy", "from": "/a", "path": "/c"}],
            {"a": {"b": 1}, "c": {"b": 1}},
        ),
        (
            {"a/b": 1, "c~d": 2},
            [{"op": "test", "path": "/a~1b", "value": 1}, {"op": "remove", "path": "/c~0d"}],
            {"a/b": 1},
        ),
        ({"a": 1}, [{"op": "replace", "path": "", "value": {"b": 2}}], {"b": 2}),
        ({"a": 1}, [{"op": "test", "path": "", "value": {"a": 1}}], {"a": 1}),
        ({"a": None}, [{"op": "test", "path": "/a", "value": None}], {"a": None}),
        ({}, [{"op": "test", "path": "/a"}], {}),
        ({"a": 1}, None, {"a": 1}),
    ],
)
def test_apply(doc: Any, operations: Any, expected: Any) -> None:
    before = copy.deepcopy((doc, operations))
    assert json_patch.apply(doc, operations) == expected
    assert (doc, operations) == before


@pytest.mark.parametrize(
    ("operation", "error"),
    [
        (
            {"op": "add", "path": "/x/y", "value": 1},
            'add operation does not apply: doc is missing path: "/x/y": missing value',
        ),
        (
            {"op": "add", "path": "", "value": 1},
            'add operation does not apply: doc is missing path: "": missing value',
        ),
        (
            {"op": "add", "path": "/a/9", "value": 1},
            "error in add for path: '/a/9': Unable to access invalid index: 9: invalid index "
            "referenced",
        ),
        (
            {"op": "add", "path": "/a/x", "value": 1},
            "error in add for path: '/a/x': value was not a proper array index: 'x': "
            'strconv.Atoi: parsing "x": invalid syntax',
        ),
        (
            {"op": "remove", "path": "/b"},
            "error in remove for path: '/b': Unable to remove nonexistent key: b: missing value",
        ),
        (
            {"op": "replace", "path": "/a/7", "value": 1},
            "replace operation does not apply: doc is missing key: /a/7: missing value",
        ),
        (
            {"op": "replace", "path": "/s/t", "value": 1},
            "replace operation does not apply: doc is missing path: /s/t: missing value",
        ),
        ({"op": "test", "path": "/s", "value": "u"}, "testing value /s failed: test failed"),
        ({"op": "test", "path": "/n", "value": True}, "testing value /n failed: test failed"),
        (
            {"op": "test", "path": "/a/5", "value": 1},
            "error in test for path: '/a/5': Unable to access invalid index: 5: invalid index "
            "referenced",
        ),
        (
            {"op": "move", "from": "/b", "path": "/c"},
            "error in move for path: 'b': Unable to remove nonexistent key: b: missing value",
        ),
        (
            {"op": "move", "from": "/s", "path": "/x/y"},
            "move operation does not apply: doc is missing destination path: /x/y: missing value",
        ),
        (
            {"op": "copy", "from": "/x/y", "path": "/c"},
            "copy operation does not apply: doc is missing from path: /x/y: missing value",
        ),
        ({"op": "add"}, "add operation failed to decode path: missing value"),
        (
            {"op": "replace"},
            "replace operation failed to decode path: operation missing path field: missing value",
        ),
        (
            {"op": "test", "path": 3},
            "test operation failed to decode path: json: cannot unmarshal number into Go value "
            "of type string",
        ),
        ({"op": "jump", "path": "/a"}, "Unexpected kind: jump"),
        ({"op": 1}, "Unexpected kind: unknown"),
        (None, "Unexpected kind: unknown"),
    ],
)
def test_errors(operation: Any, error: str) -> None:
    with pytest.raises(PatchError) as raised:
        json_patch.apply({"a": [1], "s": "t", "n": 1}, [operation])
    assert (raised.value.message, raised.value.code) == (error, 422)
    assert raised.value.to_status_error().message == (
        "the server rejected our request due to an error in our request"
    )


def test_what_is_no_patch() -> None:
    with pytest.raises(PatchError) as raised:
        json_patch.apply({}, {"op": "add"})
    assert raised.value.code == 400
    assert raised.value.to_status_error().reason == "BadRequest"
    with pytest.raises(PatchError, match="cannot unmarshal string into Go value of type"):
        json_patch.apply({}, ["add"])


def test_limits() -> None:
    operation = {"op": "test", "path": "/a", "value": 1}
    assert json_patch.apply({"a": 1}, [operation] * 10_000) == {"a": 1}
    with pytest.raises(PatchError) as raised:
        json_patch.apply({"a": 1}, [operation] * 10_001)
    assert raised.value.code == 413
    assert raised.value.message == (
        "The allowed maximum operations in a JSON patch is 10000, got 10001"
    )
    assert raised.value.to_status_error().code == 413
    double = [{"op": "copy", "from": "/a", "path": "/a/-"}] * 30
    with pytest.raises(PatchError, match="the accumulated size increase of copy is"):
        json_patch.apply({"a": ["x" * 100]}, double)


def test_copies_are_independent() -> None:
    operations = [
        {"op": "add", "path": "/a/x", "value": 1},
        {"op": "copy", "from": "/a", "path": "/b"},
        {"op": "add", "path": "/a/y", "value": 2},
        {"op": "add", "path": "/b/z", "value": 3},
    ]
    assert json_patch.apply({"a": {}}, operations) == {
        "a": {"x": 1, "y": 2},
        "b": {"x": 1, "z": 3},
    }


def test_untouched_parts_are_shared() -> None:
    doc = {"a": {"b": 1}, "c": {"d": 1}}
    result = json_patch.apply(doc, [{"op": "add", "path": "/a/x", "value": 1}])
    assert result["c"] is doc["c"]
    assert result["a"] is not doc["a"]


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.sampled_from(["", "x"]),
    lambda s: st.lists(s, max_size=3) | st.dictionaries(st.sampled_from("abc"), s, max_size=3),
    max_leaves=8,
)
_PATHS = st.lists(st.sampled_from(["a", "b", "c", "0", "1", "-", "-1", "x"]), max_size=3).map(
    lambda parts: "".join(f"/{part}" for part in parts)
)
_OPERATIONS = st.fixed_dictionaries(
    {"op": st.sampled_from(["add", "remove", "replace", "move", "copy", "test"]), "path": _PATHS},
    optional={"from": _PATHS, "value": _JSON},
)


@given(st.dictionaries(st.sampled_from("abc"), _JSON), st.lists(_OPERATIONS, max_size=4))
def test_any_patch_applies_or_is_refused_and_changes_no_input(doc: Any, operations: Any) -> None:
    before = copy.deepcopy((doc, operations))
    try:
        json_patch.apply(doc, operations)
    except PatchError as error:
        assert error.code in (400, 422)
    assert (doc, operations) == before
