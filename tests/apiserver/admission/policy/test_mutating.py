"""MutatingAdmissionPolicies in a server: what becomes of objects."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from pilothouse.apimachinery.errors import StatusError
from pilothouse.apimachinery.object import Obj
from pilothouse.apimachinery.schema import GroupVersionResource

CONFIG_MAPS = GroupVersionResource("", "v1", "configmaps")
DEPLOYMENTS = GroupVersionResource("apps", "v1", "deployments")


def label(key: str, value: str = "'x'") -> str:
    return f"Object{{metadata: Object.metadata{{labels: {{'{key}': {value}}}}}}}"


async def test_both_kinds_of_patches_in_order(policies: Any) -> None:
    await policies.mutating(
        "p",
        label("a"),
        "[JSONPatch{op: 'add', path: '/data', value: {'seen': object.metadata.labels.a}}]",
    )
    created = await policies.config_map("c")
    assert created["metadata"]["labels"] == {"a": "x"}
    assert created["data"] == {"seen": "x"}


async def test_policies_see_what_those_before_did(policies: Any) -> None:
    await policies.mutating("b", label("b", "object.metadata.labels.a + '2'"))
    await policies.mutating("a", label("a", "'1'"))
    created = await policies.config_map("c")
    assert created["metadata"]["labels"] == {"a": "1", "b": "12"}


async def test_patched_objects_are_defaulted(policies: Any) -> None:
    rule = {
        "apiGroups": ["apps"],
        "apiVersions": ["v1"],
        "operations": ["CREATE"],
        "resources": ["deployments"],
    }
    container = "Object.spec.template.spec.containers"
    await policies.mutating(
        "p",
        "Object{spec: Object.spec{replicas: 3, template: Object.spec.template{spec: "
        f"Object.spec.template.spec{{containers: [{container}{{name: 'side', image: 'i'}}]}}}}}}}}",
        constraints={"resourceRules": [rule]},
    )
    labels = {"matchLabels": {"a": "b"}}
    pod: Obj = {
        "metadata": {"labels": {"a": "b"}},
        "spec": {"containers": [{"name": "c", "image": "i"}]},
    }
    deployment = {"metadata": {"name": "d"}, "spec": {"selector": labels, "template": pod}}
    created = await policies.client.create(DEPLOYMENTS, deployment, "default")
    containers = created["spec"]["template"]["spec"]["containers"]
    assert created["spec"]["replicas"] == 3
    assert sorted(c["name"] for c in containers) == ["c", "side"]
    assert {c["terminationMessagePath"] for c in containers} == {"/dev/termination-log"}


async def test_match_conditions_and_selectors(policies: Any) -> None:
    conditions = [{"name": "named", "expression": "object.metadata.name == 'yes'"}]
    await policies.mutating("p", label("a"), matchConditions=conditions)
    assert "labels" not in (await policies.config_map("no"))["metadata"]
    assert (await policies.config_map("yes"))["metadata"]["labels"] == {"a": "x"}


async def test_params(policies: Any) -> None:
    await policies.config_map("params", {"team": "blue"})
    reference = {"name": "params", "namespace": "default", "parameterNotFoundAction": "Deny"}
    await policies.mutating(
        "p",
        label("team", "params.data.team"),
        paramKind={"apiVersion": "v1", "kind": "ConfigMap"},
        binding={"paramRef": reference},
        variables=[{"name": "unused", "expression": "object.gone"}],
    )
    created = await policies.config_map("a", namespace="other")
    assert created["metadata"]["labels"] == {"team": "blue"}


async def test_updates(policies: Any) -> None:
    await policies.config_map("a", {"x": "1"})
    await policies.mutating("p", label("was", "oldObject.data.x"))
    obj = {"metadata": {"name": "a", "namespace": "default"}, "data": {"x": "2"}}
    updated = await policies.client.update(CONFIG_MAPS, obj)
    assert updated["metadata"]["labels"] == {"was": "1"}


@pytest.mark.parametrize("policy", ["Never", "IfNeeded"])
async def test_reinvocation(policies: Any, policy: str) -> None:
    count = "[JSONPatch{op: 'add', path: '/data', value: {'n': object.?data.?n.orValue('') + 'i'}}]"
    await policies.mutating("a", count, reinvocationPolicy=policy)
    created = await policies.config_map("c")
    assert created["data"] == {"n": "i" if policy == "Never" else "ii"}


async def test_a_later_policy_makes_an_earlier_one_run_again(policies: Any) -> None:
    conditions = [
        {"name": "b-is-there", "expression": "'b' in object.?metadata.?labels.orValue({})"}
    ]
    await policies.mutating(
        "a", label("a"), reinvocationPolicy="IfNeeded", matchConditions=conditions
    )
    await policies.mutating("b", label("b"))
    # The first round did not get to it: only what was invoked is invoked again.
    assert (await policies.config_map("c"))["metadata"]["labels"] == {"b": "x"}
    await policies.mutating(
        "aa",
        label("seen", "string('b' in object.?metadata.?labels.orValue({}))"),
        reinvocationPolicy="IfNeeded",
    )
    assert (await policies.config_map("d"))["metadata"]["labels"] == {"b": "x", "seen": "true"}


async def test_validating_policies_see_the_result(policies: Any) -> None:
    await policies.mutating("m", label("a"))
    await policies.validating("v", {"expression": "object.metadata.labels.a != 'x'"})
    await policies.refused("c")


async def test_failures(policies: Any) -> None:
    await policies.mutating("p", label("a", "object.gone"))
    status = await policies.refused("c")
    text = (
        "policy 'p' with binding 'p-b' denied request: expression '"
        + label("a", "object.gone")
        + "' resulted in error: no such key: gone"
    )
    assert status["message"] == text
    assert (status["reason"], status["code"]) == ("Invalid", 403)
    assert status["details"]["causes"] == [{"message": text}]


async def test_failures_may_be_ignored(policies: Any) -> None:
    await policies.mutating("p", label("a", "object.gone"), label("b"), failurePolicy="Ignore")
    assert (await policies.config_map("c"))["metadata"]["labels"] == {"b": "x"}


async def test_configuration_errors(policies: Any) -> None:
    await policies.mutating(
        "p", label("a"), paramKind={"apiVersion": "example.com/v1", "kind": "Gone"}
    )
    status = await policies.refused("c")
    assert status["message"] == (
        'policy "p" denied request: failed to configure policy: failed to find resource '
        "referenced by paramKind: 'example.com/v1, Kind=Gone'"
    )
    assert (status["reason"], status["code"]) == ("Forbidden", 403)


async def test_a_json_patch_must_not_make_unknown_fields(policies: Any) -> None:
    await policies.mutating("p", "[JSONPatch{op: 'add', path: '/wrong', value: 1}]")
    status = await policies.refused("c")
    assert (status["code"], status["reason"]) == (500, "InternalError")
    assert 'strict decoding error: unknown field "wrong"' in status["message"]


async def test_deletes_have_nothing_to_mutate(policies: Any) -> None:
    await policies.config_map("c")
    everything = {
        "apiGroups": ["*"],
        "apiVersions": ["*"],
        "operations": ["*"],
        "resources": ["configmaps"],
    }
    await policies.mutating("p", label("a"), constraints={"resourceRules": [everything]})
    await policies.client.delete(CONFIG_MAPS, "c", "default")
    with pytest.raises(StatusError, match="not found"):
        await policies.client.get(CONFIG_MAPS, "c", "default")


async def test_objects_stay_in_their_namespace(policies: Any) -> None:
    await policies.config_map("before")
    await policies.mutating("p", "Object{metadata: Object.metadata{namespace: 'other'}}")
    message = (
        "the namespace of the provided object does not match the namespace sent on the request"
    )
    status = await policies.refused("c")
    assert (status["code"], status["message"]) == (400, message)
    changed = {"metadata": {"name": "before", "namespace": "default"}, "data": {"a": "b"}}
    with pytest.raises(StatusError, match=message):
        await policies.client.update(CONFIG_MAPS, changed)


async def test_custom_objects_lose_unknown_fields_silently(policies: Any) -> None:
    version = {
        "name": "v1",
        "served": True,
        "storage": True,
        "schema": {"openAPIV3Schema": {"type": "object", "properties": {"n": {"type": "integer"}}}},
    }
    names = {"plural": "things", "singular": "thing", "kind": "Thing", "listKind": "ThingList"}
    crd: Obj = {
        "metadata": {"name": "things.example.com"},
        "spec": {
            "group": "example.com",
            "scope": "Cluster",
            "names": names,
            "versions": [version],
        },
    }
    things = GroupVersionResource("example.com", "v1", "things")
    registry, changed = policies.server.registry, asyncio.Event()
    registry.on_change(changed.set)
    crds = GroupVersionResource("apiextensions.k8s.io", "v1", "customresourcedefinitions")
    await policies.client.create(crds, crd)
    while registry.lookup("example.com", "v1", "things") is None:
        await asyncio.wait_for(changed.wait(), 5)
        changed.clear()
    rule = {
        "apiGroups": ["example.com"],
        "apiVersions": ["v1"],
        "operations": ["*"],
        "resources": ["things"],
    }
    await policies.mutating(
        "p",
        "[JSONPatch{op: 'add', path: '/wrong', value: 1},"
        " JSONPatch{op: 'add', path: '/n', value: 2}]",
        constraints={"resourceRules": [{**rule, "operations": ["CREATE"]}]},
    )
    thing = {"apiVersion": "example.com/v1", "kind": "Thing", "metadata": {"name": "t"}}
    created = await policies.client.create(things, thing)
    assert created["n"] == 2
    assert "wrong" not in created
