"""Rules, selectors and equivalence of admission policies, as upstream's matching_test.go."""

from __future__ import annotations

from typing import Any

import pytest

from pilothouse.apimachinery.errors import StatusError, new_not_found
from pilothouse.apimachinery.object import Obj
from pilothouse.apimachinery.schema import (
    GroupResource,
    GroupVersionKind,
    GroupVersionResource,
)
from pilothouse.apiserver.admission.interfaces import Attributes, Operation
from pilothouse.apiserver.admission.policy.matching import (
    Criteria,
    Equivalent,
    Match,
    Question,
    namespace_of,
)
from pilothouse.apiserver.request.context import UserInfo

V1 = GroupVersionResource("example.com", "v1", "widgets")
V2 = GroupVersionResource("example.com", "v2", "widgets")
KIND_V1 = GroupVersionKind("example.com", "v1", "Widget")
KIND_V2 = GroupVersionKind("example.com", "v2", "Widget")
NAMESPACES = GroupVersionResource("", "v1", "namespaces")


def request(
    operation: Operation = "CREATE",
    resource: GroupVersionResource = V1,
    *,
    subresource: str = "",
    namespace: str = "ns",
    name: str = "w",
    labels: dict[str, str] | None = None,
    old_labels: dict[str, str] | None = None,
) -> Attributes:
    obj = {"metadata": {"name": name, "labels": labels or {}}}
    old = None if old_labels is None else {"metadata": {"name": name, "labels": old_labels}}
    kind = KIND_V1 if resource == V1 else GroupVersionKind(resource.group, resource.version, "X")
    user = UserInfo("alice")
    return Attributes(operation, kind, resource, subresource, namespace, name, obj, old, user)


def rule(**more: Any) -> Obj:
    return {
        "operations": ["CREATE"],
        "apiGroups": ["example.com"],
        "apiVersions": ["v1"],
        "resources": ["widgets"],
        **more,
    }


def criteria(*rules: Obj, **more: Any) -> Criteria:
    return Criteria({"resourceRules": list(rules), "matchPolicy": "Exact", **more})


def matches(found: Criteria, attributes: Attributes, labels: Any = None) -> Match | None:
    equivalents = (Equivalent(V1, KIND_V1), Equivalent(V2, KIND_V2))
    return found.match(Question(attributes, {} if labels is None else labels, equivalents))


@pytest.mark.parametrize(
    ("changed", "attributes", "matched"),
    [
        ({}, request(), True),
        ({"operations": ["*"]}, request("DELETE"), True),
        ({}, request("UPDATE"), False),
        ({"apiGroups": ["*"]}, request(), True),
        ({"apiGroups": ["other"]}, request(), False),
        ({"apiVersions": ["*"]}, request(), True),
        ({"apiVersions": ["v2"]}, request(), False),
        ({"resources": ["*"]}, request(), True),
        ({"resources": ["*"]}, request(subresource="status"), False),
        ({"resources": ["*/*"]}, request(subresource="status"), True),
        ({"resources": ["widgets/*"]}, request(), True),
        ({"resources": ["widgets/status"]}, request(), False),
        ({"resources": ["widgets/status"]}, request(subresource="status"), True),
        ({"resources": ["*/status"]}, request(subresource="status"), True),
        ({"scope": "Namespaced"}, request(), True),
        ({"scope": "Namespaced"}, request(namespace=""), False),
        ({"scope": "Cluster"}, request(namespace=""), True),
        ({"scope": "Cluster"}, request(), False),
        ({"resourceNames": ["w", "x"]}, request(), True),
        ({"resourceNames": ["x"]}, request(), False),
    ],
)
def test_one_rule(changed: Obj, attributes: Attributes, matched: bool) -> None:
    found = matches(criteria(rule(**changed)), attributes)
    assert found == (Match(attributes.resource, KIND_V1) if matched else None)


def test_namespaces_are_cluster_scoped_though_requests_name_one() -> None:
    namespaces = rule(apiGroups=[""], resources=["namespaces"], scope="Cluster")
    attributes = request(resource=NAMESPACES, namespace="a", name="a")
    assert matches(criteria(namespaces), attributes) is not None
    assert matches(criteria({**namespaces, "scope": "Namespaced"}), attributes) is None


def test_no_rules_match_everything() -> None:
    assert matches(Criteria({}), request("DELETE", subresource="scale")) == Match(V1, KIND_V1)


def test_excluded_rules_win() -> None:
    found = criteria(rule(), excludeResourceRules=[rule(resourceNames=["keep"])])
    assert matches(found, request(name="other")) is not None
    assert matches(found, request(name="keep")) is None


