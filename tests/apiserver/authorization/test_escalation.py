"""Nobody grants what they don't hold; texts as upstream."""

from __future__ import annotations

import pytest

from pilothouse.apimachinery.errors import StatusError
from pilothouse.apimachinery.object import Obj
from pilothouse.apimachinery.schema import GroupResource
from pilothouse.apiserver.authorization.build import ClusterAuthorizer, build_authorizer
from pilothouse.apiserver.authorization.escalation import Escalation
from pilothouse.apiserver.authorization.rbac import GROUP
from pilothouse.apiserver.authorization.rules import compact_string, missing_rules
from pilothouse.apiserver.request.context import UserInfo
from pilothouse.apiserver.testing_listers import DictListers

ALICE = UserInfo("alice", ("dev",))
PODS: Obj = {"verbs": ["get", "list"], "apiGroups": [""], "resources": ["pods"]}
SECRETS: Obj = {"verbs": ["get", "list"], "apiGroups": [""], "resources": ["secrets"]}


def grant(listers: DictListers, name: str, *rules: Obj) -> None:
    role = {"kind": "ClusterRole", "metadata": {"name": name}, "rules": list(rules)}
    listers.put(GroupResource(GROUP, "clusterroles"), role)
    listers.put(
        GroupResource(GROUP, "clusterrolebindings"),
        {
            "kind": "ClusterRoleBinding",
            "metadata": {"name": name},
            "subjects": [{"kind": "User", "name": "alice"}],
            "roleRef": {"kind": "ClusterRole", "name": name, "apiGroup": GROUP},
        },
    )


@pytest.fixture
def listers() -> DictListers:
    return DictListers()


@pytest.fixture
def checker(listers: DictListers) -> Escalation:
    authorizer: ClusterAuthorizer = build_authorizer(None, listers)
    assert authorizer.escalation
    return authorizer.escalation


def role(*rules: Obj, **more: object) -> Obj:
    return {"metadata": {"name": "new", "namespace": "ns"}, "rules": list(rules), **more}


def test_refuses_and_names_what_is_missing(checker: Escalation, listers: DictListers) -> None:
    grant(listers, "g", PODS)
    checker.check_role(ALICE, "roles", role(PODS), None)
    with pytest.raises(StatusError) as caught:
        checker.check_role(ALICE, "roles", role(PODS, SECRETS), None)
    assert caught.value.message == (
        'roles.rbac.authorization.k8s.io "new" is forbidden: user "alice" (groups=["dev"]) is '
        "attempting to grant RBAC permissions not currently held:\n"
        '{APIGroups:[""], Resources:["secrets"], Verbs:["get" "list"]}'
    )


def test_escalate_verb_and_masters_pass(checker: Escalation, listers: DictListers) -> None:
    checker.check_role(UserInfo("root", ("system:masters",)), "roles", role(SECRETS), None)
    grant(listers, "e", {"verbs": ["escalate"], "apiGroups": [GROUP], "resources": ["roles"]})
    checker.check_role(ALICE, "roles", role(SECRETS), None)
    with pytest.raises(StatusError):
        checker.check_role(ALICE, "clusterroles", role(SECRETS), None)


def test_binding_needs_the_rules_or_bind(checker: Escalation, listers: DictListers) -> None:
    grant(listers, "g", PODS)
    binding = {
        "metadata": {"name": "b", "namespace": "ns"},
        "roleRef": {"kind": "ClusterRole", "name": "view", "apiGroup": GROUP},
    }
    with pytest.raises(StatusError, match="attempting to grant RBAC permissions"):
        checker.check_binding(ALICE, "rolebindings", binding, None)
    missing = {**binding, "roleRef": {"kind": "ClusterRole", "name": "none"}}
    with pytest.raises(StatusError) as caught:
        checker.check_binding(ALICE, "rolebindings", missing, None)
    assert caught.value.code == 404
    bind = {
        "verbs": ["bind"],
        "apiGroups": [GROUP],
        "resources": ["clusterroles"],
        "resourceNames": ["view"],
    }
    grant(listers, "b", bind)
    checker.check_binding(ALICE, "rolebindings", binding, None)


def test_aggregation_needs_everything(checker: Escalation, listers: DictListers) -> None:
    aggregated = role(aggregationRule={"clusterRoleSelectors": [{"matchLabels": {"a": "b"}}]})
    with pytest.raises(StatusError, match="must have cluster-admin privileges"):
        checker.check_role(ALICE, "clusterroles", aggregated, None)


def test_updates_of_gc_fields_pass(checker: Escalation) -> None:
    old = role(SECRETS)
    new = {**old, "metadata": {**old["metadata"], "finalizers": ["x"]}}
    checker.check_role(ALICE, "roles", new, old)
    with pytest.raises(StatusError):
        new = {**old, "metadata": {**old["metadata"], "labels": {"x": "y"}}}
        checker.check_role(ALICE, "roles", new, old)


def test_covers() -> None:
    everything: Obj = {"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}
    assert missing_rules([everything], [PODS, SECRETS]) == []
    scale: Obj = {"verbs": ["get"], "apiGroups": ["apps"], "resources": ["*/scale"]}
    wanted: Obj = {"verbs": ["get"], "apiGroups": ["apps"], "resources": ["deployments/scale"]}
    assert missing_rules([scale], [wanted]) == []
    named = {**PODS, "resourceNames": ["a"]}
    assert missing_rules([PODS], [named]) == []
    assert len(missing_rules([named], [PODS])) == 2
    urls: Obj = {"verbs": ["get"], "nonResourceURLs": ["/api/*"]}
    assert missing_rules([urls], [{"verbs": ["get"], "nonResourceURLs": ["/api/v1"]}]) == []
    assert missing_rules([urls], [{"verbs": ["get"], "nonResourceURLs": ["/x"]}])
    assert compact_string(urls) == '{NonResourceURLs:["/api/*"], Verbs:["get"]}'
