"""A cluster's API server and, in front of nothing but TLS, a second one as extension server.

The extension is a Pilothouse API server with a CRD of its own, that trusts the front proxy's CA.
"""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from pilothouse.apimachinery.object import Obj
from pilothouse.apimachinery.schema import GroupVersionResource
from pilothouse.apimachinery.testing import FakeClock
from pilothouse.apiserver.server import APIServer
from pilothouse.apiserver.testing import running_server
from pilothouse.componentbase.certs import ClusterPKI

API_SERVICES = GroupVersionResource("apiregistration.k8s.io", "v1", "apiservices")
SERVICES = GroupVersionResource("", "v1", "services")
CRDS = GroupVersionResource("apiextensions.k8s.io", "v1", "customresourcedefinitions")
FLUNDERS = GroupVersionResource("wardle.example.com", "v1", "flunders")


@pytest.fixture
def flunder_crd() -> Obj:
    return {
        "metadata": {"name": "flunders.wardle.example.com"},
        "spec": {
            "group": "wardle.example.com",
            "scope": "Namespaced",
            "names": {
                "plural": "flunders", "singular": "flunder", "kind": "Flunder",
                "listKind": "FlunderList", "shortNames": ["fl"],
            },
            "versions": [
                {
                    "name": "v1", "served": True, "storage": True,
                    "schema": {
                        "openAPIV3Schema": {
                            "type": "object",
                            "properties": {
                                "spec": {
                                    "type": "object", "properties": {"size": {"type": "integer"}},
                                },
                            },
                        }
                    },
                }
            ],
        },
    }  # fmt: skip


@dataclass
class Pair:
    main: APIServer
    extension: APIServer
    pki: ClusterPKI

    def service(self) -> Obj:
        """An ExternalName Service: the extension listens on this machine's loopback."""
        return {
            "metadata": {"name": "sample-api", "namespace": "default"},
            "spec": {"type": "ExternalName", "externalName": "localhost"},
        }

    def api_service(self, **spec: Any) -> Obj:
        bundle = base64.b64encode(self.pki.crt("ca").read_bytes()).decode()
        reference = {
            "namespace": "default",
            "name": "sample-api",
            "port": self.extension.port,
        }
        return {
            "metadata": {"name": "v1.wardle.example.com"},
            "spec": {
                "group": "wardle.example.com",
                "version": "v1",
                "service": reference,
                "caBundle": bundle,
                "groupPriorityMinimum": 2000,
                "versionPriority": 200,
                **spec,
            },
        }

    async def register(self, **spec: Any) -> None:
        client = self.main.local_client()
        await client.create(SERVICES, self.service())
        await client.create(API_SERVICES, self.api_service(**spec))
        await self.main.activity.settle()

    async def condition(self) -> Obj:
        found = await self.main.local_client().get(API_SERVICES, "v1.wardle.example.com")
        condition: Obj = found["status"]["conditions"][0]
        return condition


@pytest.fixture
async def pair(tmp_path: Path, flunder_crd: Obj) -> AsyncIterator[Pair]:
    clock = FakeClock(datetime.now(UTC))
    pki = ClusterPKI(tmp_path, datetime.now(UTC))
    pki.apiserver(names=["sample-api.default.svc"])
    pki.front_proxy_client()
    trust = {
        "tls_cert_file": str(pki.crt("apiserver")),
        "tls_private_key_file": str(pki.key("apiserver")),
        "client_ca_file": str(pki.crt("ca")),
        "requestheader_client_ca_file": str(pki.crt("front-proxy-ca")),
        "requestheader_allowed_names": ("front-proxy-client",),
    }
    proxy = {
        "proxy_client_cert_file": str(pki.crt("front-proxy-client")),
        "proxy_client_key_file": str(pki.key("front-proxy-client")),
    }
    async with AsyncExitStack() as stack:
        extension = await stack.enter_async_context(
            running_server(serve=True, clock=clock, **trust)
        )
        await extension.local_client().create(CRDS, flunder_crd)
        await extension.activity.settle()
        main = await stack.enter_async_context(
            running_server(serve=True, clock=clock, **trust, **proxy)
        )
        yield Pair(main, extension, pki)
