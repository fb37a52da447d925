"""What a created strategic merge patch looks like."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from pilothouse.apimachinery.patch import PatchError
from pilothouse.apimachinery.patch.strategic import create_two_way

if TYPE_CHECKING:
    from pilothouse.apimachinery.typeschema import TypeSchema


def test_lists_of_maps(schema: TypeSchema) -> None:
    old = {"spec": {"containers": [{"name": "a", "image": "1"}, {"name": "b", "image": "2"}]}}
    new = {"spec": {"containers": [{"name": "c", "image": "1"}, {"name": "b", "image": "3"}]}}
    assert create_two_way(old, new, schema) == {
        "spec": {
            "containers": [
                {"name": "c", "image": "1"},
                {"name": "b", "image": "3"},
                {"$patch": "delete", "name": "a"},
            ],
            "$setElementOrder/containers": [{"name": "c"}, {"name": "b"}],
        }
    }


def test_lists_of_scalars(schema: TypeSchema) -> None:
    old = {"metadata": {"finalizers": ["x", "y"]}}
    new = {"metadata": {"finalizers": ["y", "z"]}}
    assert create_two_way(old, new, schema) == {
        "metadata": {
            "finalizers": ["z"],
            "$deleteFromPrimitiveList/finalizers": ["x"],
            "$setElementOrder/finalizers": ["y", "z"],
        }
    }


def test_retained_keys(schema: TypeSchema) -> None:
    old = {"spec": {"strategy": {"type": "RollingUpdate", "rollingUpdate": {"a": "1"}}}}
    new = {"spec": {"strategy": {"type": "Recreate"}}}
    assert create_two_way(old, new, schema) == {
        "spec": {"strategy": {"type": "Recreate", "rollingUpdate": None, "$retainKeys": ["type"]}}
    }


def test_a_missing_merge_key_is_an_error(schema: TypeSchema) -> None:
    old: Any = {"spec": {"containers": [{"name": "a"}]}}
    new: Any = {"spec": {"containers": [{"image": "x"}]}}
    with pytest.raises(PatchError, match="does not contain declared merge key: name"):
        create_two_way(old, new, schema)
