"""Who may configure policies with params (registry …/authz.go)."""

from __future__ import annotations

from typing import Any

import pytest

from pilothouse.apimachinery.errors import StatusError
from pilothouse.apimachinery.object import Obj
from pilothouse.apimachinery.schema import GroupVersionResource
from pilothouse.apiserver.request.context import UserInfo

_GROUP = "admissionregistration.k8s.io"
POLICIES = GroupVersionResource(_GROUP, "v1", "validatingadmissionpolicies")
BINDINGS = GroupVersionResource(_GROUP, "v1", "validatingadmissionpolicybindings")
ROLES = GroupVersionResource("rbac.authorization.k8s.io", "v1", "clusterroles")
ROLE_BINDINGS = GroupVersionResource("rbac.authorization.k8s.io", "v1", "clusterrolebindings")
ALICE = UserInfo("alice", ("system:authenticated",))
_RULE: Obj = {
    "apiGroups": [""],
    "apiVersions": ["v1"],
    "operations": ["*"],
    "resources": ["pods"],
}


def policy(**more: Any) -> Obj:
    spec = {
        "matchConstraints": {"resourceRules": [_RULE]},
        "validations": [{"expression": "true"}],
        "paramKind": {"apiVersion": "v1", "kind": "Secret"},
    }
    return {"metadata": {"name": "p"}, "spec": spec | more}


def binding(policy_name: str = "p", **reference: str) -> Obj:
    ref = {"parameterNotFoundAction": "Deny", "name": "s", "namespace": "default", **reference}
    spec = {"policyName": policy_name, "validationActions": ["Deny"], "paramRef": ref}
    return {"metadata": {"name": "b"}, "spec": spec}


async def grant(policies: Any, name: str, **rule: list[str]) -> None:
    await policies.client.create(ROLES, {"metadata": {"name": name}, "rules": [rule]})
    subject = {"kind": "User", "name": "alice", "apiGroup": "rbac.authorization.k8s.io"}
    role = {"kind": "ClusterRole", "name": name, "apiGroup": "rbac.authorization.k8s.io"}
    bound = {"metadata": {"name": name}, "subjects": [subject], "roleRef": role}
    await policies.client.create(ROLE_BINDINGS, bound)


@pytest.fixture
async def alice(policies: Any) -> Any:
    await grant(policies, "policies", apiGroups=[_GROUP], resources=["*"], verbs=["*"])
    return policies.server.local_client(ALICE)


async def test_policies(policies: Any, alice: Any) -> None:
    with pytest.raises(StatusError) as refused:
        await alice.create(POLICIES, policy())
    (cause,) = refused.value.status["details"]["causes"]
    assert refused.value.code == 422
    assert cause == {
        "reason": "FieldValueForbidden",
        "message": 'Forbidden: user &{alice  [system:authenticated] map[]} must have "get" '
        "permission on all objects of the referenced paramKind (kind=Secret, apiVersion=v1)",
        "field": "spec.paramKind",
    }
    await alice.create(POLICIES, policy(paramKind=None))
    await alice.delete(POLICIES, "p")
    await grant(policies, "secrets", apiGroups=[""], resources=["secrets"], verbs=["get"])
    await alice.create(POLICIES, policy())


async def test_a_param_kind_that_stays_is_not_asked_about(policies: Any, alice: Any) -> None:
    created = await policies.client.create(POLICIES, policy())
    changed = policy(failurePolicy="Ignore")
    changed["metadata"] = dict(created["metadata"])
    await alice.update(POLICIES, changed)


async def test_bindings(policies: Any, alice: Any) -> None:
    with pytest.raises(StatusError, match="unable to get policy gone to determine minimum"):
        await alice.create(BINDINGS, binding("gone"))
    await policies.client.create(POLICIES, policy())
    with pytest.raises(StatusError) as refused:
        await alice.create(BINDINGS, binding())
    assert refused.value.status["details"]["causes"] == [
        {
            "reason": "FieldValueForbidden",
            "message": "Forbidden: user &{alice  [system:authenticated] map[]} does not have "
            '"get" permission on the object referenced by paramRef',
            "field": "spec.paramRef",
        }
    ]
    await grant(policies, "secrets", apiGroups=[""], resources=["secrets"], verbs=["get"])
    await alice.create(BINDINGS, binding())


async def test_selectors_ask_for_list(policies: Any, alice: Any) -> None:
    await policies.client.create(POLICIES, policy())
    selecting = binding()
    del selecting["spec"]["paramRef"]["name"]
    selecting["spec"]["paramRef"]["selector"] = {}
    await grant(policies, "get", apiGroups=[""], resources=["secrets"], verbs=["get"])
    with pytest.raises(StatusError, match='does not have "list" permission'):
        await alice.create(BINDINGS, selecting)
    await grant(policies, "list", apiGroups=[""], resources=["secrets"], verbs=["list"])
    await alice.create(BINDINGS, selecting)
