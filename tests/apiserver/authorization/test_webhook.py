"""Authorization webhooks in a running server: answers, order, caches, failures, reloads."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from pilothouse.apimachinery.clock import RealClock
from pilothouse.apimachinery.schema import GroupVersionResource
from pilothouse.apiserver.authorization.configuration import load_settings
from pilothouse.apiserver.authorization.interfaces import AuthorizationAttributes
from pilothouse.apiserver.authorization.webhook import review_spec
from pilothouse.apiserver.request.context import UserInfo
from pilothouse.apiserver.server import APIServer
from pilothouse.apiserver.testing import running_server
from pilothouse.apiserver.webhook.testing import WebhookServer

Obj = dict[str, Any]
PODS = "/api/v1/namespaces/default/pods"
WEBHOOKS = GroupVersionResource(
    "admissionregistration.k8s.io", "v1", "validatingwebhookconfigurations"
)


def kubeconfig(directory: Path, hooks: WebhookServer, path: str) -> str:
    file = directory / f"{path.strip('/')}.kubeconfig"
    cluster = {
        "server": f"https://127.0.0.1:{hooks.port}{path}",
        "certificate-authority-data": hooks.ca_bundle,
    }
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "hook", "cluster": cluster}],
        "users": [{"name": "api-server", "user": {"token": "of-the-server"}}],
        "contexts": [{"name": "hook", "context": {"cluster": "hook", "user": "api-server"}}],
        "current-context": "hook",
    }
    file.write_text(json.dumps(config))
    return str(file)


def answer(**status: Any) -> Any:
    def reply(review: Obj) -> Obj:
        return {**review, "status": {"allowed": False} | status}

    return reply


@asynccontextmanager
async def serving(tmp_path: Path, **settings: Any) -> AsyncIterator[APIServer]:
    tokens = tmp_path / "tokens.csv"
    tokens.write_text('ann-token,ann,1,"devs"\nroot-token,root,2,"system:masters"\n')
    async with running_server(
        clock=RealClock(), serve=True, token_auth_file=str(tokens), **settings
    ) as server:
        yield server


async def call(server: APIServer, path: str, token: str = "ann-token", body: Any = None) -> Any:
    headers = {"Authorization": f"Bearer {token}"}
    method = "POST" if body is not None else "GET"
    async with aiohttp.ClientSession() as session:
        async with session.request(method, server.url + path, headers=headers, json=body) as got:
            return got.status, await got.json()


@pytest.fixture
async def hooks() -> AsyncIterator[WebhookServer]:
    async with WebhookServer() as server:
        yield server


async def test_mode_webhook(tmp_path: Path, hooks: WebhookServer) -> None:
    hooks.on("/authz", answer(allowed=True))
    async with serving(
        tmp_path,
        authorization_mode=("RBAC", "Webhook"),
        authorization_webhook_config_file=kubeconfig(tmp_path, hooks, "/authz"),
    ) as server:
        status, pods = await call(server, f"{PODS}?fieldSelector=spec.nodeName%3Da")
        assert (status, pods["kind"]) == (200, "PodList")
        (review,) = hooks.reviews["/authz"]
        assert review["apiVersion"] == "authorization.k8s.io/v1beta1"
        selector = {"requirements": [{"key": "spec.nodeName", "operator": "In", "values": ["a"]}]}
        assert review["spec"] == {
            "user": "ann",
            "uid": "1",
            "group": ["devs", "system:authenticated"],
            "resourceAttributes": {
                "namespace": "default",
                "verb": "list",
                "version": "v1",
                "resource": "pods",
                "fieldSelector": selector,
            },
        }
        assert hooks.targets == ["/authz?timeout=30s"]
        await call(server, f"{PODS}?fieldSelector=spec.nodeName%3Da")
        assert len(hooks.reviews["/authz"]) == 1  # the answer is kept
        status, _ = await call(server, PODS, "root-token")
        assert (status, len(hooks.reviews["/authz"])) == (200, 1)  # masters aren't asked about
        status, _ = await call(server, "/version")
        assert (status, len(hooks.reviews["/authz"])) == (200, 1)  # RBAC allows it before


async def test_match_conditions_of_admission_webhooks_wait(
    tmp_path: Path, hooks: WebhookServer
) -> None:
    hooks.on("/authz", answer(allowed=True))
    hooks.on("/admit", lambda review: {"allowed": False, "uid": review["request"]["uid"]})
    condition = "!authorizer.group('').resource('secrets').check('breakglass').allowed()"
    webhook = {
        "name": "a.example.com",
        "clientConfig": {
            "url": f"https://127.0.0.1:{hooks.port}/admit",
            "caBundle": hooks.ca_bundle,
        },
        "rules": [
            {
                "apiGroups": [""],
                "apiVersions": ["v1"],
                "operations": ["CREATE"],
                "resources": ["configmaps"],
            }
        ],
        "matchConditions": [{"name": "c", "expression": condition}],
        "admissionReviewVersions": ["v1"],
        "sideEffects": "None",
    }
    configuration = {"metadata": {"name": "a"}, "webhooks": [webhook]}
    async with serving(
        tmp_path,
        authorization_mode=("RBAC", "Webhook"),
        authorization_webhook_config_file=kubeconfig(tmp_path, hooks, "/authz"),
    ) as server:
        await server.local_client().create(WEBHOOKS, configuration)
        path = "/api/v1/namespaces/default/configmaps"
        status, _ = await call(server, path, body={"metadata": {"name": "a"}})
        assert (status, hooks.reviews.get("/admit")) == (201, None)
        asked = [review["spec"].get("resourceAttributes") for review in hooks.reviews["/authz"]]
        assert {"verb": "breakglass", "version": "*", "resource": "secrets"} in asked


async def test_what_the_webhook_says_is_the_reason(tmp_path: Path, hooks: WebhookServer) -> None:
    hooks.on("/authz", answer(denied=True, reason="not on mondays"))
    async with serving(
        tmp_path,
        authorization_mode=("Webhook", "AlwaysAllow"),
        authorization_webhook_config_file=kubeconfig(tmp_path, hooks, "/authz"),
        authorization_webhook_version="v1",
    ) as server:
        status, refused = await call(server, PODS)
        assert status == 403
        assert refused["message"] == (
            'pods is forbidden: User "ann" cannot list resource "pods" in API group "" in the '
            'namespace "default": not on mondays'
        )
        review = {
            "kind": "SubjectAccessReview",
            "apiVersion": "authorization.k8s.io/v1",
            "spec": {"user": "bob", "nonResourceAttributes": {"path": "/x", "verb": "get"}},
        }
        path = "/apis/authorization.k8s.io/v1/subjectaccessreviews"
        status, answered = await call(server, path, "root-token", review)
        assert status == 201
        assert answered["status"] == {
            "allowed": False,
            "denied": True,
            "reason": "not on mondays",
        }


async def test_a_webhook_that_is_away(tmp_path: Path, hooks: WebhookServer) -> None:
    """NoOpinion: an error when nobody else allows; the request is not simply forbidden."""
    file = kubeconfig(tmp_path, hooks, "/authz")
    await hooks.__aexit__()
    async with serving(
        tmp_path, authorization_mode=("Webhook", "RBAC"), authorization_webhook_config_file=file
    ) as server:
        status, failed = await call(server, PODS)
        assert (status, failed["reason"]) == (500, "InternalError")
        status, _ = await call(server, "/version")
        assert status == 200
    await hooks.__aenter__()


def configuration(directory: Path, *webhooks: Obj, others: tuple[str, ...] = ("RBAC",)) -> str:
    authorizers: list[Obj] = [
        {"type": "Webhook", "name": f"hook-{number}", "webhook": webhook}
        for number, webhook in enumerate(webhooks)
    ]
    authorizers += [{"type": kind, "name": kind.lower()} for kind in others]
    return json.dumps(
        {
            "apiVersion": "apiserver.config.k8s.io/v1",
            "kind": "AuthorizationConfiguration",
            "authorizers": authorizers,
        }
    )


def webhook(file: str, *expressions: str, policy: str = "NoOpinion", **more: Any) -> Obj:
    made = {
        "timeout": "3s",
        "subjectAccessReviewVersion": "v1",
        "failurePolicy": policy,
        "connectionInfo": {"type": "KubeConfigFile", "kubeConfigFile": file},
    }
    if expressions:
        made["matchConditionSubjectAccessReviewVersion"] = "v1"
        made["matchConditions"] = [{"expression": text} for text in expressions]
    return made | more


async def test_chain_with_conditions_and_reload(tmp_path: Path, hooks: WebhookServer) -> None:
    hooks.on("/first", answer(denied=True, reason="first"))
    hooks.on("/second", answer(allowed=True))
    first = webhook(
        kubeconfig(tmp_path, hooks, "/first"),
        "has(request.resourceAttributes)",
        "request.resourceAttributes.namespace == 'kube-system'",
    )
    second = webhook(kubeconfig(tmp_path, hooks, "/second"), "!('nobody' in request.groups)")
    file = tmp_path / "authz.json"
    file.write_text(configuration(tmp_path, first, second))
    async with serving(tmp_path, authorization_config=str(file)) as server:
        assert (await call(server, PODS))[0] == 200
        assert "/first" not in hooks.reviews
        assert (await call(server, "/api/v1/namespaces/kube-system/pods"))[0] == 403
        assert len(hooks.reviews["/first"]) == 1
        file.write_text("nonsense")
        file.write_text(configuration(tmp_path, second | {"failurePolicy": "Deny"}, first))
        for _ in range(200):
            if (await call(server, "/api/v1/namespaces/kube-system/pods"))[0] == 200:
                break
            await asyncio.sleep(0.01)
        assert (await call(server, "/api/v1/namespaces/kube-system/pods"))[0] == 200


async def test_condition_that_fails_follows_the_failure_policy(
    tmp_path: Path, hooks: WebhookServer
) -> None:
    hooks.on("/authz", answer(allowed=True))
    broken = webhook(
        kubeconfig(tmp_path, hooks, "/authz"),
        "request.resourceAttributes.namespace == 'x'",
        policy="Deny",
    )
    file = tmp_path / "authz.json"
    file.write_text(configuration(tmp_path, broken))
    async with serving(tmp_path, authorization_config=str(file)) as server:
        status, failed = await call(server, "/version")
        assert (status, failed["reason"]) == (500, "InternalError")
        assert "cel evaluation error" in failed["message"]


async def test_rights_of_a_webhook_count_for_escalation(
    tmp_path: Path, hooks: WebhookServer
) -> None:
    def reply(review: Obj) -> Obj:
        verb = (review["spec"].get("resourceAttributes") or {}).get("verb")
        return {**review, "status": {"allowed": verb in allowed}}

    allowed = {"create"}
    hooks.on("/authz", reply)
    role = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "Role",
        "metadata": {"name": "r"},
        "rules": [{"verbs": ["get"], "apiGroups": [""], "resources": ["secrets"]}],
    }
    path = "/apis/rbac.authorization.k8s.io/v1/namespaces/default/roles"
    async with serving(
        tmp_path,
        authorization_mode=("RBAC", "Webhook"),
        authorization_webhook_config_file=kubeconfig(tmp_path, hooks, "/authz"),
        authorization_webhook_cache_unauthorized_ttl=0,
    ) as server:
        assert (await call(server, path, body=role))[0] == 403
        allowed.add("escalate")
        assert (await call(server, path, body=role))[0] == 201


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"timeout": "31s"}, 'timeout: Invalid value: "31s": must be > 0s and <= 30s'),
        ({"failurePolicy": ""}, "authorizers[0].failurePolicy: Required value"),
        ({"subjectAccessReviewVersion": "v2"}, 'Unsupported value: "v2"'),
        ({"unknown": 1}, 'unknown field "authorizers[0].webhook.unknown"'),
        ({"matchConditions": [{"expression": "1 +"}]}, "compilation failed"),
        ({"matchConditions": [{"expression": "1"}]}, "must evaluate to bool but got int"),
    ],
)
def test_configurations_that_are_refused(tmp_path: Path, change: Obj, message: str) -> None:
    (tmp_path / "file").write_text("")
    good = webhook(str(tmp_path / "file"), "true")
    load_settings(configuration(tmp_path, good).encode())
    with pytest.raises(ValueError) as caught:
        load_settings(configuration(tmp_path, good | change).encode())
    assert message in str(caught.value)


def test_label_selectors_are_told() -> None:
    attributes = AuthorizationAttributes(
        UserInfo("ann"), "list", resource="pods", label_selector="a=b,c notin (d,e),!f"
    )
    assert review_spec(attributes)["resourceAttributes"]["labelSelector"] == {
        "requirements": [
            {"key": "a", "operator": "In", "values": ["b"]},
            {"key": "c", "operator": "NotIn", "values": ["d", "e"]},
            {"key": "f", "operator": "DoesNotExist"},
        ]
    }
