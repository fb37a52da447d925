"""Which requests webhooks are asked about: rules, selectors, conditions, sub-resources."""

from __future__ import annotations

from typing import Any

import pytest

from pilothouse.apimachinery.schema import GroupVersionResource
from pilothouse.apiserver.local import LocalClient
from pilothouse.apiserver.webhook.testing import WebhookServer, allowed, denied, refused, rule
from pilothouse.kubeclient.resources import CONFIG_MAPS, DEPLOYMENTS, EVENTS_V1, NAMESPACES, PODS

VALIDATING = GroupVersionResource(
    "admissionregistration.k8s.io", "v1", "validatingwebhookconfigurations"
)


async def test_selectors(
    client: LocalClient, hooks: WebhookServer, configure: Any, config_map: Any
) -> None:
    hooks.on("/n", lambda review: denied("namespace"))
    hooks.on("/o", lambda review: denied("object"))
    selector = {"matchLabels": {"kubernetes.io/metadata.name": "other"}}
    await configure.validating(
        configure.spec("/n", namespaceSelector=selector),
        configure.spec("/o", objectSelector={"matchLabels": {"a": "b"}}),
    )
    await client.create(CONFIG_MAPS, config_map())
    error = await refused(client.create(CONFIG_MAPS, config_map(namespace="other")))
    assert error.message.endswith("namespace")
    labelled = config_map("b", metadata={"labels": {"a": "b"}})
    assert (await refused(client.create(CONFIG_MAPS, labelled))).message.endswith("object")


async def test_object_selectors_look_at_the_old_object_too(
    client: LocalClient, hooks: WebhookServer, configure: Any, config_map: Any
) -> None:
    await client.create(CONFIG_MAPS, config_map(metadata={"labels": {"a": "b"}}))
    hooks.on("/v", lambda review: denied("object"))
    await configure.validating(configure.spec("/v", objectSelector={"matchLabels": {"a": "b"}}))
    for call in (
        client.update(CONFIG_MAPS, config_map()),
        client.delete(CONFIG_MAPS, "a", "default"),
    ):
        assert (await refused(call)).message.endswith("object")


async def test_namespace_selector_of_namespaces(
    client: LocalClient, hooks: WebhookServer, configure: Any
) -> None:
    hooks.on("/v", lambda review: denied("no"))
    selector = {"matchLabels": {"strict": "true"}}
    await configure.validating(
        configure.spec("/v", rules=[rule("namespaces")], namespaceSelector=selector)
    )
    await client.create(NAMESPACES, {"metadata": {"name": "free"}})
    await refused(
        client.create(NAMESPACES, {"metadata": {"name": "x", "labels": {"strict": "true"}}})
    )
    assert hooks.reviews["/v"][0]["request"]["namespace"] == "x"


@pytest.mark.parametrize(
    ("rules", "asked"),
    [
        (rule("pods"), False),
        (rule("*"), True),
        (rule("*/*"), True),
        (rule("configmaps/*"), True),
        (rule("configmaps/status"), False),
        (rule("*", scope="Namespaced"), True),
        (rule("*", scope="Cluster"), False),
        (rule("configmaps", operations=["UPDATE", "DELETE"]), False),
        (rule("configmaps", apiVersions=["v2"]), False),
        (rule("configmaps", "*"), True),
        (rule("configmaps", "apps"), False),
    ],
)
async def test_rules(
    client: LocalClient,
    hooks: WebhookServer,
    configure: Any,
    config_map: Any,
    rules: dict[str, Any],
    asked: bool,
) -> None:
    hooks.on("/v", lambda review: allowed())
    await configure.validating(configure.spec("/v", rules=[rules]))
    await client.create(CONFIG_MAPS, config_map())
    assert bool(hooks.reviews) is asked


async def test_subresources(client: LocalClient, hooks: WebhookServer, configure: Any) -> None:
    deployment = {
        "metadata": {"name": "d", "namespace": "default"},
        "spec": {
            "selector": {"matchLabels": {"a": "b"}},
            "template": {
                "metadata": {"labels": {"a": "b"}},
                "spec": {"containers": [{"name": "c", "image": "i"}]},
            },
        },
    }
    await client.create(DEPLOYMENTS, deployment)
    hooks.on("/v", lambda review: allowed())
    await configure.validating(configure.spec("/v", rules=[rule("deployments/*", "apps")]))
    path = "/apis/apps/v1/namespaces/default/deployments/d/scale"
    scale = dict(await client.request("GET", path))
    await client.request("PUT", path, {**scale, "spec": {"replicas": 3}})
    await client.update(
        DEPLOYMENTS, dict(await client.get(DEPLOYMENTS, "d", "default")), subresource="status"
    )
    first, second = (review["request"] for review in hooks.reviews["/v"])
    assert first["subResource"] == first["requestSubResource"] == "scale"
    assert first["kind"] == {"group": "autoscaling", "version": "v1", "kind": "Scale"}
    assert first["resource"]["resource"] == "deployments"
    assert first["object"]["spec"] == {"replicas": 3}
    assert first["oldObject"]["spec"] == {"replicas": 1}
    assert second["subResource"] == "status" and second["object"]["kind"] == "Deployment"


