"""The controller against an API server: built-in and custom kinds."""

from __future__ import annotations

from collections.abc import AsyncIterator
from random import Random
from typing import Any

import pytest

from pilothouse.apimachinery.object import Obj
from pilothouse.apimachinery.schema import GroupVersionResource
from pilothouse.apiserver.testing import running_server
from pilothouse.componentbase.activity import ActivityTracker
from pilothouse.controllermanager.validatingadmissionpolicystatus.controller import (
    ValidatingAdmissionPolicyStatusController,
)
from pilothouse.kubeclient.cache.factory import SharedInformerFactory
from pilothouse.kubeclient.interfaces import Client, Environment
from pilothouse.kubeclient.resources import VALIDATING_ADMISSION_POLICIES as POLICIES

CRDS = GroupVersionResource("apiextensions.k8s.io", "v1", "customresourcedefinitions")
CRD: Obj = {
    "metadata": {"name": "crontabs.example.com"},
    "spec": {
        "group": "example.com",
        "scope": "Namespaced",
        "names": {"plural": "crontabs", "singular": "crontab", "kind": "CronTab"},
        "versions": [
            {
                "name": "v1",
                "served": True,
                "storage": True,
                "schema": {
                    "openAPIV3Schema": {
                        "type": "object",
                        "properties": {
                            "spec": {
                                "type": "object",
                                "properties": {"replicas": {"type": "integer"}},
                            }
                        },
                    }
                },
            }
        ],
    },
}


class Running:
    def __init__(self, client: Client, activity: ActivityTracker) -> None:
        self.client = client
        self._activity = activity

    async def checked(self, group: str, resource: str, *expressions: str) -> Obj:
        rule = {
            "apiGroups": [group],
            "apiVersions": ["v1"],
            "operations": ["*"],
            "resources": [resource],
        }
        spec = {
            "matchConstraints": {"resourceRules": [rule]},
            "validations": [{"expression": expression} for expression in expressions],
        }
        await self.client.create(POLICIES, {"metadata": {"name": "p"}, "spec": spec})
        await self._activity.settle()
        return await self.client.get(POLICIES, "p")


@pytest.fixture
async def running() -> AsyncIterator[Any]:
    async with running_server() as server:
        activity = server.activity
        client = server.local_client()
        informers = SharedInformerFactory(client, server.clock, Random(1), activity)
        env = Environment(client, informers, server.clock, Random(1), activity)
        controller = ValidatingAdmissionPolicyStatusController(env)
        await controller.start()
        try:
            yield Running(client, activity)
        finally:
            await controller.stop()
            await informers.stop()


async def test_a_policy_without_problems(running: Running) -> None:
    policy = await running.checked("apps", "deployments", "object.spec.replicas > 1")
    assert policy["status"] == {"observedGeneration": 1, "typeChecking": {}}
    managers = {entry["manager"] for entry in policy["metadata"]["managedFields"]}
    assert "validatingadmissionpolicy-status" in managers


async def test_a_policy_with_problems(running: Running) -> None:
    policy = await running.checked("apps", "deployments", "object.spec.replicas > '1'", "true")
    (warning,) = policy["status"]["typeChecking"]["expressionWarnings"]
    assert warning["fieldRef"] == "spec.validations[0].expression"
    assert "apps/v1, Kind=Deployment" in warning["warning"]


async def test_custom_kinds_have_the_types_of_their_definition(running: Running) -> None:
    await running.client.create(CRDS, CRD)
    await running._activity.settle()
    policy = await running.checked(
        "example.com",
        "crontabs",
        "object.spec.replicas > '1'",
        "object.spec.maxRetries > 1",
        "object.metadata.labels.x == 'y' && object.kind == 'CronTab'",
    )
    found = policy["status"]["typeChecking"]["expressionWarnings"]
    assert [w["fieldRef"] for w in found] == [
        "spec.validations[0].expression",
        "spec.validations[1].expression",
    ]
    assert "found no matching overload for '_>_' applied to '(int, string)'" in found[0]["warning"]
    assert "undefined field 'maxRetries'" in found[1]["warning"]


async def test_kinds_that_do_not_exist_are_not_checked(running: Running) -> None:
    policy = await running.checked("gone.example.com", "things", "object.spec.x > '1'")
    assert policy["status"]["typeChecking"] == {}
