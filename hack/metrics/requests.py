"""What both API servers are asked before their metrics are compared: something of everything."""

from __future__ import annotations

import contextlib
import http.client
import json
import time
from collections.abc import Callable
from typing import Any

Call = Callable[..., tuple[int, dict[str, str], bytes]]
_CORE = "/api/v1/namespaces/default"
_APPLY = {"Content-Type": "application/apply-patch+yaml"}
_MERGE = {"Content-Type": "application/merge-patch+json"}
_GROUP = "measured.example.com"
_ADMISSION = "/apis/admissionregistration.k8s.io/v1"


def _pod(name: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": name}},
        "spec": {"containers": [{"name": "c", "image": "registry.example.com/nothing:1"}]},
    }


def _definition() -> dict[str, Any]:
    properties = {
        "spec": {
            "type": "object",
            "properties": {"size": {"type": "integer"}},
            "x-kubernetes-validations": [{"rule": "self.size < 10"}],
        }
    }
    schema = {"openAPIV3Schema": {"type": "object", "properties": properties}}
    names = {"plural": "things", "singular": "thing", "kind": "Thing", "listKind": "ThingList"}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"things.{_GROUP}"},
        "spec": {
            "group": _GROUP,
            "names": names,
            "scope": "Namespaced",
            "versions": [{"name": "v1", "served": True, "storage": True, "schema": schema}],
        },
    }


def _rules(resource: str) -> list[dict[str, Any]]:
    return [
        {
            "apiGroups": [""],
            "apiVersions": ["v1"],
            "operations": ["CREATE"],
            "resources": [resource],
        }
    ]


def _policy() -> list[tuple[str, dict[str, Any]]]:
    policy = {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingAdmissionPolicy",
        "metadata": {"name": "measured"},
        "spec": {
            "failurePolicy": "Fail",
            "matchConstraints": {"resourceRules": _rules("secrets")},
            "validations": [{"expression": "object.metadata.name != 'denied'"}],
        },
    }
    binding = {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingAdmissionPolicyBinding",
        "metadata": {"name": "measured"},
        "spec": {"policyName": "measured", "validationActions": ["Deny"]},
    }
    return [
        (f"{_ADMISSION}/validatingadmissionpolicies", policy),
        (f"{_ADMISSION}/validatingadmissionpolicybindings", binding),
    ]


def _webhook(kind: str, port: int) -> dict[str, Any]:
    """Leads nowhere and lets everything pass."""
    hook = {
        "name": "hook.example.com",
        "clientConfig": {"url": f"https://127.0.0.1:{port}/"},
        "rules": _rules("configmaps"),
        "failurePolicy": "Ignore",
        "sideEffects": "None",
        "admissionReviewVersions": ["v1"],
        "timeoutSeconds": 1,
    }
    return {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": kind,
        "metadata": {"name": f"measured-{kind.lower()[:5]}"},
        "webhooks": [hook],
    }


def send(call: Call) -> None:
    """The mix, in order; waits where something takes effect later."""
    for path in ("/version", "/healthz", "/readyz", "/livez?verbose", "/api", "/apis"):
        call("GET", path)
    call("GET", "/openapi/v2")
    call("GET", "/openapi/v3")
    _admission(call)
    _objects(call)
    _custom(call)
    _identity(call)
    _watching(call)


def _admission(call: Call) -> None:
    for path, body in _policy():
        call("POST", path, body)
    for kind in ("Mutating", "Validating"):
        path = f"{_ADMISSION}/{kind.lower()}webhookconfigurations"
        call("POST", path, _webhook(f"{kind}WebhookConfiguration", 9))
    _until(lambda: call("POST", f"{_CORE}/secrets", _named("Secret", "denied"))[0], 422)


def _objects(call: Call) -> None:
    call("POST", f"{_CORE}/serviceaccounts", _named("ServiceAccount", "default"))
    call("POST", f"{_CORE}/configmaps", _named("ConfigMap", "a"))
    call("POST", f"{_CORE}/configmaps?dryRun=All", _named("ConfigMap", "b"))
    call("POST", f"{_CORE}/configmaps", _named("ConfigMap", "a"))
    call("PUT", f"{_CORE}/configmaps/a", _named("ConfigMap", "a") | {"data": {"k": "v"}})
    call("PATCH", f"{_CORE}/configmaps/a", {"data": {"k": "w"}}, _MERGE)
    applied = _named("ConfigMap", "applied") | {"data": {"k": "v"}}
    call("PATCH", f"{_CORE}/configmaps/applied?fieldManager=m", json.dumps(applied), _APPLY)
    call("GET", f"{_CORE}/configmaps/a")
    call("GET", f"{_CORE}/configmaps/none")
    call("GET", f"{_CORE}/endpoints")
    call("GET", f"{_CORE}/configmaps?limit=1")
    call("GET", "/api/v1/configmaps?resourceVersion=0")
    call("POST", f"{_CORE}/pods", _pod("one"))
    call("GET", f"{_CORE}/pods/one/log")
    port = {"port": 80, "protocol": "TCP"}
    spec = {"type": "NodePort", "selector": {"app": "one"}, "ports": [port]}
    call("POST", f"{_CORE}/services", _named("Service", "s") | {"spec": spec})
    call("DELETE", f"{_CORE}/pods/one?gracePeriodSeconds=0")
    call("DELETE", f"{_CORE}/services/s")
    call("DELETE", f"{_CORE}/configmaps")


def _custom(call: Call) -> None:
    path = f"/apis/{_GROUP}/v1/namespaces/default/things"
    call("POST", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", _definition())
    thing = {
        "apiVersion": f"{_GROUP}/v1",
        "kind": "Thing",
        "metadata": {"name": "t"},
        "spec": {"size": 3},
    }
    _until(lambda: call("POST", path, thing)[0], 201)
    call("POST", path, thing | {"metadata": {"name": "big"}, "spec": {"size": 30}})
    call("GET", f"{path}/t")
    call("GET", path)
    call("DELETE", f"{path}/t")


def _identity(call: Call) -> None:
    request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}}
    _, _, data = call("POST", f"{_CORE}/serviceaccounts/default/token", request)
    token = (json.loads(data).get("status") or {}).get("token", "")
    for value in (token, token, "nonsense"):
        call("GET", "/api/v1/nodes", None, {"Authorization": f"Bearer {value}"})
    review = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": {"verb": "get", "resource": "pods"}},
    }
    call("POST", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", review)
    for path in (f"{_CORE}/pods", "/version"):
        call("GET", path, None, {"Impersonate-User": "jane@example.com"})


def _watching(call: Call) -> None:
    call("GET", f"{_CORE}/secrets?watch=1&timeoutSeconds=1")
    call("GET", f"{_CORE}/secrets?watch=1&timeoutSeconds=1&sendInitialEvents=true"
         "&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true")  # fmt: skip
    with contextlib.suppress(OSError, http.client.HTTPException):
        call("GET", f"{_CORE}/configmaps?watch=1&timeoutSeconds=1&resourceVersion=1")


def _named(kind: str, name: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": kind, "metadata": {"name": name}}


def _until(status: Callable[[], int], wanted: int) -> None:
    deadline = time.monotonic() + 20
    while status() != wanted and time.monotonic() < deadline:
        time.sleep(0.1)
