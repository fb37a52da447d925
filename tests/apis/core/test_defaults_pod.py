"""What a pod looks like after defaulting."""

from __future__ import annotations

from typing import Any

import pytest

from pilothouse.apis.core.defaults_pod import set_pod_defaults


def defaulted(spec: dict[str, Any]) -> dict[str, Any]:
    pod: dict[str, Any] = {"metadata": {"name": "a"}, "spec": spec}
    set_pod_defaults(pod)
    result: dict[str, Any] = pod["spec"]
    return result


def test_a_minimal_pod() -> None:
    assert defaulted({"containers": [{"name": "c", "image": "busybox"}]}) == {
        "containers": [
            {
                "name": "c",
                "image": "busybox",
                "resources": {},
                "terminationMessagePath": "/dev/termination-log",
                "terminationMessagePolicy": "File",
                "imagePullPolicy": "Always",
            }
        ],
        "restartPolicy": "Always",
        "dnsPolicy": "ClusterFirst",
        "terminationGracePeriodSeconds": 30,
        "securityContext": {},
        "schedulerName": "default-scheduler",
        "enableServiceLinks": True,
    }


@pytest.mark.parametrize(
    ("image", "policy"),
    [
        ("busybox", "Always"),
        ("busybox:latest", "Always"),
        ("busybox:1.36", "IfNotPresent"),
        ("localhost:5000/busybox", "Always"),
        ("localhost:5000/busybox:1", "IfNotPresent"),
        ("busybox@sha256:" + "0" * 64, "IfNotPresent"),
    ],
)
def test_pull_policy_by_tag(image: str, policy: str) -> None:
    spec = defaulted({"containers": [{"name": "c", "image": image}]})
    assert spec["containers"][0]["imagePullPolicy"] == policy


def test_requests_come_from_limits() -> None:
    resources = {"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "500m"}}
    spec = defaulted({"containers": [{"name": "c", "image": "x", "resources": resources}]})
    assert spec["containers"][0]["resources"]["requests"] == {"cpu": "500m", "memory": "1Gi"}


def test_host_network_takes_container_ports() -> None:
    container = {"name": "c", "image": "x", "ports": [{"containerPort": 80}]}
    spec = defaulted({"hostNetwork": True, "containers": [container]})
    port = spec["containers"][0]["ports"][0]
    assert port == {"containerPort": 80, "hostPort": 80, "protocol": "TCP"}


def test_probes() -> None:
    probe = {"httpGet": {"port": 80}}
    spec = defaulted({"containers": [{"name": "c", "image": "x", "readinessProbe": probe}]})
    assert spec["containers"][0]["readinessProbe"] == {
        "httpGet": {"port": 80, "path": "/", "scheme": "HTTP"},
        "timeoutSeconds": 1,
        "periodSeconds": 10,
        "successThreshold": 1,
        "failureThreshold": 3,
    }


def test_a_projected_token_lasts_an_hour() -> None:
    sources = [{"serviceAccountToken": {"path": "token"}}]
    volume = {"name": "t", "projected": {"sources": sources}}
    spec = defaulted({"containers": [], "volumes": [volume]})
    assert spec["volumes"][0]["projected"] == {
        "defaultMode": 420,
        "sources": [{"serviceAccountToken": {"path": "token", "expirationSeconds": 3600}}],
    }
