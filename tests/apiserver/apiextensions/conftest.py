"""A real API server in this process, and CRDs to give it."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from typing import Any

import pytest

from pilothouse.apimachinery.testing import FakeClock
from pilothouse.apiserver.config import ServerConfig
from pilothouse.apiserver.local import LocalClient
from pilothouse.apiserver.server import APIServer


@pytest.fixture
async def server() -> AsyncIterator[APIServer]:
    made = APIServer(ServerConfig(secure_port=0), FakeClock(), random.Random(1))
    await made.start(serve=False)
    yield made
    await made.stop()


@pytest.fixture
def client(server: APIServer) -> LocalClient:
    return server.local_client(user_agent="tester")


class Definitions:
    """Makes CRDs of ``example.com``."""

    group = "example.com"

    def version(self, name: str = "v1", schema: Any = None, **more: Any) -> dict[str, Any]:
        version = {"name": name, "served": True, "storage": True, **more}
        if schema is None:
            schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
        return {**version, "schema": {"openAPIV3Schema": schema}}

    def spec(self, **properties: Any) -> dict[str, Any]:
        """A schema whose ``spec`` has ``properties``."""
        spec = {"type": "object", "properties": properties}
        status = {"type": "object", "properties": {"replicas": {"type": "integer"}}}
        return {"type": "object", "properties": {"spec": spec, "status": status}}

    def crd(
        self, *versions: dict[str, Any], plural: str = "widgets", kind: str = "Widget", **names: Any
    ) -> dict[str, Any]:
        return {
            "apiVersion": "apiextensions.k8s.io/v1",
            "kind": "CustomResourceDefinition",
            "metadata": {"name": f"{plural}.{self.group}"},
            "spec": {
                "group": self.group,
                "scope": "Namespaced",
                "names": {"plural": plural, "kind": kind, **names},
                "versions": list(versions or (self.version(),)),
            },
        }

    def widget(self, name: str = "a", version: str = "v1", **more: Any) -> dict[str, Any]:
        return {
            "apiVersion": f"{self.group}/{version}",
            "kind": "Widget",
            "metadata": {"name": name, "namespace": "default"},
            **more,
        }


@pytest.fixture
def make() -> Definitions:
    return Definitions()
