"""The requests: every verb and sub-resource that admission knows."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

CORE = "/api/v1/namespaces/reviewed"
APPS = "/apis/apps/v1/namespaces/reviewed"
CUSTOM = "/apis/reviewed.example.com/v1/namespaces/reviewed/things"
APPLY = {"Content-Type": "application/apply-patch+yaml"}
MERGE = {"Content-Type": "application/merge-patch+json"}
STRATEGIC = {"Content-Type": "application/strategic-merge-patch+json"}
JSON_PATCH = {"Content-Type": "application/json-patch+json"}
AGENT = "reviews/v1"


@dataclass
class Case:
    """``until``: asked again until it has this status."""

    name: str
    method: str
    path: str
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)
    until: int = 0


def _named(kind: str, name: str, version: str = "v1", **more: Any) -> dict[str, Any]:
    return {"apiVersion": version, "kind": kind, "metadata": {"name": name}, **more}


def _pod(name: str) -> dict[str, Any]:
    container = {
        "name": "c",
        "image": "registry.example.com/a:1",
        "resources": {"requests": {"cpu": "100m"}},
    }
    spec = {"containers": [container], "automountServiceAccountToken": False}
    return _named("Pod", name, spec=spec)


def _deployment() -> dict[str, Any]:
    labels = {"app": "d"}
    template = {"metadata": {"labels": labels}, "spec": _pod("x")["spec"]}
    spec = {"replicas": 1, "selector": {"matchLabels": labels}, "template": template}
    return _named("Deployment", "d", "apps/v1", spec=spec)


def _scale(replicas: int) -> dict[str, Any]:
    scale = _named("Scale", "d", "autoscaling/v1", spec={"replicas": replicas})
    scale["metadata"]["namespace"] = "reviewed"
    return scale


def _definition() -> dict[str, Any]:
    numbers = {"type": "object", "properties": {"replicas": {"type": "integer"}}}
    schema = {"type": "object", "properties": {"spec": numbers, "status": numbers}}
    paths = {"specReplicasPath": ".spec.replicas", "statusReplicasPath": ".status.replicas"}
    version = {
        "name": "v1",
        "served": True,
        "storage": True,
        "schema": {"openAPIV3Schema": schema},
        "subresources": {"status": {}, "scale": paths},
    }
    names = {"plural": "things", "singular": "thing", "kind": "Thing", "listKind": "ThingList"}
    spec = {
        "group": "reviewed.example.com",
        "names": names,
        "scope": "Namespaced",
        "versions": [version],
    }
    return _named(
        "CustomResourceDefinition",
        "things.reviewed.example.com",
        "apiextensions.k8s.io/v1",
        spec=spec,
    )


def preparing() -> list[Case]:
    """Before the webhooks are there."""
    definitions = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
    return [
        Case("namespace", "POST", "/api/v1/namespaces", _named("Namespace", "reviewed")),
        Case("account", "POST", f"{CORE}/serviceaccounts", _named("ServiceAccount", "default")),
        Case("node", "POST", "/api/v1/nodes", _named("Node", "n1")),
        Case("definition", "POST", definitions, _definition()),
        Case("definition-served", "GET", CUSTOM, until=200),
    ]


def cases() -> list[Case]:
    return [*_plain(), *_pods(), *_scales(), *_others(), *_custom(), *_reads()]


def _plain() -> list[Case]:
    maps = f"{CORE}/configmaps"
    applied = _named("ConfigMap", "applied", data={"k": "v"})
    lease = _named("Lease", "l", "coordination.k8s.io/v1", spec={"holderIdentity": "me"})
    leases = "/apis/coordination.k8s.io/v1/namespaces/reviewed/leases"
    generated = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"generateName": "gen-"}}
    options = {"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": "Background"}
    force = f"{maps}/applied?fieldManager=m&force=true"
    return [
        Case("create", "POST", maps, _named("ConfigMap", "a")),
        Case("create-dry", "POST", f"{maps}?dryRun=All", _named("ConfigMap", "dry")),
        Case("create-generated", "POST", maps, generated),
        Case("create-twice", "POST", maps, _named("ConfigMap", "a")),
        Case("create-invalid", "POST", maps, _named("ConfigMap", "A")),
        Case("update", "PUT", f"{maps}/a?fieldManager=u",
             _named("ConfigMap", "a", data={"k": "v"})),
        Case("update-absent", "PUT", f"{maps}/none", _named("ConfigMap", "none")),
        Case("patch", "PATCH", f"{maps}/a", {"data": {"k": "w"}}, MERGE),
        Case("patch-absent", "PATCH", f"{maps}/none", {"data": {"k": "w"}}, MERGE),
        Case("patch-json", "PATCH", f"{maps}/a",
             [{"op": "add", "path": "/data/n", "value": "1"}], JSON_PATCH),
        Case("patch-nothing", "PATCH", f"{maps}/a", {}, MERGE),
        Case("apply-new", "PATCH", f"{maps}/applied?fieldManager=m", json.dumps(applied), APPLY),
        Case("apply-again", "PATCH", force,
             json.dumps(applied | {"data": {"k": "w"}}), APPLY),
        Case("lease-created-by-put", "PUT", f"{leases}/l", lease),
        Case("lease-put", "PUT", f"{leases}/l", lease | {"spec": {"holderIdentity": "you"}}),
        Case("delete", "DELETE", f"{maps}/a", options),
        Case("delete-absent", "DELETE", f"{maps}/none"),
        Case("delete-collection", "DELETE", maps),
        Case("secret", "POST", f"{CORE}/secrets", _named("Secret", "s", stringData={"k": "v"})),
        Case("secret-patch", "PATCH", f"{CORE}/secrets/s", {"data": {"k": "dw=="}}, STRATEGIC),
        Case("mutated", "POST", f"{CORE}/endpoints", _named("Endpoints", "mutated")),
    ]  # fmt: skip


def _pods() -> list[Case]:
    pods = f"{CORE}/pods"
    target = {"apiVersion": "v1", "kind": "Node", "name": "n1"}
    status = {"status": {"phase": "Running"}}
    debugger = {"name": "debugger", "image": "registry.example.com/d:1"}
    resources = {"requests": {"cpu": "200m"}}
    resized = {"spec": {"containers": [{"name": "c", "resources": resources}]}}
    applied = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "one"},
               "status": {"message": "m"}}  # fmt: skip
    return [
        Case("pod", "POST", pods, _pod("one")),
        Case("pod-two", "POST", pods, _pod("two")),
        Case("pod-binding", "POST", f"{pods}/one/binding", _named("Binding", "one", target=target)),
        Case("binding", "POST", f"{CORE}/bindings", _named("Binding", "two", target=target)),
        Case("pod-status", "PATCH", f"{pods}/one/status", status, STRATEGIC),
        Case("pod-status-apply", "PATCH", f"{pods}/one/status?fieldManager=m",
             json.dumps(applied), APPLY),
        Case("pod-ephemeral", "PATCH", f"{pods}/one/ephemeralcontainers",
             {"spec": {"ephemeralContainers": [debugger]}}, STRATEGIC),
        Case("pod-resize", "PATCH", f"{pods}/one/resize", resized, STRATEGIC),
        Case("pod-exec", "POST", f"{pods}/one/exec?command=ls&container=c&stdout=true"),
        Case("pod-attach", "POST", f"{pods}/one/attach?stdout=true"),
        Case("pod-portforward", "POST", f"{pods}/one/portforward?ports=80"),
        Case("pod-proxy", "GET", f"{pods}/one/proxy/some/path?q=1"),
        Case("pod-log", "GET", f"{pods}/one/log"),
        Case("pod-eviction", "POST", f"{pods}/two/eviction",
             _named("Eviction", "two", "policy/v1")),
        Case("pod-delete", "DELETE", f"{pods}/one?gracePeriodSeconds=0"),
        Case("node-proxy", "GET", "/api/v1/nodes/n1/proxy/healthz"),
        Case("pods-delete-collection", "DELETE", f"{pods}?gracePeriodSeconds=0"),
    ]  # fmt: skip


def _scales() -> list[Case]:
    scale = f"{APPS}/deployments/d/scale"
    applied = _scale(4)
    return [
        Case("deployment", "POST", f"{APPS}/deployments", _deployment()),
        Case("scale-get", "GET", scale),
        Case("scale-put", "PUT", scale, _scale(2)),
        Case("scale-patch", "PATCH", scale, {"spec": {"replicas": 3}}, MERGE),
        Case("scale-apply", "PATCH", f"{scale}?fieldManager=m&force=true",
             json.dumps(applied), APPLY),
        Case("deployment-status", "PATCH", f"{APPS}/deployments/d/status",
             {"status": {"replicas": 1}}, MERGE),
        Case("deployment-delete", "DELETE", f"{APPS}/deployments/d"),
    ]  # fmt: skip


def _others() -> list[Case]:
    request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest",
               "spec": {"audiences": ["x"], "expirationSeconds": 3600}}  # fmt: skip
    review = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SubjectAccessReview",
        "spec": {"user": "jane", "resourceAttributes": {"verb": "get", "resource": "pods"}},
    }
    port = {"port": 80, "protocol": "TCP", "name": "p"}
    service = _named("Service", "s", spec={"selector": {"app": "one"}, "ports": [port]})
    chosen = {"minAvailable": 1, "selector": {"matchLabels": {"app": "d"}}}
    budget = _named("PodDisruptionBudget", "b", "policy/v1", spec=chosen)
    return [
        Case("token", "POST", f"{CORE}/serviceaccounts/default/token", request),
        Case("access-review", "POST", "/apis/authorization.k8s.io/v1/subjectaccessreviews", review),
        Case("service", "POST", f"{CORE}/services", service),
        Case("service-proxy", "GET", f"{CORE}/services/s:p/proxy/x"),
        Case("service-delete", "DELETE", f"{CORE}/services/s"),
        Case("budget", "POST", "/apis/policy/v1/namespaces/reviewed/poddisruptionbudgets", budget),
        Case("namespace-new", "POST", "/api/v1/namespaces", _named("Namespace", "other")),
        Case("namespace-patch", "PATCH", "/api/v1/namespaces/other",
             {"metadata": {"labels": {"a": "b"}}}, MERGE),
        Case("namespace-status", "PUT", "/api/v1/namespaces/other/status",
             _named("Namespace", "other")),
        Case("namespace-finalize", "PUT", "/api/v1/namespaces/other/finalize",
             _named("Namespace", "other", spec={"finalizers": ["kubernetes"]})),
        Case("namespace-delete", "DELETE", "/api/v1/namespaces/other"),
        Case("node-status", "PATCH", "/api/v1/nodes/n1/status",
             {"status": {"capacity": {"pods": "10"}}}, STRATEGIC),
    ]  # fmt: skip


def _custom() -> list[Case]:
    thing = _named("Thing", "t", "reviewed.example.com/v1", spec={"replicas": 1})
    scale = _scale(2)
    scale["metadata"]["name"] = "t"
    return [
        Case("thing", "POST", CUSTOM, thing),
        Case("thing-patch", "PATCH", f"{CUSTOM}/t", {"spec": {"replicas": 5}}, MERGE),
        Case("thing-status", "PATCH", f"{CUSTOM}/t/status", {"status": {"replicas": 1}}, MERGE),
        Case("thing-scale-put", "PUT", f"{CUSTOM}/t/scale", scale),
        Case("thing-scale-patch", "PATCH", f"{CUSTOM}/t/scale", {"spec": {"replicas": 3}}, MERGE),
        Case("thing-apply-new", "PATCH", f"{CUSTOM}/u?fieldManager=m",
             json.dumps(_named("Thing", "u", "reviewed.example.com/v1")), APPLY),
        Case("thing-delete", "DELETE", f"{CUSTOM}/t"),
        Case("things-delete-collection", "DELETE", CUSTOM),
    ]  # fmt: skip


def _reads() -> list[Case]:
    """Which no webhook hears of, but the audit log."""
    jane = {"Impersonate-User": "jane", "Impersonate-Group": "dev"}
    return [
        Case("get", "GET", f"{CORE}/serviceaccounts/default"),
        Case("get-absent", "GET", f"{CORE}/configmaps/none"),
        Case("list", "GET", f"{CORE}/serviceaccounts?limit=1"),
        Case("list-selected", "GET",
             f"{CORE}/pods?labelSelector=a%3Db&fieldSelector=spec.nodeName%3Dx"),
        Case("list-table", "GET", f"{CORE}/serviceaccounts", None,
             {"Accept": "application/json;as=Table;g=meta.k8s.io;v=v1"}),
        Case("watch", "GET", f"{CORE}/serviceaccounts?watch=1&timeoutSeconds=1"),
        Case("forbidden", "GET", f"{CORE}/secrets", None, jane),
        Case("impersonated", "GET", "/version", None, jane),
        Case("unauthorized", "GET", f"{CORE}/pods", None, {"Authorization": "Bearer nonsense"}),
        Case("health", "GET", "/healthz"),
        Case("unknown-path", "GET", "/nowhere"),
        Case("unknown-kind", "GET", f"{CORE}/nonsense"),
        Case("bad-body", "POST", f"{CORE}/configmaps", "{"),
        Case("bad-media-type", "POST", f"{CORE}/configmaps", "x", {"Content-Type": "text/x"}),
        Case("too-large", "POST", f"{CORE}/configmaps", "x" * 3200000,
             {"Content-Type": "application/json"}),
        Case("proxied-to-nobody", "POST", f"{CORE}/pods/none/proxy/x", "x",
             {"Content-Type": "text/plain"}),
    ]  # fmt: skip
