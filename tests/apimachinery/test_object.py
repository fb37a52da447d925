"""Helpers on objects in wire form."""

from __future__ import annotations

from pilothouse.apimachinery import object as objects
from pilothouse.apimachinery.testing import make_pod, make_workload


def test_copies_are_deep() -> None:
    pod = make_pod()
    copy = objects.copy_object(pod)
    copy["spec"]["containers"][0]["name"] = "other"
    assert pod["spec"]["containers"][0]["name"] == "c"


def test_keys() -> None:
    assert objects.object_key(make_pod("p", "n")) == "n/p"
    assert objects.split_key("n/p") == ("n", "p")
    assert objects.split_key("node") == ("", "node")


def test_nested() -> None:
    obj: objects.Obj = {"a": {"b": None}}
    assert objects.get_nested(obj, "a", "b", default=3) == 3
    objects.set_nested(obj, "a", "c", "d", value=1)
    assert objects.get_nested(obj, "a", "c", "d") == 1
    assert objects.get_nested(obj, "a", "c", "d", "e") is None


def test_owners_and_conditions() -> None:
    owner = make_workload("ReplicaSet", uid="u")
    pod = make_pod(owner=owner, ready=False)
    reference = objects.controller_of(pod)
    assert reference is not None
    assert reference["uid"] == "u"
    condition = objects.condition_of(pod, "Ready")
    assert condition == {"type": "Ready", "status": "False"}
    assert objects.condition_of(pod, "Gone") is None
