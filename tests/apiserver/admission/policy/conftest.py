"""A server with short ways to configure policies and to make requests."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from pilothouse.apimachinery.errors import StatusError
from pilothouse.apimachinery.object import Obj
from pilothouse.apimachinery.schema import GroupVersionResource
from pilothouse.apiserver.registry.write import Write
from pilothouse.apiserver.request.context import UserInfo
from pilothouse.apiserver.server import LOOPBACK, APIServer
from pilothouse.apiserver.testing import running_server

_GROUP = "admissionregistration.k8s.io"
POLICIES = GroupVersionResource(_GROUP, "v1", "validatingadmissionpolicies")
BINDINGS = GroupVersionResource(_GROUP, "v1", "validatingadmissionpolicybindings")
MUTATING = GroupVersionResource(_GROUP, "v1", "mutatingadmissionpolicies")
MUTATING_BINDINGS = GroupVersionResource(_GROUP, "v1", "mutatingadmissionpolicybindings")
CONFIG_MAPS = GroupVersionResource("", "v1", "configmaps")


def rule(*resources: str, group: str = "", version: str = "v1", operations: Any = None) -> Obj:
    return {
        "apiGroups": [group],
        "apiVersions": [version],
        "operations": operations or ["CREATE", "UPDATE"],
        "resources": list(resources or ("configmaps",)),
    }


class Policies:
    """Works on one server with the rights of its own loopback user."""

    def __init__(self, server: APIServer) -> None:
        self.server = server
        self.client = server.local_client()

    async def validating(
        self,
        name: str,
        *validations: Obj | str,
        constraints: Obj | None = None,
        binding: Obj | None = None,
        actions: tuple[str, ...] = ("Deny",),
        **spec: Any,
    ) -> None:
        """A policy for ConfigMaps, and its binding."""
        listed = [v if isinstance(v, dict) else {"expression": v} for v in validations]
        matching = constraints or {"resourceRules": [rule()]}
        body = {"matchConstraints": matching, "validations": listed, **spec}
        await self.client.create(POLICIES, {"metadata": {"name": name}, "spec": body})
        bound = {"policyName": name, "validationActions": list(actions), **(binding or {})}
        await self.client.create(BINDINGS, {"metadata": {"name": f"{name}-b"}, "spec": bound})

    async def mutating(
        self,
        name: str,
        *expressions: str,
        constraints: Obj | None = None,
        binding: Obj | None = None,
        **spec: Any,
    ) -> None:
        """Expressions that begin with ``[`` are JSON patches."""
        mutations = [
            {"patchType": "JSONPatch", "jsonPatch": {"expression": each}}
            if each.startswith("[")
            else {"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": each}}
            for each in expressions
        ]
        matching = constraints or {"resourceRules": [rule()]}
        body = {
            "matchConstraints": matching,
            "mutations": mutations,
            "reinvocationPolicy": "Never",
            **spec,
        }
        await self.client.create(MUTATING, {"metadata": {"name": name}, "spec": body})
        bound = {"policyName": name, **(binding or {})}
        policy_binding = {"metadata": {"name": f"{name}-b"}, "spec": bound}
        await self.client.create(MUTATING_BINDINGS, policy_binding)

    async def config_map(
        self,
        name: str,
        data: dict[str, str] | None = None,
        *,
        namespace: str = "default",
        labels: dict[str, str] | None = None,
    ) -> Obj:
        obj = {"metadata": {"name": name, "labels": labels or {}}, "data": data or {}}
        return await self.client.create(CONFIG_MAPS, obj, namespace)

    async def refused(self, name: str, data: dict[str, str] | None = None, **more: Any) -> Obj:
        """The Status with which a new ConfigMap is refused."""
        with pytest.raises(StatusError) as caught:
            await self.config_map(name, data, **more)
        return caught.value.status

    async def written(self, name: str, user: UserInfo = LOOPBACK, **labels: str) -> Write:
        """A new ConfigMap's write, with what admission said about it."""
        served = self.server.registry.lookup("", "v1", "configmaps")
        assert served is not None
        write = Write(served, "default", name, user)
        obj = {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": name, "labels": labels},
        }
        await served.store.create(write, obj)
        return write


@pytest.fixture
async def policies() -> AsyncIterator[Policies]:
    async with running_server(namespaces=("default", "other")) as server:
        yield Policies(server)
