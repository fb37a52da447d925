"""A real API server and a real HTTPS webhook, both in this process."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from pilothouse.apimachinery.schema import GroupVersionResource
from pilothouse.apiserver.local import LocalClient
from pilothouse.apiserver.server import APIServer
from pilothouse.apiserver.testing import running_server
from pilothouse.apiserver.webhook.testing import WebhookServer

GROUP = "admissionregistration.k8s.io"
MUTATING = GroupVersionResource(GROUP, "v1", "mutatingwebhookconfigurations")
VALIDATING = GroupVersionResource(GROUP, "v1", "validatingwebhookconfigurations")
CONFIG_MAPS = {
    "apiGroups": [""],
    "apiVersions": ["v1"],
    "resources": ["configmaps"],
    "operations": ["CREATE", "UPDATE", "DELETE"],
}


@pytest.fixture
async def server() -> AsyncIterator[APIServer]:
    async with running_server(namespaces=("default", "other")) as made:
        yield made


@pytest.fixture
def client(server: APIServer) -> LocalClient:
    return server.local_client(user_agent="tester")


@pytest.fixture
async def hooks() -> AsyncIterator[WebhookServer]:
    async with WebhookServer("hook.default.svc") as made:
        yield made


class Configure:
    """Creates configurations of one webhook each, named after its path."""

    def __init__(self, client: LocalClient, hooks: WebhookServer) -> None:
        self._client = client
        self._hooks = hooks

    def spec(self, path: str, **more: Any) -> dict[str, Any]:
        return {
            "name": f"{path.strip('/')}.example.com",
            "clientConfig": self._hooks.client_config(path),
            "rules": [CONFIG_MAPS],
            "sideEffects": "None",
            "admissionReviewVersions": ["v1", "v1beta1"],
            **more,
        }

    async def mutating(self, *specs: dict[str, Any], name: str = "m") -> None:
        await self._client.create(MUTATING, {"metadata": {"name": name}, "webhooks": list(specs)})

    async def validating(self, *specs: dict[str, Any], name: str = "v") -> None:
        await self._client.create(VALIDATING, {"metadata": {"name": name}, "webhooks": list(specs)})


@pytest.fixture
def configure(client: LocalClient, hooks: WebhookServer) -> Configure:
    return Configure(client, hooks)


@pytest.fixture
def config_map() -> Callable[..., dict[str, Any]]:
    def make(name: str = "a", namespace: str = "default", **more: Any) -> dict[str, Any]:
        metadata = {"name": name, "namespace": namespace, **more.pop("metadata", {})}
        return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, **more}

    return make
