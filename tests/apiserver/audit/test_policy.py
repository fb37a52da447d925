"""Audit policies: the first rule that matches decides; wrong ones are refused."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from pilothouse.apiserver.audit.policy import Level, load_policy, policy_of
from pilothouse.apiserver.authorization.interfaces import AuthorizationAttributes
from pilothouse.apiserver.request.context import UserInfo

HEAD = {"apiVersion": "audit.k8s.io/v1", "kind": "Policy"}
BOB = UserInfo("bob", ("devs", "system:authenticated"))


def asked(verb: str = "get", **parts: Any) -> AuthorizationAttributes:
    return AuthorizationAttributes(BOB, verb, **parts)


def level(rule: dict[str, Any], attributes: AuthorizationAttributes) -> str:
    return (
        policy_of({**HEAD, "rules": [{"level": "Request", **rule}]}).evaluate(attributes).level.text
    )


PODS = asked(resource="pods", namespace="a", name="p")
LOG = asked(resource="pods", subresource="log", namespace="a", name="p")
HEALTH = asked(resource_request=False, path="/healthz/etcd")


@pytest.mark.parametrize(
    ("rule", "attributes", "matches"),
    [
        ({}, PODS, True),
        ({"users": ["bob"]}, PODS, True),
        ({"users": ["eve"]}, PODS, False),
        ({"userGroups": ["ops", "devs"]}, PODS, True),
        ({"userGroups": ["ops"]}, PODS, False),
        ({"verbs": ["list"]}, PODS, False),
        ({"namespaces": ["a"]}, PODS, True),
        ({"namespaces": ["b"]}, PODS, False),
        ({"namespaces": [""]}, asked(resource="nodes"), True),
        ({"namespaces": ["a"]}, HEALTH, False),
        ({"resources": [{"group": ""}]}, PODS, True),
        ({"resources": [{"group": "apps"}]}, PODS, False),
        ({"resources": [{"resources": ["pods"]}]}, LOG, False),
        ({"resources": [{"resources": ["pods/log"]}]}, LOG, True),
        ({"resources": [{"resources": ["pods/*"]}]}, LOG, True),
        ({"resources": [{"resources": ["*/log"]}]}, LOG, True),
        ({"resources": [{"resources": ["*"], "resourceNames": ["q"]}]}, PODS, False),
        ({"resources": [{"group": "*", "resources": ["*"], "resourceNames": ["p"]}]}, PODS, True),
        ({"nonResourceURLs": ["/healthz*"]}, HEALTH, True),
        ({"nonResourceURLs": ["/healthz"]}, HEALTH, False),
        ({"nonResourceURLs": ["*"]}, PODS, False),
    ],
)
def test_rules(rule: dict[str, Any], attributes: AuthorizationAttributes, matches: bool) -> None:
    assert level(rule, attributes) == ("Request" if matches else "None")


def test_the_first_match_decides_and_stages_add_up() -> None:
    policy = policy_of(
        {
            **HEAD,
            "omitStages": ["RequestReceived"],
            "omitManagedFields": True,
            "rules": [
                {"level": "None", "users": ["eve"]},
                {"level": "Metadata", "omitStages": ["Panic"], "omitManagedFields": False},
            ],
        }
    )
    found = policy.evaluate(PODS)
    assert found.level is Level.METADATA
    assert found.omit_stages == {"RequestReceived", "Panic"}
    assert not found.omit_managed_fields


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"rules": []}, "loaded illegal policy with 0 rules"),
        ({"apiVersion": "audit.k8s.io/v2"}, "unknown group version field"),
        ({"rules": [{}]}, "rules[0].level: Required value"),
        (
            {"rules": [{"level": "All"}]},
            'rules[0].level: Unsupported value: "All": supported values: '
            '"None", "Metadata", "Request", "RequestResponse"',
        ),
        (
            {"rules": [{"level": "None", "nonResourceURLs": ["a"]}]},
            "non-resource URL rules must begin with a '/' character",
        ),
        (
            {"rules": [{"level": "None", "nonResourceURLs": ["/a"], "namespaces": ["b"]}]},
            "rules cannot apply to both regular resources and non-resource URLs",
        ),
        (
            {"rules": [{"level": "None", "resources": [{"resourceNames": ["a"]}]}]},
            "using resourceNames requires at least one resource",
        ),
        ({"omitStages": ["Never"], "rules": [{"level": "None"}]}, "allowed stages are"),
    ],
)
def test_wrong_policies(content: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        policy_of({**HEAD, **content})


def test_files(tmp_path: Path) -> None:
    path = tmp_path / "policy.yaml"
    with pytest.raises(ValueError, match="failed to read file path"):
        load_policy(str(path))
    path.write_text("apiVersion: audit.k8s.io/v1\nkind: Policy\nrules: [{level: Metadata}]\n")
    assert load_policy(str(path)).evaluate(HEALTH).level is Level.METADATA
