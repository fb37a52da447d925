"""Strategic merge patch: directives, merge keys, order, errors."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pilothouse.apimachinery.patch import PatchError, strategic

if TYPE_CHECKING:
    from pilothouse.apimachinery.typeschema import TypeSchema


def spec(**fields: Any) -> dict[str, Any]:
    return {"spec": fields}


A, B, C = {"name": "a", "image": "1"}, {"name": "b", "image": "2"}, {"name": "c", "image": "3"}
DELETE_A = {"name": "a", "$patch": "delete"}


@pytest.mark.parametrize(
    ("obj", "patch", "expected"),
    [
        # Maps and scalars.
        (spec(replicas=1), spec(replicas=2), spec(replicas=2)),
        (spec(replicas=1), spec(replicas=None), spec()),
        (spec(selector={"a": "1"}), spec(selector={"b": "2"}), spec(selector={"a": "1", "b": "2"})),
        (
            spec(selector={"a": "1"}),
            spec(selector={"$patch": "replace", "b": "2"}),
            spec(selector={"b": "2"}),
        ),
        (spec(selector={"a": "1"}), spec(selector={"$patch": "delete"}), spec(selector={})),
        (spec(), spec(selector={"a": None, "b": "2"}), spec(selector={"b": "2"})),
        # Lists of maps with a merge key.
        (
            spec(containers=[A, B]),
            spec(containers=[{"name": "b", "image": "9"}]),
            spec(containers=[A, {"name": "b", "image": "9"}]),
        ),
        (spec(containers=[A]), spec(containers=[C]), spec(containers=[C, A])),
        (spec(containers=[A, B]), spec(containers=[DELETE_A]), spec(containers=[B])),
        (
            spec(containers=[A, B]),
            spec(containers=[{"$patch": "replace"}, C]),
            spec(containers=[C]),
        ),
        (spec(), spec(containers=[DELETE_A, B]), spec(containers=[B])),
        (
            spec(containers=[A, B]),
            spec(
                **{
                    "containers": [C],
                    "$setElementOrder/containers": [{"name": "b"}, {"name": "c"}, {"name": "a"}],
                }
            ),
            spec(containers=[B, C, A]),
        ),
        (
            spec(containers=[A, B]),
            spec(**{"$setElementOrder/containers": [{"name": "b"}, {"name": "a"}]}),
            spec(containers=[B, A]),
        ),
        # Lists of scalars with merge strategy, and without.
        (
            {"metadata": {"finalizers": ["x"]}},
            {"metadata": {"finalizers": ["y"]}},
            {"metadata": {"finalizers": ["x", "y"]}},
        ),
        (
            {"metadata": {"finalizers": ["x", "y", "z"]}},
            {
                "metadata": {
                    "$deleteFromPrimitiveList/finalizers": ["x"],
                    "$setElementOrder/finalizers": ["z", "y"],
                }
            },
            {"metadata": {"finalizers": ["z", "y"]}},
        ),
        (
            spec(containers=[{"name": "a", "args": ["1"]}]),
            spec(containers=[{"name": "a", "args": ["2"]}]),
            spec(containers=[{"name": "a", "args": ["2"]}]),
        ),
        # Retained keys.
        (
            spec(strategy={"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "1"}}),
            spec(strategy={"$retainKeys": ["type"], "type": "Recreate"}),
            spec(strategy={"type": "Recreate"}),
        ),
    ],
)
def test_apply(obj: Any, patch: Any, expected: Any, schema: TypeSchema) -> None:
    before = copy.deepcopy((obj, patch))
    result = strategic.apply(obj, patch, schema)
    if (
        "finalizers" in expected.get("metadata", {})
        and len(expected["metadata"]["finalizers"]) == 2
    ):
        assert sorted(result["metadata"]["finalizers"]) == sorted(
            expected["metadata"]["finalizers"]
        )
    else:
        assert result == expected
    assert (obj, patch) == before


@pytest.mark.parametrize(
    ("patch", "error", "code"),
    [
        ({"spec": {"$patch": "merge"}}, "unknown patch type: merge in map: map[$patch:merge]", 500),
        (
            spec(containers=[{"image": "x"}]),
            "map: map[image:x] does not contain declared merge key: name",
            500,
        ),
        (
            spec(containers=[{"name": "a", "$patch": "merge"}]),
            "merging lists cannot yet be specified in the patch",
            500,
        ),
        (
            spec(containers=[[]]),
            "list element types are not identical: [[map[image:1 name:a]] [[]]]",
            500,
        ),
        (spec(strategy={"$retainKeys": "type"}), "invalid patch format of retainKeys", 400),
        (
            spec(strategy={"$retainKeys": [], "type": "x"}),
            "invalid patch format of retainKeys",
            400,
        ),
        (
            {"metadata": {"$setElementOrder": []}},
            "invalid patch format of setElementOrder list",
            400,
        ),
        (
            {"metadata": {"$deleteFromPrimitiveList": []}},
            "invalid patch format of primitive list",
            400,
        ),
        (
            {"metadata": {"$setElementOrder/finalizers": "x"}},
            "expected a []interface {}, but received a string",
            500,
        ),
        (
            spec(
                **{
                    "containers": [B, A],
                    "$setElementOrder/containers": [{"name": "a"}, {"name": "b"}],
                }
            ),
            "The order in patch list:\n[map[image:2 name:b] map[image:1 name:a]]\n doesn't match "
            "$setElementOrder list:\n[map[name:a] map[name:b]]\n",
            500,
        ),
        (
            {"extra": {"a": 1}},
            'unable to find api field in struct Widget for the json field "extra"',
            500,
        ),
    ],
)
def test_errors(patch: Any, error: str, code: int, schema: TypeSchema) -> None:
    obj = {
        "extra": {},
        "metadata": {"finalizers": ["x"]},
        "spec": {"containers": [A], "strategy": {"type": "a"}},
    }
    with pytest.raises(PatchError) as raised:
        strategic.apply(obj, patch, schema)
    assert (raised.value.message, raised.value.code) == (error, code)


def test_a_list_of_lists_is_refused(schema: TypeSchema) -> None:
    with pytest.raises(PatchError, match="lists of lists are not supported") as raised:
        strategic.apply(
            {"metadata": {"finalizers": []}}, {"metadata": {"finalizers": [[]]}}, schema
        )
    assert raised.value.code == 422


def test_untouched_parts_are_shared(schema: TypeSchema) -> None:
    obj: Any = {"metadata": {"labels": {}}, "spec": {"containers": [A, B]}}
    result = strategic.apply(obj, {"metadata": {"labels": {"a": "b"}}}, schema)
    assert result["spec"] is obj["spec"]
    changed = strategic.apply(obj, spec(containers=[{"name": "a", "image": "9"}]), schema)
    assert changed["spec"]["containers"][1] is B


def test_what_is_no_patch(schema: TypeSchema) -> None:
    with pytest.raises(PatchError):
        strategic.apply({}, [], schema)


_LABELS = st.dictionaries(st.sampled_from("abc"), st.sampled_from("12"), max_size=3)
_ENV = st.lists(
    st.sampled_from("AB").flatmap(
        lambda n: st.sampled_from("12").map(lambda v: {"name": n, "value": v})
    ),
    max_size=2,
    unique_by=lambda e: e["name"],
)
_CONTAINER = st.fixed_dictionaries(
    {"name": st.sampled_from("abc")},
    optional={
        "image": st.sampled_from("xy"),
        "args": st.lists(st.sampled_from("pq"), max_size=2),
        "env": _ENV,
    },
)
_OBJECTS = st.fixed_dictionaries(
    {"metadata": st.fixed_dictionaries({}, optional={"labels": _LABELS})},
    optional={
        "spec": st.fixed_dictionaries(
            {},
            optional={
                "replicas": st.integers(0, 3),
                "selector": _LABELS,
                "tolerations": st.lists(_LABELS, max_size=2),
                "strategy": st.fixed_dictionaries(
                    {}, optional={"type": st.sampled_from("xy"), "rollingUpdate": _LABELS}
                ),
                "containers": st.lists(_CONTAINER, max_size=3, unique_by=lambda c: c["name"]),
            },
        )
    },
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(old=_OBJECTS, new=_OBJECTS)
def test_a_created_patch_leads_from_old_to_new(old: Any, new: Any, schema: TypeSchema) -> None:
    before = copy.deepcopy((old, new))
    patch = strategic.create_two_way(old, new, schema)
    assert strategic.apply(old, patch, schema) == new
    assert strategic.create_two_way(new, copy.deepcopy(new), schema) == {}
    assert (old, new) == before
