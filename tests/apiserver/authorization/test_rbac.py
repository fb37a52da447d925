"""RBAC decisions, reasons, seeds, rule listing."""

from __future__ import annotations

from typing import Any

import pytest

from pilothouse.apimachinery.object import Obj
from pilothouse.apimachinery.schema import GroupResource
from pilothouse.apiserver.authorization.bootstrap_policy import bootstrap_objects
from pilothouse.apiserver.authorization.build import build_authorizer
from pilothouse.apiserver.authorization.interfaces import AuthorizationAttributes, Decision
from pilothouse.apiserver.authorization.rbac import GROUP, RBACAuthorizer, RBACIndex, follow
from pilothouse.apiserver.request.context import UserInfo
from pilothouse.apiserver.testing_listers import DictListers

CLUSTER_ROLES = GroupResource(GROUP, "clusterroles")
CLUSTER_BINDINGS = GroupResource(GROUP, "clusterrolebindings")
ROLES = GroupResource(GROUP, "roles")
BINDINGS = GroupResource(GROUP, "rolebindings")
ALICE = UserInfo("alice", ("dev", "system:authenticated"))


def role(name: str, *rules: Obj, namespace: str = "") -> Obj:
    metadata = {"name": name} | ({"namespace": namespace} if namespace else {})
    return {"kind": "Role" if namespace else "ClusterRole", "metadata": metadata, "rules": rules}


def binding(
    name: str, role_name: str, subject: Obj, *, namespace: str = "", role_kind: str = ""
) -> Obj:
    kind = "RoleBinding" if namespace else "ClusterRoleBinding"
    metadata = {"name": name} | ({"namespace": namespace} if namespace else {})
    role_kind = role_kind or ("Role" if namespace else "ClusterRole")
    return {
        "kind": kind,
        "metadata": metadata,
        "subjects": [subject],
        "roleRef": {"kind": role_kind, "name": role_name, "apiGroup": GROUP},
    }


def user(name: str) -> Obj:
    return {"kind": "User", "name": name, "apiGroup": GROUP}


def ask(authorizer: Any, who: UserInfo, verb: str, resource: str, **more: Any) -> tuple[Any, str]:
    return authorizer.authorize(AuthorizationAttributes(who, verb, resource=resource, **more))


@pytest.fixture
def listers() -> DictListers:
    return DictListers()


@pytest.fixture
def rbac(listers: DictListers) -> RBACAuthorizer:
    index = RBACIndex()
    follow(index, listers)
    return RBACAuthorizer(index)


def rule(verbs: str, groups: str, resources: str, names: str = "") -> Obj:
    made: Obj = {
        "verbs": verbs.split(","),
        "apiGroups": groups.split(","),
        "resources": resources.split(","),
    }
    if names:
        made["resourceNames"] = names.split(",")
    return made


def test_reason_names_binding_role_and_subject(rbac: RBACAuthorizer, listers: DictListers) -> None:
    listers.put(CLUSTER_ROLES, role("reader", rule("get", "", "pods")))
    subject = {"kind": "Group", "name": "dev"}
    listers.put(CLUSTER_BINDINGS, binding("devs", "reader", subject))
    expected = 'RBAC: allowed by ClusterRoleBinding "devs" of ClusterRole "reader" to Group "dev"'
    assert ask(rbac, ALICE, "get", "pods") == (Decision.ALLOW, expected)
    assert ask(rbac, ALICE, "get", "pods", namespace="x") == (Decision.ALLOW, expected)
    assert ask(rbac, ALICE, "list", "pods") == (Decision.NO_OPINION, "")


def test_namespaced_role_holds_only_in_its_namespace(
    rbac: RBACAuthorizer, listers: DictListers
) -> None:
    listers.put(ROLES, role("editor", rule("*", "*", "*"), namespace="a"))
    account = {"kind": "ServiceAccount", "name": "bot"}
    listers.put(BINDINGS, binding("b", "editor", account, namespace="a"))
    bot = UserInfo("system:serviceaccount:a:bot")
    decision, reason = ask(rbac, bot, "delete", "secrets", namespace="a", name="s")
    assert decision is Decision.ALLOW
    assert reason == 'RBAC: allowed by RoleBinding "b/a" of Role "editor" to ServiceAccount "bot/a"'
    assert ask(rbac, bot, "delete", "secrets", namespace="b")[0] is Decision.NO_OPINION
    assert ask(rbac, bot, "delete", "secrets")[0] is Decision.NO_OPINION


@pytest.mark.parametrize(
    ("resource", "subresource", "allowed"),
    [
        ("pods", "log", True),
        ("pods", "", False),
        ("pods", "exec", False),
        ("deployments", "scale", True),
        ("replicasets", "scale", True),
        ("replicasets", "status", False),
    ],
)
def test_subresources(
    rbac: RBACAuthorizer, listers: DictListers, resource: str, subresource: str, allowed: bool
) -> None:
    listers.put(CLUSTER_ROLES, role("r", rule("get", "*", "pods/log,*/scale")))
    listers.put(CLUSTER_BINDINGS, binding("b", "r", user("alice")))
    decision, _ = ask(rbac, ALICE, "get", resource, subresource=subresource)
    assert (decision is Decision.ALLOW) is allowed


def test_resource_names(rbac: RBACAuthorizer, listers: DictListers) -> None:
    listers.put(CLUSTER_ROLES, role("r", rule("get,list", "", "configmaps", "one,two")))
    listers.put(CLUSTER_BINDINGS, binding("b", "r", user("alice")))
    for name, allowed in (("one", True), ("two", True), ("three", False), ("", False)):
        decision, _ = ask(rbac, ALICE, "get", "configmaps", namespace="x", name=name)
        assert (decision is Decision.ALLOW) is allowed, name


