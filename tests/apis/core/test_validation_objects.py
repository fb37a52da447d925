"""ConfigMaps, Secrets, Services, Namespaces, Nodes and other small kinds of the core group."""

from __future__ import annotations

from typing import Any

import pytest

from pilothouse.apis.core.validation_config import (
    validate_config_map,
    validate_config_map_update,
    validate_secret,
    validate_secret_update,
)
from pilothouse.apis.core.validation_endpoints import validate_endpoints
from pilothouse.apis.core.validation_event import validate_event
from pilothouse.apis.core.validation_limitrange import validate_limit_range
from pilothouse.apis.core.validation_node import validate_node, validate_node_update
from pilothouse.apis.core.validation_pv import validate_volume, validate_volume_update
from pilothouse.apis.core.validation_pvc import validate_claim, validate_claim_update
from pilothouse.apis.core.validation_quota import validate_resource_quota
from pilothouse.apis.core.validation_service import validate_service, validate_service_update

Obj = dict[str, Any]


def texts(errors: list[Any]) -> list[str]:
    return [str(error) for error in errors]


def test_config_map_keys_and_sizes() -> None:
    assert texts(validate_config_map({"data": {"a.b": "c"}})) == []
    errors = texts(validate_config_map({"data": {"a b": "c"}}))
    assert errors[0].startswith(
        'data[a b]: Invalid value: "a b": a valid config key must consist of alphanumeric '
        "characters, '-', '_' or '.'"
    )
    assert texts(validate_config_map({"data": {"a": "b"}, "binaryData": {"a": "eA=="}})) == [
        'data[a]: Invalid value: "a": duplicate of key present in binaryData'
    ]
    assert texts(validate_config_map({"data": {"a": "x" * (1 << 20) + "x"}})) == [
        "[]: Too long: may not be more than 1048576 bytes"
    ]


def test_immutable_config_map() -> None:
    old = {"immutable": True, "data": {"a": "b"}}
    assert texts(validate_config_map_update({"immutable": False, "data": {"a": "c"}}, old)) == [
        "immutable: Forbidden: field is immutable when `immutable` is set",
        "data: Forbidden: field is immutable when `immutable` is set",
    ]


@pytest.mark.parametrize(
    ("secret", "expected"),
    [
        ({"type": "kubernetes.io/tls"}, ["data[tls.crt]: Required value"]),
        (
            {"type": "kubernetes.io/service-account-token", "metadata": {}},
            ["metadata.annotations[kubernetes.io/service-account.name]: Required value"],
        ),
        ({"type": "kubernetes.io/dockerconfigjson"}, ["data[.dockerconfigjson]: Required value"]),
        ({"type": "kubernetes.io/ssh-auth"}, ["data[ssh-privatekey]: Required value"]),
        ({"type": "Opaque", "data": {"a": "eA=="}}, []),
    ],
)
def test_secret_types(secret: Obj, expected: list[str]) -> None:
    errors = texts(validate_secret(secret))
    assert errors[: len(expected)] == expected
    assert bool(errors) == bool(expected)


def test_a_secret_keeps_its_type() -> None:
    errors = texts(validate_secret_update({"type": "b"}, {"type": "a"}))
    assert errors == ['type: Invalid value: "b": field is immutable']


def service(**spec: Any) -> Obj:
    base = {
        "type": "ClusterIP",
        "sessionAffinity": "None",
        "internalTrafficPolicy": "Cluster",
        "ports": [{"port": 80, "protocol": "TCP", "targetPort": 80}],
    }
    return {"metadata": {"name": "a", "namespace": "d"}, "spec": {**base, **spec}}


SERVICES: list[tuple[Obj, str]] = [
    ({"ports": []}, "spec.ports: Required value"),
    (
        {"type": "Other"},
        'spec.type: Unsupported value: "Other": supported values: "ClusterIP", "ExternalName", '
        '"LoadBalancer", "NodePort"',
    ),
    (
        {"ports": [{"port": 0, "protocol": "TCP", "targetPort": 80}]},
        "spec.ports[0].port: Invalid value: 0: must be between 1 and 65535, inclusive",
    ),
    (
        {"ports": [{"port": p, "protocol": "TCP", "targetPort": p} for p in (80, 81)]},
        "spec.ports[0].name: Required value",
    ),
    (
        {"ports": [{"port": 80, "name": n, "protocol": "TCP", "targetPort": 80} for n in "ab"]},
        'spec.ports[1]: Duplicate value: {"Name":"","Protocol":"TCP","AppProtocol":null,"Port":80,',
    ),
    (
        {"ports": [{"port": 80, "protocol": "TCP", "targetPort": 80, "nodePort": 30000}]},
        "spec.ports[0].nodePort: Forbidden: may not be used when `type` is 'ClusterIP'",
    ),
    (
        {"type": "ExternalName", "externalName": "", "ports": []},
        "spec.externalName: Required value",
    ),
    ({"type": "LoadBalancer", "clusterIP": "None", "clusterIPs": ["None"]}, "spec.clusterIPs[0]"),
    (
        {"externalTrafficPolicy": "Local"},
        'spec.externalTrafficPolicy: Invalid value: "Local": may only be set for '
        "externally-accessible services",
    ),
    (
        {"sessionAffinity": "Sticky"},
        'spec.sessionAffinity: Unsupported value: "Sticky": supported values: "ClientIP", "None"',
    ),
]


