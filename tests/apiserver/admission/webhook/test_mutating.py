"""Mutating webhooks, from configuration to stored object."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import orjson
import pytest

from pilothouse.apimachinery.errors import StatusError
from pilothouse.apimachinery.schema import GroupVersionResource
from pilothouse.apiserver.local import LocalClient
from pilothouse.apiserver.server import APIServer
from pilothouse.apiserver.webhook.testing import WebhookServer, add, allowed, denied, patched

CONFIG_MAPS = GroupVersionResource("", "v1", "configmaps")
PODS = GroupVersionResource("", "v1", "pods")
AUTOSCALERS = GroupVersionResource("autoscaling", "v1", "horizontalpodautoscalers")
MERGE: Any = "application/merge-patch+json"
POD_RULE = {
    "apiGroups": [""],
    "apiVersions": ["v1"],
    "resources": ["pods"],
    "operations": ["CREATE"],
}


async def test_a_patch_changes_the_stored_object(
    client: LocalClient, hooks: WebhookServer, configure: Any, config_map: Any
) -> None:
    hooks.on("/m", lambda review: patched(add("/data", {"a": "b"})))
    await configure.mutating(configure.spec("/m"))
    made = await client.create(CONFIG_MAPS, config_map())
    assert made["data"] == {"a": "b"}
    assert (await client.get(CONFIG_MAPS, "a", "default"))["data"] == {"a": "b"}
    request = hooks.reviews["/m"][0]["request"]
    assert request["operation"] == "CREATE" and request["oldObject"] is None
    assert request["object"]["kind"] == "ConfigMap"
    assert request["options"] == {"kind": "CreateOptions", "apiVersion": "meta.k8s.io/v1"}
    assert request["userInfo"]["username"] == "system:apiserver"
    assert hooks.targets == ["/m?timeout=10s"]


async def test_the_connection_is_kept(
    client: LocalClient, hooks: WebhookServer, configure: Any, config_map: Any
) -> None:
    hooks.on("/m", lambda review: allowed())
    await configure.mutating(configure.spec("/m"))
    for i in range(5):
        await client.create(CONFIG_MAPS, config_map(f"c{i}"))
    assert hooks.connections == 1
    hooks.drop_connections()
    await client.create(CONFIG_MAPS, config_map("again"))
    assert hooks.connections == 2


async def test_a_patched_pod_is_taken_in_like_a_body(
    client: LocalClient, hooks: WebhookServer, configure: Any
) -> None:
    container = {"name": "side", "image": "busybox", "unknown": True}
    hooks.on("/m", lambda review: patched(add("/spec/initContainers", [container])))
    await configure.mutating(configure.spec("/m", rules=[POD_RULE]))
    pod = {
        "metadata": {"name": "p", "namespace": "default"},
        "spec": {"containers": [{"name": "c", "image": "i"}]},
    }
    made = await client.create(PODS, pod)
    (side,) = made["spec"]["initContainers"]
    assert "unknown" not in side
    assert side["terminationMessagePath"] == "/dev/termination-log"
    assert side["imagePullPolicy"] == "Always"
    # In-tree plugins have run again, so that the new container has the account's token, too.
    assert side["volumeMounts"][0]["mountPath"].endswith("serviceaccount")


@pytest.mark.parametrize(
    ("reply", "text"),
    [
        (patched(add("/data", 3)), "json: cannot unmarshal number"),
        (patched({"op": "remove", "path": "/data/x"}), ""),
        ({"allowed": True, "patch": "", "patchType": "JSONPatch"}, "not response.patch"),
        (
            {"allowed": True, "patch": "e30=", "patchType": "JSONPatch"},
            "patch in webhook response: json: cannot unmarshal object into",
        ),
        ({"allowed": True, "patch": "W10="}, "but not response.patchType"),
    ],
)
async def test_patches_that_do_not_apply(
    client: LocalClient,
    hooks: WebhookServer,
    configure: Any,
    config_map: Any,
    reply: dict[str, Any],
    text: str,
) -> None:
    hooks.on("/m", lambda review: reply)
    await configure.mutating(configure.spec("/m"))
    with pytest.raises(StatusError) as caught:
        await client.create(CONFIG_MAPS, config_map())
    assert caught.value.code == 500
    assert caught.value.message.startswith("Internal error occurred: ")
    assert text in caught.value.message


async def test_a_patch_cannot_make_another_kind_of_it(
    client: LocalClient, hooks: WebhookServer, configure: Any, config_map: Any
) -> None:
    hooks.on("/m", lambda review: patched(add("/kind", "Secret")))
    await configure.mutating(configure.spec("/m"))
    with pytest.raises(StatusError) as caught:
        await client.create(CONFIG_MAPS, config_map())
    assert (caught.value.code, caught.value.message) == (
        500,
        "converting (v1.Secret) to (core.ConfigMap): unknown conversion",
    )


async def test_order_is_by_configuration_and_position(
    client: LocalClient, hooks: WebhookServer, configure: Any, config_map: Any
) -> None:
    def append(letter: str) -> Any:
        def reply(review: dict[str, Any]) -> dict[str, Any]:
            data = review["request"]["object"].get("data") or {}
            return patched(add("/data", {"order": data.get("order", "") + letter}))

        return reply

    for letter in "abc":
        hooks.on(f"/{letter}", append(letter))
    await configure.mutating(configure.spec("/c"), name="z")
    await configure.mutating(configure.spec("/b"), configure.spec("/a"), name="a")
    made = await client.create(CONFIG_MAPS, config_map())
    assert made["data"] == {"order": "bac"}


async def test_reinvocation(
    client: LocalClient, hooks: WebhookServer, configure: Any, config_map: Any
) -> None:
    hooks.on("/first", lambda review: allowed())
    hooks.on("/never", lambda review: allowed())
    hooks.on("/last", lambda review: patched(add("/data", {"a": "b"})))
    await configure.mutating(
        configure.spec("/first", reinvocationPolicy="IfNeeded"),
        configure.spec("/never"),
        configure.spec("/last", reinvocationPolicy="IfNeeded"),
    )
    await client.create(CONFIG_MAPS, config_map())
    # The last one has seen its own change; the first one has not.
    assert {path: len(seen) for path, seen in hooks.reviews.items()} == {
        "/first": 2,
        "/never": 1,
        "/last": 1,
    }
    assert hooks.reviews["/first"][1]["request"]["object"]["data"] == {"a": "b"}


async def test_audit_annotations_and_warnings(
    server: APIServer,
    client: LocalClient,
    hooks: WebhookServer,
    configure: Any,
    config_map: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: dict[str, str] = {}
    warnings: list[str] = []
    assert server.kinds is not None
    admission: Any = server.kinds.admission
    admit = admission.admit

    async def spy(attributes: Any) -> None:
        await admit(attributes)
        seen.update(attributes.audit_annotations)
        warnings.extend(attributes.warnings)

    spying = SimpleNamespace(admit=spy, validate=admission.validate)
    monkeypatch.setattr(server.kinds, "admission", spying)
    reply = patched(add("/data", {"a": "b"}))
    reply |= {"auditAnnotations": {"key": "value"}, "warnings": ["careful"]}
    hooks.on("/m", lambda review: reply)
    await configure.mutating(configure.spec("/m"), configure.spec("/gone", failurePolicy="Ignore"))
    seen.clear()
    await client.create(CONFIG_MAPS, config_map())
    assert warnings == ["careful"]
    prefix = "mutation.webhook.admission.k8s.io/round_0_index_"
    patch = seen.pop("patch.webhook.admission.k8s.io/round_0_index_0")
    assert json.loads(patch) == {
        "configuration": "m",
        "webhook": "m.example.com",
        "patch": [add("/data", {"a": "b"})],
        "patchType": "JSONPatch",
    }
    assert seen == {
        "m.example.com/key": "value",
        f"{prefix}0": '{"configuration":"m","webhook":"m.example.com","mutated":true}',
        f"{prefix}1": '{"configuration":"m","webhook":"gone.example.com","mutated":false}',
        f"failed-open.{prefix}1": "gone.example.com",
    }


async def test_delete_cannot_be_patched(
    client: LocalClient, hooks: WebhookServer, configure: Any, config_map: Any
) -> None:
    hooks.on(
        "/m",
        lambda review: (
            patched(add("/data", {})) if review["request"]["operation"] == "DELETE" else allowed()
        ),
    )
    await configure.mutating(configure.spec("/m"))
    await client.create(CONFIG_MAPS, config_map())
    with pytest.raises(StatusError, match="attempted to modify the object, which is not supported"):
        await client.delete(CONFIG_MAPS, "a", "default")
    request = hooks.reviews["/m"][-1]["request"]
    assert request["object"] is None and request["oldObject"]["metadata"]["name"] == "a"
    assert request["options"]["kind"] == "DeleteOptions"


async def test_another_version_is_patched_and_converted_back(
    server: APIServer, client: LocalClient, hooks: WebhookServer, configure: Any
) -> None:
    def reply(review: dict[str, Any]) -> dict[str, Any]:
        assert review["request"]["object"]["apiVersion"] == "autoscaling/v1"
        return patched(add("/spec/targetCPUUtilizationPercentage", 55))

    rule = {
        "apiGroups": ["autoscaling"],
        "apiVersions": ["v1"],
        "resources": ["horizontalpodautoscalers"],
        "operations": ["CREATE"],
    }
    hooks.on("/m", reply)
    await configure.mutating(configure.spec("/m", rules=[rule]))
    made = await client.create(
        AUTOSCALERS._replace(version="v2"),
        {
            "metadata": {"name": "h", "namespace": "default"},
            "spec": {
                "maxReplicas": 3,
                "scaleTargetRef": {"kind": "Deployment", "name": "d", "apiVersion": "apps/v1"},
            },
        },
    )
    (metric,) = made["spec"]["metrics"]
    assert metric["resource"]["target"]["averageUtilization"] == 55
    request = hooks.reviews["/m"][0]["request"]
    assert request["kind"]["version"] == "v1" and request["requestKind"]["version"] == "v2"
    assert request["resource"]["version"] == "v1"


async def test_managed_fields_that_a_patch_breaks_are_restored(
    server: APIServer, hooks: WebhookServer, configure: Any, config_map: Any
) -> None:
    client = server.local_client(user_agent="someone")
    broken = [{"operation": "Nonsense", "apiVersion": "v1", "fieldsType": "FieldsV1"}]
    hooks.on("/m", lambda review: patched(add("/metadata/managedFields", broken)))
    await configure.mutating(configure.spec("/m"))
    apply: Any = "application/apply-patch+yaml"
    made = await client.patch(
        CONFIG_MAPS, "a", config_map(data={"k": "v"}), apply, "default", field_manager="me"
    )
    assert [entry["manager"] for entry in made["metadata"]["managedFields"]] == ["me"]


async def test_options_of_patches(
    client: LocalClient, hooks: WebhookServer, configure: Any, config_map: Any
) -> None:
    hooks.on("/m", lambda review: allowed())
    await configure.mutating(configure.spec("/m"))
    apply: Any = "application/apply-patch+yaml"
    await client.patch(
        CONFIG_MAPS, "a", config_map(), apply, "default", field_manager="me", force=True
    )
    await client.patch(CONFIG_MAPS, "a", {"data": {"a": "b"}}, MERGE, "default")
    first, second = (review["request"] for review in hooks.reviews["/m"])
    assert (first["operation"], second["operation"]) == ("CREATE", "UPDATE")
    kind = {"apiVersion": "meta.k8s.io/v1", "fieldManager": "me"}
    assert first["options"] == {"kind": "CreateOptions", **kind}
    assert second["options"]["kind"] == "UpdateOptions"
    assert second["oldObject"]["metadata"]["name"] == "a" and "data" not in second["oldObject"]


async def test_nothing_is_asked_for_what_no_rule_concerns(
    server: APIServer, client: LocalClient, hooks: WebhookServer, configure: Any
) -> None:
    hooks.on("/m", lambda review: denied("no"))
    every = {"apiGroups": ["*"], "apiVersions": ["*"], "resources": ["*/*"], "operations": ["*"]}
    only_config_maps = configure.spec("/m")
    await configure.mutating(only_config_maps)
    namespaces = GroupVersionResource("", "v1", "namespaces")
    await client.create(namespaces, {"metadata": {"name": "x"}})
    assert not hooks.reviews
    await configure.mutating(configure.spec("/all", rules=[every]), name="all")
    # Configurations and policies can always be repaired.
    group = "admissionregistration.k8s.io"
    mutating = GroupVersionResource(group, "v1", "mutatingwebhookconfigurations")
    await client.delete(mutating, "all")
    await client.delete(mutating, "m")
    await client.create(namespaces, {"metadata": {"name": "y"}})
    assert not hooks.reviews
    stored = await server.storage.get("/registry/namespaces/y")
    assert stored is not None and orjson.loads(stored.value)