def test_non_resource_urls(rbac: RBACAuthorizer, listers: DictListers) -> None:
    urls = {"verbs": ["get"], "nonResourceURLs": ["/healthz", "/api/*"]}
    listers.put(CLUSTER_ROLES, role("r", urls))
    listers.put(CLUSTER_BINDINGS, binding("b", "r", user("alice")))

    def may(path: str, verb: str = "get") -> bool:
        attributes = AuthorizationAttributes(ALICE, verb, resource_request=False, path=path)
        return rbac.authorize(attributes)[0] is Decision.ALLOW

    assert may("/healthz") and may("/api/") and may("/api/v1")
    assert not may("/healthz/x") and not may("/api") and not may("/api/v1", "post")
    assert ask(rbac, ALICE, "get", "pods")[0] is Decision.NO_OPINION


def test_changes_take_effect_at_once(rbac: RBACAuthorizer, listers: DictListers) -> None:
    listers.put(CLUSTER_ROLES, role("r", rule("get", "", "pods")))
    listers.put(CLUSTER_BINDINGS, binding("b", "r", user("alice")))
    assert ask(rbac, ALICE, "get", "pods")[0] is Decision.ALLOW
    listers.put(CLUSTER_ROLES, role("r", rule("list", "", "pods")))
    assert ask(rbac, ALICE, "get", "pods")[0] is Decision.NO_OPINION
    assert ask(rbac, ALICE, "list", "pods")[0] is Decision.ALLOW
    listers.remove(CLUSTER_BINDINGS, "", "b")
    assert ask(rbac, ALICE, "list", "pods")[0] is Decision.NO_OPINION


def test_missing_role_is_the_reason(rbac: RBACAuthorizer, listers: DictListers) -> None:
    listers.put(CLUSTER_BINDINGS, binding("b", "gone", user("alice")))
    reason = 'RBAC: clusterrole.rbac.authorization.k8s.io "gone" not found'
    assert ask(rbac, ALICE, "get", "pods") == (Decision.NO_OPINION, reason)


def test_rules_for(rbac: RBACAuthorizer, listers: DictListers) -> None:
    listers.put(
        CLUSTER_ROLES,
        role("r", rule("get", "", "pods"), {"verbs": ["get"], "nonResourceURLs": ["/x"]}),
    )
    listers.put(CLUSTER_BINDINGS, binding("b", "r", user("alice")))
    listers.put(ROLES, role("n", rule("list", "", "pods", "a"), namespace="a"))
    listers.put(BINDINGS, binding("b", "n", user("alice"), namespace="a"))
    review = rbac.rules_for(ALICE, "a")
    assert review.resource_rules == [
        {"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]},
        {"verbs": ["list"], "apiGroups": [""], "resources": ["pods"], "resourceNames": ["a"]},
    ]
    assert review.non_resource_rules == [{"verbs": ["get"], "nonResourceURLs": ["/x"]}]
    assert len(rbac.rules_for(ALICE, "b").resource_rules) == 1


def test_seeds_decide_until_sealed(listers: DictListers) -> None:
    authorizer = build_authorizer(None, listers)
    scheduler = UserInfo("system:kube-scheduler", ("system:authenticated",))
    assert ask(authorizer, scheduler, "create", "pods", subresource="binding")[0] is Decision.ALLOW
    for obj in bootstrap_objects():
        if obj["metadata"]["name"] != "system:kube-scheduler":
            resource = {
                "ClusterRole": CLUSTER_ROLES,
                "ClusterRoleBinding": CLUSTER_BINDINGS,
                "Role": ROLES,
                "RoleBinding": BINDINGS,
            }[obj["kind"]]
            listers.put(resource, obj)
    assert authorizer.rbac_index
    assert ask(authorizer, scheduler, "create", "pods", subresource="binding")[0] is Decision.ALLOW
    authorizer.rbac_index.seal()
    assert (
        ask(authorizer, scheduler, "create", "pods", subresource="binding")[0]
        is Decision.NO_OPINION
    )


def test_deleted_bootstrap_object_stays_deleted(listers: DictListers) -> None:
    authorizer = build_authorizer(None, listers)
    obj = next(
        o
        for o in bootstrap_objects()
        if o["kind"] == "ClusterRoleBinding" and o["metadata"]["name"] == "system:discovery"
    )
    listers.put(CLUSTER_BINDINGS, obj)
    listers.remove(CLUSTER_BINDINGS, "", "system:discovery")
    attributes = AuthorizationAttributes(ALICE, "get", resource_request=False, path="/api")
    assert authorizer.authorize(attributes)[0] is Decision.NO_OPINION


def test_masters_and_bootstrap_roles(listers: DictListers) -> None:
    authorizer = build_authorizer(None, listers)
    admin = UserInfo("kubernetes-admin", ("system:masters",))
    assert ask(authorizer, admin, "anything", "goes") == (Decision.ALLOW, "")
    anonymous = UserInfo("system:anonymous", ("system:unauthenticated",))
    version = AuthorizationAttributes(anonymous, "get", resource_request=False, path="/version")
    assert authorizer.authorize(version)[1] == (
        'RBAC: allowed by ClusterRoleBinding "system:public-info-viewer" of ClusterRole '
        '"system:public-info-viewer" to Group "system:unauthenticated"'
    )
    assert ask(authorizer, anonymous, "get", "pods")[0] is Decision.NO_OPINION


def test_unknown_mode(listers: DictListers) -> None:
    class Config:
        authorization_mode = ("Magic",)

    with pytest.raises(ValueError, match='authorization-mode "Magic" is not a valid mode'):
        build_authorizer(Config(), listers)