@pytest.mark.parametrize(
    ("policy", "expected"), [("Exact", None), ("Equivalent", Match(V2, KIND_V2))]
)
def test_match_policy(policy: str, expected: Match | None) -> None:
    found = criteria(rule(apiVersions=["v2"]), matchPolicy=policy)
    assert matches(found, request()) == expected


def test_equivalent_resources_are_excluded_too() -> None:
    found = criteria(
        rule(), excludeResourceRules=[rule(apiVersions=["v2"])], matchPolicy="Equivalent"
    )
    assert matches(found, request()) is None


def test_the_resource_itself_goes_before_equivalents() -> None:
    rules = (rule(apiVersions=["v2"]), rule(apiVersions=["v1"]))
    assert matches(criteria(*rules, matchPolicy="Equivalent"), request()) == Match(V1, KIND_V1)


def test_an_equivalent_without_kind_is_an_error() -> None:
    found = criteria(rule(apiVersions=["v2"]), matchPolicy="Equivalent")
    question = Question(request(), {}, (Equivalent(V2, None),))
    with pytest.raises(StatusError, match=r"unable to convert to example\.com/v2"):
        found.match(question)


@pytest.mark.parametrize(
    ("labels", "old_labels", "matched"),
    [
        ({"a": "b"}, None, True),
        ({"a": "c"}, None, False),
        ({"a": "c"}, {"a": "b"}, True),
        ({}, {"a": "c"}, False),
    ],
)
def test_object_selector(
    labels: dict[str, str], old_labels: dict[str, str] | None, matched: bool
) -> None:
    found = criteria(rule(), objectSelector={"matchLabels": {"a": "b"}})
    attributes = request(labels=labels, old_labels=old_labels)
    assert (matches(found, attributes) is not None) is matched


@pytest.mark.parametrize(("labels", "matched"), [({"a": "b"}, True), ({"a": "c"}, False)])
def test_namespace_selector(labels: dict[str, str], matched: bool) -> None:
    found = criteria(rule(), namespaceSelector={"matchLabels": {"a": "b"}})
    assert (matches(found, request(), labels) is not None) is matched


def test_cluster_scoped_objects_are_never_excluded_by_namespace() -> None:
    found = criteria(rule(), namespaceSelector={"matchLabels": {"a": "b"}})
    assert found.match(Question(request(namespace=""), None)) is not None


def test_a_missing_namespace_is_an_error_only_for_what_the_rules_match() -> None:
    missing = new_not_found(GroupResource("", "namespaces"), "ns")
    selector = {"matchLabels": {"a": "b"}}
    assert matches(criteria(rule(operations=["DELETE"])), request(), missing) is None
    with pytest.raises(StatusError, match='namespaces "ns" not found'):
        matches(criteria(rule(), namespaceSelector=selector), request(), missing)


def test_a_broken_selector_is_an_error_only_for_what_the_rules_match() -> None:
    broken = {"matchExpressions": [{"key": "a", "operator": "Near", "values": ["b"]}]}
    found = criteria(rule(), objectSelector=broken)
    assert matches(found, request("DELETE")) is None
    with pytest.raises(StatusError, match='"Near" is not a valid label selector operator'):
        matches(found, request())


def test_what_the_chain_remembers_ignores_versions_names_and_scopes() -> None:
    resource = GroupResource("example.com", "widgets")
    found = criteria(rule(apiVersions=["v9"], resourceNames=["x"], scope="Cluster"))
    assert found.may_concern("CREATE", resource, "")
    assert not found.may_concern("DELETE", resource, "")
    assert not found.may_concern("CREATE", resource, "status")
    assert not found.may_concern("CREATE", GroupResource("", "widgets"), "")
    assert Criteria({}).may_concern("CONNECT", resource, "exec")


def test_what_the_chain_remembers_knows_other_groups_of_the_same_objects() -> None:
    events = GroupVersionResource("events.k8s.io", "v1", "events")
    core = GroupResource("", "events")
    known = (Equivalent(events, None),)
    groups = rule(apiGroups=["events.k8s.io"], resources=["events"])
    assert not criteria(groups).may_concern("CREATE", core, "", known)
    assert criteria(groups, matchPolicy="Equivalent").may_concern("CREATE", core, "", known)


def test_the_namespace_of_a_namespace_is_its_name() -> None:
    assert namespace_of(request(resource=NAMESPACES, namespace="", name="a")) == "a"
    assert namespace_of(request()) == "ns"
