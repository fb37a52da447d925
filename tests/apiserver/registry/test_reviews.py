"""The kinds that are answered and never stored."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from pilothouse.apimachinery.errors import StatusError
from pilothouse.apimachinery.object import Obj
from pilothouse.apimachinery.schema import GroupResource
from pilothouse.apimachinery.testing import FakeClock
from pilothouse.apiserver.authentication.build import build_authenticator
from pilothouse.apiserver.authorization.build import build_authorizer
from pilothouse.apiserver.registry.reviews import ReviewServices, create_review
from pilothouse.apiserver.request.context import UserInfo
from pilothouse.apiserver.testing_listers import DictListers

ADMIN = UserInfo("admin", ("system:masters", "system:authenticated"))
ALICE = UserInfo("alice", ("system:authenticated",), "u", (("k", ("v",)),))
POD_READ = {"verb": "get", "resource": "pods", "namespace": "ns"}


@pytest.fixture
def services() -> ReviewServices:
    clock, listers = FakeClock(datetime(2026, 1, 1, tzinfo=UTC)), DictListers()
    return ReviewServices(
        build_authenticator(None, listers, clock), build_authorizer(None, listers), clock
    )


async def ask(
    services: ReviewServices, resource: str, obj: Obj, user: UserInfo = ALICE, namespace: str = ""
) -> Any:
    group = (
        "authentication" if resource in ("tokenreviews", "selfsubjectreviews") else "authorization"
    )
    return await create_review(
        services, GroupResource(f"{group}.k8s.io", resource), user, namespace, obj
    )


async def test_self_subject_review(services: ReviewServices) -> None:
    answer = await ask(services, "selfsubjectreviews", {})
    assert answer["metadata"] == {"creationTimestamp": "2026-01-01T00:00:00Z"}
    assert answer["status"]["userInfo"] == {
        "username": "alice",
        "uid": "u",
        "groups": ["system:authenticated"],
        "extra": {"k": ["v"]},
    }


async def test_access_reviews(services: ReviewServices) -> None:
    mine = {"spec": {"resourceAttributes": POD_READ}}
    assert (await ask(services, "selfsubjectaccessreviews", mine))["status"] == {"allowed": False}
    answer = await ask(services, "selfsubjectaccessreviews", mine, ADMIN)
    assert answer["status"] == {"allowed": True}
    theirs = {"spec": {"user": "system:kube-scheduler", "resourceAttributes": POD_READ}}
    answer = await ask(services, "subjectaccessreviews", theirs)
    assert answer["status"]["allowed"] is True
    assert answer["status"]["reason"].startswith("RBAC: allowed by ClusterRoleBinding")
    local = await ask(services, "localsubjectaccessreviews", theirs, namespace="ns")
    assert local["status"]["allowed"] is True
    path = {"nonResourceAttributes": {"verb": "get", "path": "/version"}}
    answer = await ask(services, "selfsubjectaccessreviews", {"spec": path})
    assert answer["status"]["allowed"] is True


async def test_field_selector_reaches_the_node_authorizer(services: ReviewServices) -> None:
    asked = {
        "verb": "list",
        "resource": "pods",
        "fieldSelector": {"rawSelector": "spec.nodeName=n"},
    }
    spec = {"user": "system:node:n", "groups": ["system:nodes"], "resourceAttributes": asked}
    answer = await ask(services, "subjectaccessreviews", {"spec": spec})
    assert answer["status"]["allowed"] is True
    requirement = {"key": "spec.nodeName", "operator": "In", "values": ["other"]}
    asked["fieldSelector"] = {"requirements": [requirement]}
    answer = await ask(services, "subjectaccessreviews", {"spec": spec})
    assert answer["status"]["allowed"] is False


@pytest.mark.parametrize(
    ("resource", "obj", "text"),
    [
        ("selfsubjectaccessreviews", {"spec": {}}, "exactly one of nonResourceAttributes"),
        (
            "subjectaccessreviews",
            {"spec": {"resourceAttributes": POD_READ}},
            "at least one of user or group must be specified",
        ),
        (
            "subjectaccessreviews",
            {"metadata": {"name": "x"}, "spec": {"user": "u", "resourceAttributes": POD_READ}},
            "must be empty",
        ),
        (
            "localsubjectaccessreviews",
            {"spec": {"user": "u", "resourceAttributes": {**POD_READ, "namespace": "x"}}},
            "must match metadata.namespace",
        ),
    ],
)
async def test_invalid(services: ReviewServices, resource: str, obj: Obj, text: str) -> None:
    with pytest.raises(StatusError) as caught:
        await ask(services, resource, obj, namespace="ns" if "local" in resource else "")
    assert caught.value.code == 422 and text in caught.value.message


async def test_rules_review(services: ReviewServices) -> None:
    answer = await ask(services, "selfsubjectrulesreviews", {"spec": {"namespace": "ns"}})
    status = answer["status"]
    assert {
        "verbs": ["create"],
        "apiGroups": ["authorization.k8s.io"],
        "resources": ["selfsubjectaccessreviews", "selfsubjectrulesreviews"],
    } in status["resourceRules"]
    assert status["incomplete"] is False
    node = UserInfo("system:node:n", ("system:nodes",))
    answer = await ask(services, "selfsubjectrulesreviews", {"spec": {"namespace": "ns"}}, node)
    assert answer["status"]["incomplete"] is True
    with pytest.raises(StatusError, match="no namespace on request"):
        await ask(services, "selfsubjectrulesreviews", {"spec": {}})


async def test_token_review(services: ReviewServices) -> None:
    answer = await ask(services, "tokenreviews", {"spec": {"token": "bad"}})
    assert answer["status"] == {"error": "invalid bearer token", "user": {}}
    with pytest.raises(StatusError, match="token is required"):
        await ask(services, "tokenreviews", {"spec": {}})
