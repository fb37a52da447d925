"""The requests of each operation, as bytes ready to send.

Names are a function of a running number, so that creates never collide and deletes find what the
creates made. Both servers get the same bytes.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

NAMESPACE = "bench"
BIG = "bench-big"
WATCHED = "bench-watched"
TARGETS = 100
"""Objects that GET, patch and apply go round."""
BIG_COUNT = 5000

JSON = "application/json"
STRATEGIC = "application/strategic-merge-patch+json"
APPLY = "application/apply-patch+yaml"
TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"


def encode(
    method: str, path: str, body: bytes = b"", content_type: str = JSON, accept: str = JSON,
    more: str = "",
) -> bytes:  # fmt: skip
    head = (
        f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nUser-Agent: bench/1.0\r\n"
        f"Accept: {accept}\r\n{more}"
    )
    if body or method in ("POST", "PUT", "PATCH"):
        head += f"Content-Type: {content_type}\r\nContent-Length: {len(body)}\r\n"
    return head.encode() + b"\r\n" + body


def _dump(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def config_map(name: str) -> bytes:
    data = {f"key-{n}": "x" * 80 for n in range(10)}
    metadata = {"name": name, "labels": {"app": "bench", "tier": "backend"}}
    return _dump({"kind": "ConfigMap", "apiVersion": "v1", "metadata": metadata, "data": data})


def pod(name: str, image: str = "registry.k8s.io/pause:3.10") -> bytes:
    return _dump(
        {
            "kind": "Pod",
            "apiVersion": "v1",
            "metadata": {
                "name": name,
                "labels": {"app": "bench", "pod-template-hash": "5d59d67564"},
                "annotations": {"bench/purpose": "a pod of the benchmark"},
            },
            "spec": {
                "containers": [
                    {
                        "name": "main",
                        "image": image,
                        "command": ["/pause"],
                        "ports": [{"containerPort": 8080, "name": "http"}],
                        "env": [
                            {"name": "MODE", "value": "bench"},
                            {
                                "name": "POD_NAME",
                                "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}},
                            },
                        ],
                        "resources": {
                            "requests": {"cpu": "1m", "memory": "1Mi"},
                            "limits": {"memory": "64Mi"},
                        },
                    }
                ],
                "terminationGracePeriodSeconds": 30,
            },
        }
    )


def _core(namespace: str, resource: str, name: str = "") -> str:
    path = f"/api/v1/namespaces/{namespace}/{resource}"
    return f"{path}/{name}" if name else path


def create_config_map(n: int) -> bytes:
    return encode("POST", _core(NAMESPACE, "configmaps"), config_map(f"cm-{n}"))


def delete_config_map(n: int) -> bytes:
    return encode("DELETE", _core(NAMESPACE, "configmaps", f"cm-{n}"))


def create_pod(n: int) -> bytes:
    return encode("POST", _core(NAMESPACE, "pods"), pod(f"pod-{n}"))


def create_big_pod(n: int) -> bytes:
    return encode("POST", _core(BIG, "pods"), pod(f"pod-{n}"))


def create_target(n: int) -> bytes:
    return encode("POST", _core(NAMESPACE, "pods"), pod(f"target-{n}"))


def get_pod(n: int) -> bytes:
    return encode("GET", _core(NAMESPACE, "pods", f"target-{n % TARGETS}"))


def patch_pod(n: int) -> bytes:
    body = _dump({"metadata": {"labels": {"turn": f"t{n}"}}})
    return encode("PATCH", _core(NAMESPACE, "pods", f"target-{n % TARGETS}"), body, STRATEGIC)


def apply_config_map(n: int) -> bytes:
    name = f"applied-{n % TARGETS}"
    data = {f"key-{at}": "x" * 80 for at in range(9)} | {"turn": f"t{n}"}
    metadata = {"name": name, "labels": {"app": "bench"}}
    body = _dump({"kind": "ConfigMap", "apiVersion": "v1", "metadata": metadata, "data": data})
    path = _core(NAMESPACE, "configmaps", name) + "?fieldManager=bench&force=true"
    return encode("PATCH", path, body, APPLY)


def _list(query: str, accept: str = JSON, more: str = "") -> Callable[[int], bytes]:
    request = encode("GET", _core(BIG, "pods") + query, accept=accept, more=more)
    return lambda n: request


OPERATIONS: dict[str, Callable[[int], bytes]] = {
    "create ConfigMap": create_config_map,
    "create Pod": create_pod,
    "GET Pod": get_pod,
    "patch Pod": patch_pod,
    "apply ConfigMap": apply_config_map,
    "delete ConfigMap": delete_config_map,
    "create big Pod": create_big_pod,
    "create target": create_target,
    "LIST 5,000 rv=0": _list("?resourceVersion=0"),
    "LIST 5,000 consistent": _list(""),
    "LIST 5,000 gzip": _list("", more="Accept-Encoding: gzip\r\n"),
    "LIST limit=500": _list("?limit=500"),
    "LIST 5,000 Table": _list("", TABLE),
    "LIST selector, no match": _list("?labelSelector=app%3Dnothing"),
}
LISTS = tuple(name for name in OPERATIONS if name.startswith("LIST"))


def templated_nodes(count: int, template: dict[str, Any], zones: int) -> list[bytes]:
    """As ``node_requests``, with host names and zones as labels."""
    made = []
    for n in range(count):
        name = f"node-{n}"
        labels = template["metadata"]["labels"] | {
            "kubernetes.io/hostname": name,
            "topology.kubernetes.io/zone": f"moon-{n % zones + 1}",
        }
        node = template | {"metadata": {"name": name, "labels": labels}}
        made.append(encode("POST", "/api/v1/nodes", _dump(node)))
        patch = _dump({"spec": {"taints": None}})
        made.append(encode("PATCH", f"/api/v1/nodes/{name}", patch, "application/merge-patch+json"))
    return made


def templated_pod(name: str, template: dict[str, Any]) -> bytes:
    body = template | {"metadata": template["metadata"] | {"name": name}}
    return encode("POST", _core(NAMESPACE, "pods"), _dump(body))


def node_requests(count: int) -> list[bytes]:
    """Nodes without a kubelet, ready to take pods: admission's taint is lifted again."""
    made = []
    for n in range(count):
        amounts = {"cpu": "32", "memory": "128Gi", "pods": "110"}
        node = {
            "kind": "Node",
            "apiVersion": "v1",
            "metadata": {"name": f"node-{n}"},
            "status": {
                "capacity": amounts,
                "allocatable": amounts,
                "conditions": [{"type": "Ready", "status": "True", "reason": "Bench"}],
            },
        }
        made.append(encode("POST", "/api/v1/nodes", _dump(node)))
        patch = _dump({"spec": {"taints": None}})
        path = f"/api/v1/nodes/node-{n}"
        made.append(encode("PATCH", path, patch, "application/merge-patch+json"))
    return made


