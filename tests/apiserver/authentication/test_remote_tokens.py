"""Bootstrap tokens and tokens that a webhook reviews, in a running server."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from pilothouse.apimachinery.clock import RealClock
from pilothouse.apimachinery.schema import GroupVersionResource
from pilothouse.apimachinery.testing import FakeClock
from pilothouse.apiserver.authentication.token_cache import (
    CachedTokenAuthenticator,
    TransientError,
)
from pilothouse.apiserver.authentication.tokens import InvalidToken, TokenInfo
from pilothouse.apiserver.request.context import UserInfo
from pilothouse.apiserver.server import APIServer
from pilothouse.apiserver.testing import running_server
from pilothouse.apiserver.webhook.testing import WebhookServer

Obj = dict[str, Any]
SECRETS = GroupVersionResource("", "v1", "secrets")
NAMESPACES = ("default", "kube-system")


async def whoami(server: APIServer, token: str, **headers: str) -> tuple[int, Obj]:
    body = {"kind": "SelfSubjectReview", "apiVersion": "authentication.k8s.io/v1"}
    path = "/apis/authentication.k8s.io/v1/selfsubjectreviews"
    given = {"Authorization": f"Bearer {token}"} | headers
    async with aiohttp.ClientSession() as session:
        async with session.post(server.url + path, json=body, headers=given) as answer:
            found = await answer.json()
            return answer.status, found["status"]["userInfo"] if answer.status == 201 else found


def token_secret(**values: str) -> Obj:
    data = {
        "token-id": "abcdef",
        "token-secret": "0123456789abcdef",
        "usage-bootstrap-authentication": "true",
        "auth-extra-groups": "system:bootstrappers:kubeadm:default-node-token",
    }
    data |= {key.replace("_", "-"): value for key, value in values.items()}
    return {
        "metadata": {"name": "bootstrap-token-abcdef", "namespace": "kube-system"},
        "type": "bootstrap.kubernetes.io/token",
        "data": {key: base64.b64encode(value.encode()).decode() for key, value in data.items()},
    }


TOKEN = "abcdef.0123456789abcdef"


async def test_bootstrap_token() -> None:
    async with running_server(
        clock=RealClock(), serve=True, enable_bootstrap_token_auth=True, namespaces=NAMESPACES
    ) as server:
        client = server.local_client()
        await client.create(SECRETS, token_secret(), "kube-system")
        status, user = await whoami(server, TOKEN)
        assert (status, user["username"]) == (201, "system:bootstrap:abcdef")
        assert user["groups"] == [
            "system:bootstrappers",
            "system:bootstrappers:kubeadm:default-node-token",
            "system:authenticated",
        ]
        assert (await whoami(server, "abcdef.0123456789abcdeX"))[0] == 401
        assert (await whoami(server, "abcdeg.0123456789abcdef"))[0] == 401
        await client.delete(SECRETS, "bootstrap-token-abcdef", "kube-system")
        assert (await whoami(server, TOKEN))[0] == 401


@pytest.mark.parametrize(
    "values",
    [
        {"usage_bootstrap_authentication": "false"},
        {"expiration": "2001-01-01T00:00:00Z"},
        {"expiration": "soon"},
        {"auth_extra_groups": "system:masters"},
        {"token_id": "zzzzzz"},
    ],
)
async def test_bootstrap_tokens_that_are_not_accepted(values: dict[str, str]) -> None:
    async with running_server(
        clock=RealClock(), serve=True, enable_bootstrap_token_auth=True, namespaces=NAMESPACES
    ) as server:
        await server.local_client().create(SECRETS, token_secret(**values), "kube-system")
        assert (await whoami(server, TOKEN))[0] == 401


async def test_off_by_default() -> None:
    async with running_server(clock=RealClock(), serve=True, namespaces=NAMESPACES) as server:
        await server.local_client().create(SECRETS, token_secret(), "kube-system")
        assert (await whoami(server, TOKEN))[0] == 401


async def test_webhook(tmp_path: Path) -> None:
    def review(asked: Obj) -> Obj:
        token = asked["spec"]["token"]
        status: Obj = {"authenticated": token == "good", "audiences": asked["spec"]["audiences"]}
        if token == "good":
            extra = {"acme.com/team": ["a", "b"]}
            status["user"] = {"username": "ann", "uid": "7", "groups": ["devs"], "extra": extra}
        elif token == "bad":
            status["error"] = "revoked"
        return {**asked, "status": status}

    async with WebhookServer() as hooks:
        hooks.on("/authn", review)
        cluster = {
            "server": f"https://127.0.0.1:{hooks.port}/authn",
            "certificate-authority-data": hooks.ca_bundle,
        }
        file = tmp_path / "authn.json"
        config = {
            "clusters": [{"name": "c", "cluster": cluster}],
            "contexts": [{"name": "c", "context": {"cluster": "c"}}],
            "current-context": "c",
        }
        file.write_text(json.dumps(config))
        async with running_server(
            clock=RealClock(),
            serve=True,
            authentication_token_webhook_config_file=str(file),
            authentication_token_webhook_version="v1",
        ) as server:
            status, user = await whoami(server, "good")
            assert status == 201
            assert user == {
                "username": "ann",
                "uid": "7",
                "groups": ["devs", "system:authenticated"],
                "extra": {"acme.com/team": ["a", "b"]},
            }
            assert (await whoami(server, "good"))[0] == 201
            (asked,) = hooks.reviews["/authn"]
            assert asked["apiVersion"] == "authentication.k8s.io/v1"
            assert asked["spec"]["audiences"] == ["https://kubernetes.default.svc.cluster.local"]
            assert (await whoami(server, "bad"))[0] == 401
            assert (await whoami(server, "other"))[0] == 401


class Counting:
    def __init__(self, outcome: TokenInfo | InvalidToken | None) -> None:
        self.outcome = outcome
        self.asked = 0

    async def authenticate_token(self, token: str, audiences: Any = ()) -> TokenInfo | None:
        self.asked += 1
        if isinstance(self.outcome, InvalidToken):
            raise self.outcome
        return self.outcome


@pytest.mark.parametrize(
    ("outcome", "kept"),
    [
        (TokenInfo(UserInfo("a")), 10),
        (None, 5),
        (InvalidToken("no"), 5),
        (TransientError("away"), 0),
    ],
)
async def test_cache(outcome: TokenInfo | InvalidToken | None, kept: int) -> None:
    clock = FakeClock()
    source = Counting(outcome)
    cache = CachedTokenAuthenticator(source, clock, success_ttl=10, failure_ttl=5)

    async def ask() -> TokenInfo | None:
        try:
            return await cache.authenticate_token("t")
        except InvalidToken:
            return None

    assert await ask() == (outcome if isinstance(outcome, TokenInfo) else None)
    clock.advance(max(kept - 1, 0))
    await ask()
    assert source.asked == (1 if kept else 2)
    clock.advance(2)
    await ask()
    assert source.asked == (2 if kept else 3)