@pytest.mark.parametrize(("spec", "expected"), SERVICES)
def test_services(spec: Obj, expected: str) -> None:
    errors = texts(validate_service(service(**spec)))
    assert any(error.startswith(expected) for error in errors), errors


def test_a_cluster_ip_may_not_change() -> None:
    old = service(clusterIP="10.0.0.1", clusterIPs=["10.0.0.1"], ipFamilies=["IPv4"])
    new = service(clusterIP="10.0.0.2", clusterIPs=["10.0.0.2"], ipFamilies=["IPv4"])
    assert texts(validate_service_update(new, old)) == [
        'spec.clusterIPs[0]: Invalid value: ["10.0.0.2"]: may not change once set'
    ]


def test_endpoints() -> None:
    subset = {"addresses": [{"ip": "127.0.0.1"}], "ports": [{"port": 80, "protocol": "TCP"}]}
    assert texts(validate_endpoints({"subsets": [subset]})) == [
        'subsets[0].addresses[0].ip: Invalid value: "127.0.0.1": may not be in the loopback range '
        "(127.0.0.0/8, ::1/128)"
    ]
    assert texts(validate_endpoints({"subsets": [{"ports": []}]})) == [
        "subsets[0]: Required value: must specify `addresses` or `notReadyAddresses`"
    ]


def test_events_are_in_their_object_s_namespace() -> None:
    event = {"metadata": {"namespace": "a"}, "involvedObject": {"kind": "Pod", "namespace": "b"}}
    errors = texts(validate_event(event))
    assert errors == [
        'involvedObject.namespace: Invalid value: "b": does not match event.namespace'
    ]


def test_limit_range_order() -> None:
    limit = {"type": "Container", "max": {"cpu": "1"}, "min": {"cpu": "2"}}
    assert texts(validate_limit_range({"spec": {"limits": [limit]}})) == [
        'spec.limits[0].min[cpu]: Invalid value: "2": min value 2 is greater than max value 1'
    ]


def test_quota_names() -> None:
    quota = {"spec": {"hard": {"cpu": "1", "a b": "1"}}}
    errors = texts(validate_resource_quota(quota))
    assert errors and all(error.startswith("spec.hard[a b]") for error in errors)


def test_node_pod_cidr_may_not_change() -> None:
    old = {
        "metadata": {"name": "a"},
        "spec": {"podCIDR": "10.0.0.0/24", "podCIDRs": ["10.0.0.0/24"]},
    }
    new = {
        "metadata": {"name": "a"},
        "spec": {"podCIDR": "10.0.1.0/24", "podCIDRs": ["10.0.1.0/24"]},
    }
    errors = texts(validate_node_update(new, old))
    assert errors == [
        'spec.podCIDRs: Forbidden: node updates may not change podCIDR except from "" to valid'
    ]


def test_node_taints_are_unique() -> None:
    taint = {"key": "a", "effect": "NoSchedule"}
    errors = texts(validate_node({"metadata": {"name": "a"}, "spec": {"taints": [taint, taint]}}))
    assert len(errors) == 1
    assert errors[0].startswith("metadata.taints[1]: Duplicate value: ")


def volume(**spec: Any) -> Obj:
    base = {"capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"]}
    return {"metadata": {"name": "a"}, "spec": {**base, **spec}}


def test_volumes() -> None:
    assert texts(validate_volume(volume(hostPath={"path": "/x"}))) == []
    assert texts(validate_volume(volume())) == ["spec: Required value: must specify a volume type"]
    assert texts(validate_volume(volume(local={"path": "/x"}))) == [
        "spec.nodeAffinity: Required value: Local volume requires node affinity"
    ]
    two = volume(hostPath={"path": "/x"}, nfs={"server": "a", "path": "/b"})
    assert texts(validate_volume(two)) == [
        "spec.nfs: Forbidden: may not specify more than 1 volume type"
    ]


def test_a_volume_s_source_may_not_change() -> None:
    new, old = volume(hostPath={"path": "/x"}), volume(hostPath={"path": "/y"})
    errors = texts(validate_volume_update(new, old))
    assert len(errors) == 1
    assert errors[0].startswith(
        "spec.persistentvolumesource: Forbidden: spec.persistentvolumesource is immutable after "
        "creation\n"
    )


def claim(size: str = "1Gi", **spec: Any) -> Obj:
    requests = {"requests": {"storage": size}}
    return {"spec": {"accessModes": ["ReadWriteOnce"], "resources": requests, **spec}}


def test_claims() -> None:
    assert texts(validate_claim(claim())) == []
    assert texts(validate_claim({"spec": {}})) == [
        "spec.accessModes: Required value: at least 1 access mode is required",
        "spec.resources[storage]: Required value",
    ]


def test_a_claim_grows_only_when_bound() -> None:
    bound = {"phase": "Bound", "capacity": {"storage": "512Mi"}}
    new, old = {**claim("2Gi"), "status": bound}, {**claim("1Gi"), "status": bound}
    assert texts(validate_claim_update(new, old)) == []
    assert texts(validate_claim_update(old, new)) == []
    assert texts(validate_claim_update({**claim("512Mi"), "status": bound}, old)) == [
        "spec.resources.requests.storage: Forbidden: field can not be less than status.capacity"
    ]
    errors = texts(validate_claim_update(claim("2Gi"), claim("1Gi")))
    assert errors[0].startswith("spec: Forbidden: spec is immutable after creation except")