def started_pod(n: int, image: str) -> bytes:
    return encode("POST", _core(NAMESPACE, "pods"), pod(f"run-{n}", image))


def real_pod(n: int, image: str) -> bytes:
    """One that a runtime can run."""
    body = json.loads(pod(f"run-{n}", image))
    container = body["spec"]["containers"][0]
    container["command"], container["imagePullPolicy"] = ["sleep", "3600"], "IfNotPresent"
    del container["ports"]
    return encode("POST", _core(NAMESPACE, "pods"), _dump(body))


def watch_request(version: str) -> bytes:
    path = _core(WATCHED, "pods")
    return encode("GET", f"{path}?watch=true&resourceVersion={version}&timeoutSeconds=3000")


def watched_patch(stamp: int) -> bytes:
    """Carries the time, so that a watcher can tell how long the event took."""
    body = _dump({"metadata": {"annotations": {"bench/sent": str(stamp)}}})
    return encode("PATCH", _core(WATCHED, "pods", "watched"), body, STRATEGIC)


def setup_requests() -> list[bytes]:
    """Namespaces with their default ServiceAccounts (no controller runs that makes them)."""
    made = []
    for name in (NAMESPACE, BIG, WATCHED):
        space = {"kind": "Namespace", "apiVersion": "v1", "metadata": {"name": name}}
        account = {"kind": "ServiceAccount", "apiVersion": "v1", "metadata": {"name": "default"}}
        made.append(encode("POST", "/api/v1/namespaces", _dump(space)))
        made.append(encode("POST", _core(name, "serviceaccounts"), _dump(account)))
    made.append(encode("POST", _core(WATCHED, "pods"), pod("watched")))
    return made
