"""Validating webhooks: matching, failures, refusals."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from pilothouse.apimachinery.errors import StatusError
from pilothouse.apimachinery.schema import GroupVersionResource
from pilothouse.apiserver.local import LocalClient
from pilothouse.apiserver.server import APIServer
from pilothouse.apiserver.webhook.testing import WebhookServer, allowed, denied, refused, rule
from pilothouse.kubeclient.resources import CONFIG_MAPS

VALIDATING = GroupVersionResource(
    "admissionregistration.k8s.io", "v1", "validatingwebhookconfigurations"
)
CALLING = 'Internal error occurred: failed calling webhook "v.example.com": '


async def test_refusals_carry_what_the_webhook_said(
    client: LocalClient, hooks: WebhookServer, configure: Any, config_map: Any
) -> None:
    await configure.validating(configure.spec("/v"))
    prefix = 'admission webhook "v.example.com" denied the request'
    causes = {"causes": [{"reason": "R", "message": "m", "field": "data"}]}
    for reply, expected in (
        (denied("not today"), (400, "", f"{prefix}: not today", None)),
        (denied(), (400, "", f"{prefix} without explanation", None)),
        (denied(reason="Forbidden"), (400, "Forbidden", f"{prefix}: Forbidden", None)),
        (denied("m", code=200), (400, "", f"{prefix}: m", None)),
        (
            denied("m", code=409, reason="Conflict", details=causes),
            (409, "Conflict", f"{prefix}: m", causes),
        ),
    ):
        hooks.on("/v", lambda review, reply=reply: reply)
        error = await refused(client.create(CONFIG_MAPS, config_map()))
        assert (error.code, error.reason, error.message, error.details) == expected


async def test_all_are_asked_and_the_first_refusal_counts(
    client: LocalClient, hooks: WebhookServer, configure: Any, config_map: Any
) -> None:
    both = asyncio.Barrier(2)

    async def together(review: Any) -> dict[str, Any]:
        await both.wait()
        return denied("one")

    hooks.on("/a", together)
    hooks.on("/b", together)
    await configure.validating(configure.spec("/a"), configure.spec("/b"))
    async with asyncio.timeout(5):
        error = await refused(client.create(CONFIG_MAPS, config_map()))
    assert error.message == 'admission webhook "a.example.com" denied the request: one'


@pytest.mark.parametrize(
    ("reply", "text"),
    [
        ((404, b""), "failed to call webhook: the server could not find the requested resource"),
        (
            (500, b"oops"),
            'failed to call webhook: an error on the server ("oops") has prevented the request '
            "from succeeding",
        ),
        ((200, b"rubbish"), "failed to call webhook: couldn't get version/kind; json parse error"),
        (
            {"kind": "Pod", "apiVersion": "v1"},
            'failed to call webhook: no kind "Pod" is registered for version "v1" in scheme',
        ),
        (
            {"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1beta1"},
            "failed to call webhook: converting (v1beta1.AdmissionReview) to "
            "(v1.AdmissionReview): unknown conversion",
        ),
        (
            {"allowed": "yes"},
            "failed to call webhook: json: cannot unmarshal string into Go struct field "
            "AdmissionResponse.response.allowed of type bool",
        ),
        (
            {"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1"},
            "received invalid webhook response: webhook response was absent",
        ),
        (
            {**allowed(), "uid": "x"},
            'received invalid webhook response: expected response.uid="',
        ),
        (
            {**allowed(), "patch": "W10="},
            "received invalid webhook response: validating webhook may not return response.patch",
        ),
    ],
)
async def test_calls_that_fail(
    client: LocalClient,
    hooks: WebhookServer,
    configure: Any,
    config_map: Any,
    reply: Any,
    text: str,
) -> None:
    hooks.on("/v", lambda review: reply)
    await configure.validating(configure.spec("/v"))
    error = await refused(client.create(CONFIG_MAPS, config_map()))
    assert error.code == 500 and error.reason == "InternalError"
    assert error.message.startswith(CALLING + text)
    # The same failure is none where the webhook may fail.
    await client.delete(VALIDATING, "v")
    await configure.validating(configure.spec("/v", failurePolicy="Ignore"))
    await client.create(CONFIG_MAPS, config_map())


async def test_nobody_listens(
    server: APIServer,
    client: LocalClient,
    hooks: WebhookServer,
    configure: Any,
    config_map: Any,
) -> None:
    url = "https://127.0.0.1:1/v"
    spec = configure.spec("/v")
    spec["clientConfig"]["url"] = url
    await configure.validating(spec)
    error = await refused(client.create(CONFIG_MAPS, config_map()))
    assert error.message == (
        f'{CALLING}failed to call webhook: Post "{url}?timeout=10s": dial tcp 127.0.0.1:1: '
        "connect: connection refused"
    )
    metrics = server.metrics.text()
    assert (
        'apiserver_admission_webhook_rejection_count{name="v.example.com",type="validating",'
        'operation="CREATE",error_type="calling_webhook_error",rejection_code="503"} 1' in metrics
    )


async def test_the_certificate_must_be_of_the_bundle(
    client: LocalClient, hooks: WebhookServer, configure: Any, config_map: Any
) -> None:
    spec = configure.spec("/v")
    spec["clientConfig"]["caBundle"] = WebhookServer().ca_bundle
    await configure.validating(spec)
    error = await refused(client.create(CONFIG_MAPS, config_map()))
    assert error.message.endswith(
        "tls: failed to verify certificate: x509: certificate signed by unknown authority"
    )
    assert not hooks.reviews


async def test_slow_webhooks(
    client: LocalClient, hooks: WebhookServer, configure: Any, config_map: Any
) -> None:
    never = asyncio.Event()

    async def slow(review: Any) -> dict[str, Any]:
        await never.wait()
        return allowed()

    hooks.on("/v", slow)
    await configure.validating(configure.spec("/v", timeoutSeconds=1))
    error = await refused(client.create(CONFIG_MAPS, config_map()))
    assert error.message.endswith('?timeout=1s": context deadline exceeded')
    never.set()


async def test_services_are_resolved(
    client: LocalClient, hooks: WebhookServer, configure: Any, config_map: Any
) -> None:
    services = GroupVersionResource("", "v1", "services")
    reference = {"name": "hook", "namespace": "default", "path": "/v", "port": hooks.port}
    spec = configure.spec("/v", clientConfig={"service": reference, "caBundle": hooks.ca_bundle})
    await configure.validating(spec)
    error = await refused(client.create(CONFIG_MAPS, config_map()))
    url = f"https://hook.default.svc:{hooks.port}/v?timeout=10s"
    assert (
        error.message == f'{CALLING}failed to call webhook: Post "{url}": service "hook" not found'
    )
    service = {
        "metadata": {"name": "hook", "namespace": "default"},
        "spec": {
            "type": "ExternalName",
            "externalName": "127.0.0.1",
        },
    }
    await client.create(services, service)
    hooks.on("/v", lambda review: allowed())
    # The address is the service's, the certificate for <service>.<namespace>.svc.
    await client.create(CONFIG_MAPS, config_map())
    assert hooks.targets == ["/v?timeout=10s"]


async def test_dry_run(
    client: LocalClient, hooks: WebhookServer, configure: Any, config_map: Any
) -> None:
    hooks.on("/v", lambda review: allowed())
    await configure.validating(configure.spec("/v", sideEffects="NoneOnDryRun"))
    path = "/api/v1/namespaces/default/configmaps?dryRun=All"
    await client.request("POST", path, config_map())
    assert hooks.reviews["/v"][0]["request"]["dryRun"] is True
    live = dict(await client.get(VALIDATING, "v"))
    live["webhooks"] = [{**live["webhooks"][0], "sideEffects": "Some"}]
    beta = GroupVersionResource(*VALIDATING)
    with pytest.raises(StatusError):  # v1 does not allow it; stored objects may have it
        await client.update(beta, live)


def test_side_effects_and_dry_run() -> None:
    from pilothouse.apiserver.admission.webhook.hooks import Hook
    from pilothouse.apiserver.admission.webhook.review import dry_run_unsupported

    assert not Hook("u", "c", {"name": "x", "sideEffects": "Unknown"}).supports_dry_run
    assert Hook("u", "c", {"name": "x", "sideEffects": "None"}).supports_dry_run
    assert dry_run_unsupported("x").message == 'admission webhook "x" does not support dry run'


async def test_beta_reviews(
    client: LocalClient, hooks: WebhookServer, configure: Any, config_map: Any
) -> None:
    hooks.on("/v", lambda review: {**allowed(), "uid": "whatever"})
    spec = configure.spec("/v", admissionReviewVersions=["v2", "v1beta1"])
    await configure.validating(spec)
    await client.create(CONFIG_MAPS, config_map())
    assert hooks.reviews["/v"][0]["apiVersion"] == "admission.k8s.io/v1beta1"


async def test_invalid_conditions_are_refused(
    client: LocalClient, hooks: WebhookServer, configure: Any
) -> None:
    broken = [{"name": "c", "expression": "object.metadata.name =="}]
    spec = configure.spec("/v", matchConditions=broken)
    error = await refused(configure.validating(spec))
    assert error.code == 422 and "compilation failed" in error.message


async def test_connect(client: LocalClient, hooks: WebhookServer, configure: Any) -> None:
    hooks.on("/v", lambda review: denied("no entry"))
    connect = rule("pods/*", operations=["CONNECT"])
    await configure.validating(configure.spec("/v", rules=[connect]))
    path = "/api/v1/namespaces/default/pods/p"
    error = await refused(client.request("POST", f"{path}/exec?container=c&command=ls&stdout=1"))
    assert error.message.endswith("no entry")
    request = hooks.reviews["/v"][0]["request"]
    assert request["operation"] == "CONNECT" and request["subResource"] == "exec"
    assert request["object"] == {
        "kind": "PodExecOptions",
        "apiVersion": "v1",
        "container": "c",
        "command": ["ls"],
        "stdout": True,
    }
    assert request["options"] is None
    for what, kind in (("attach", "PodAttachOptions"), ("portforward", "PodPortForwardOptions")):
        await refused(client.request("POST", f"{path}/{what}"))
        assert hooks.reviews["/v"][-1]["request"]["kind"]["kind"] == kind


async def test_configurations_count_at_once(
    client: LocalClient, hooks: WebhookServer, configure: Any, config_map: Any
) -> None:
    hooks.on("/v", lambda review: denied("no"))
    for i in range(3):
        await configure.validating(configure.spec("/v"))
        await refused(client.create(CONFIG_MAPS, config_map(f"c{i}")))
        await client.delete(VALIDATING, "v")
        await client.create(CONFIG_MAPS, config_map(f"c{i}"))


async def test_a_refused_service_gives_its_address_back(
    client: LocalClient, hooks: WebhookServer, configure: Any
) -> None:
    services = GroupVersionResource("", "v1", "services")

    def service(name: str) -> dict[str, Any]:
        spec = {"clusterIP": "10.96.0.77", "ports": [{"port": 80}]}
        return {"metadata": {"name": name, "namespace": "default"}, "spec": spec}

    hooks.on("/v", lambda review: denied("no"))
    await configure.validating(configure.spec("/v", rules=[rule("services")]))
    await refused(client.create(services, service("a")))
    shown = hooks.reviews["/v"][0]["request"]["object"]
    assert shown["spec"]["clusterIPs"] == ["10.96.0.77"]
    hooks.on("/v", lambda review: allowed())
    await client.create(services, service("b"))


async def test_proxies_ask_before_they_look(
    client: LocalClient, hooks: WebhookServer, configure: Any
) -> None:
    hooks.on("/v", lambda review: denied("no entry"))
    rules = [
        rule(f"{what}/proxy", operations=["CONNECT"]) for what in ("pods", "services", "nodes")
    ]
    await configure.validating(configure.spec("/v", rules=rules))
    for path, kind in (
        ("namespaces/default/pods/p", "PodProxyOptions"),
        ("namespaces/default/services/s", "ServiceProxyOptions"),
        ("nodes/n", "NodeProxyOptions"),
    ):
        error = await refused(client.request("GET", f"/api/v1/{path}/proxy/a/b"))
        assert error.message.endswith("no entry")
        request = hooks.reviews["/v"][-1]["request"]
        assert request["object"] == {"kind": kind, "apiVersion": "v1", "path": "/a/b"}
