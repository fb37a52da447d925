"""What happens to bootstrap roles at a later start."""

from __future__ import annotations

from typing import Any

from pilothouse.apimachinery.object import Obj, copy_object
from pilothouse.apiserver.authorization.bootstrap_policy import bootstrap_objects
from pilothouse.apiserver.authorization.reconcile import (
    needs_recreation,
    reconciled_binding,
    reconciled_role,
)


def find(kind: str, name: str) -> Obj:
    return next(
        o for o in bootstrap_objects() if o["kind"] == kind and o["metadata"]["name"] == name
    )


def changed(obj: Obj, **fields: Any) -> Obj:
    copy: Obj = copy_object(obj)
    copy.update(fields)
    return copy


def test_complete_objects_are_left_alone() -> None:
    for obj in bootstrap_objects():
        if "roleRef" in obj:
            assert reconciled_binding(copy_object(obj), obj) is None
            assert not needs_recreation(obj, obj)
        else:
            assert reconciled_role(copy_object(obj), obj) is None


def test_missing_rules_come_back_and_extra_ones_stay() -> None:
    expected = find("ClusterRole", "system:discovery")
    extra = {"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]}
    fixed = reconciled_role(changed(expected, rules=[extra]), expected)
    assert fixed and fixed["rules"][0] == extra and len(fixed["rules"]) > 1
    assert reconciled_role(changed(expected, rules=[*expected["rules"], extra]), expected) is None


def test_opting_out() -> None:
    expected = find("ClusterRole", "system:discovery")
    existing = changed(expected, rules=[])
    existing["metadata"]["annotations"] = {"rbac.authorization.kubernetes.io/autoupdate": "false"}
    assert reconciled_role(existing, expected) is None


def test_labels_and_aggregation() -> None:
    expected = find("ClusterRole", "edit")
    existing = changed(expected, rules=[], aggregationRule={"clusterRoleSelectors": []})
    existing["metadata"]["labels"] = {"mine": "x"}
    fixed = reconciled_role(existing, expected)
    assert fixed and fixed["metadata"]["labels"]["kubernetes.io/bootstrapping"] == "rbac-defaults"
    assert fixed["metadata"]["labels"]["mine"] == "x"
    assert fixed["aggregationRule"] == expected["aggregationRule"]
    assert fixed["rules"] == []


def test_subjects_and_role_reference() -> None:
    expected = find("ClusterRoleBinding", "system:discovery")
    other = {"kind": "User", "name": "alice", "apiGroup": "rbac.authorization.k8s.io"}
    fixed = reconciled_binding(changed(expected, subjects=[other]), expected)
    assert fixed and fixed["subjects"] == [other, *expected["subjects"]]
    moved = changed(expected, roleRef={**expected["roleRef"], "name": "cluster-admin"})
    assert needs_recreation(moved, expected)