async def test_evictions_and_bindings(
    client: LocalClient, hooks: WebhookServer, configure: Any
) -> None:
    pod = {
        "metadata": {"name": "p", "namespace": "default"},
        "spec": {"containers": [{"name": "c", "image": "i"}]},
    }
    await client.create(PODS, pod)
    hooks.on("/v", lambda review: allowed())
    await configure.validating(configure.spec("/v", rules=[rule("pods"), rule("pods/*")]))
    path = "/api/v1/namespaces/default/pods/p"
    binding = {"metadata": {"name": "p"}, "target": {"kind": "Node", "name": "n"}}
    await client.request("POST", f"{path}/binding", binding)
    eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "p"}}
    await client.request("POST", f"{path}/eviction", eviction)
    asked = [
        (r["request"]["operation"], r["request"]["subResource"], r["request"]["kind"]["kind"])
        for r in hooks.reviews["/v"]
    ]
    # An eviction deletes without asking about a DELETE.
    assert asked == [("CREATE", "binding", "Binding"), ("CREATE", "eviction", "Eviction")]


async def test_each_object_of_a_collection_is_admitted(
    client: LocalClient, hooks: WebhookServer, configure: Any, config_map: Any
) -> None:
    for name in "abc":
        await client.create(CONFIG_MAPS, config_map(name))
    hooks.on(
        "/v",
        lambda review: (
            denied("c stays")
            if review["request"]["oldObject"]["metadata"]["name"] == "c"
            else allowed()
        ),
    )
    await configure.validating(configure.spec("/v"))
    error = await refused(client.delete_collection(CONFIG_MAPS, "default"))
    assert error.message.endswith("c stays")
    requests = [review["request"] for review in hooks.reviews["/v"]]
    names = [request.get("name", "") for request in requests]
    # As upstream: the request has no name.
    assert names == ["", "", ""]
    assert all(r["request"]["oldObject"]["kind"] == "ConfigMap" for r in hooks.reviews["/v"])


async def test_equivalent_and_exact(
    client: LocalClient, hooks: WebhookServer, configure: Any
) -> None:
    hooks.on("/e", lambda review: allowed())
    hooks.on("/x", lambda review: allowed())
    core = rule("events")
    await configure.validating(
        configure.spec("/e", rules=[core]),
        configure.spec("/x", rules=[core], matchPolicy="Exact"),
    )
    event = {
        "metadata": {"name": "e", "namespace": "default"},
        "eventTime": "2026-01-01T00:00:00.000000Z",
        "reportingController": "c.example.com/x",
        "reportingInstance": "i",
        "action": "a",
        "reason": "r",
        "note": "hello",
        "type": "Normal",
        "regarding": {"kind": "Pod", "namespace": "default", "name": "p"},
    }
    await client.create(EVENTS_V1, event)
    assert "/x" not in hooks.reviews
    (review,) = hooks.reviews["/e"]
    request = review["request"]
    assert request["resource"]["group"] == "" and request["requestResource"]["group"] == (
        "events.k8s.io"
    )
    assert request["object"]["message"] == "hello" and request["object"]["apiVersion"] == "v1"


async def test_match_conditions(
    client: LocalClient, hooks: WebhookServer, configure: Any, config_map: Any
) -> None:
    hooks.on("/v", lambda review: denied("matched"))
    conditions = [
        {"name": "name", "expression": "object.metadata.name.startsWith('x')"},
        {"name": "not-system", "expression": "request.userInfo.username != 'nobody'"},
    ]
    await configure.validating(configure.spec("/v", matchConditions=conditions))
    await client.create(CONFIG_MAPS, config_map("a"))
    assert (await refused(client.create(CONFIG_MAPS, config_map("x1")))).message.endswith("matched")


async def test_conditions_that_fail_follow_the_failure_policy(
    client: LocalClient, hooks: WebhookServer, configure: Any, config_map: Any
) -> None:
    hooks.on("/v", lambda review: denied("asked"))
    broken = [{"name": "c", "expression": "object.data.missing == 'x'"}]
    spec = configure.spec("/v", matchConditions=broken)
    await configure.validating(spec)
    error = await refused(client.create(CONFIG_MAPS, config_map()))
    assert error.code == 403 and error.reason == "Forbidden"
    assert "object.data.missing == 'x'' resulted in error: no such key" in error.message
    await client.delete(VALIDATING, "v")
    await configure.validating({**spec, "failurePolicy": "Ignore"})
    await client.create(CONFIG_MAPS, config_map())
    assert not hooks.reviews
