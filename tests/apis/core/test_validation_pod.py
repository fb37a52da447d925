"""Pods: create, update, status, resize, ephemeral containers, binding."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from pilothouse.apis.core.defaults_pod import set_pod_defaults
from pilothouse.apis.core.validation_pod import (
    validate_binding,
    validate_ephemeral_containers_update,
    validate_pod_create,
    validate_pod_update,
)
from pilothouse.apis.core.validation_pod_resize import validate_pod_resize
from pilothouse.apis.core.validation_pod_status import validate_pod_status_update

Obj = dict[str, Any]


def make_pod(spec: Obj | None = None, **container: Any) -> Obj:
    pod: Obj = {
        "metadata": {"name": "web", "namespace": "default"},
        "spec": {"containers": [{"name": "c", "image": "busybox", **container}], **(spec or {})},
    }
    set_pod_defaults(pod)
    return pod


def texts(errors: list[Any]) -> list[str]:
    return [str(error) for error in errors]


CONTAINERS: list[tuple[Obj, str]] = [
    ({"name": ""}, "spec.containers[0].name: Required value"),
    (
        {"name": "a_b"},
        'spec.containers[0].name: Invalid value: "a_b": a lowercase RFC 1123 label must consist of '
        "lower case alphanumeric characters or '-', and must start and end with an alphanumeric "
        "character (e.g. 'my-name',  or '123-abc', regex used for validation is "
        "'[a-z0-9]([-a-z0-9]*[a-z0-9])?')",
    ),
    ({"image": ""}, "spec.containers[0].image: Required value"),
    (
        {"image": " x"},
        'spec.containers[0].image: Invalid value: " x": must not have leading or trailing '
        "whitespace",
    ),
    (
        {"imagePullPolicy": "Sometimes"},
        'spec.containers[0].imagePullPolicy: Unsupported value: "Sometimes": supported values: '
        '"Always", "IfNotPresent", "Never"',
    ),
    (
        {"ports": [{"containerPort": 0, "protocol": "TCP"}]},
        "spec.containers[0].ports[0].containerPort: Required value",
    ),
    (
        {"ports": [{"containerPort": 70000, "protocol": "TCP"}]},
        "spec.containers[0].ports[0].containerPort: Invalid value: 70000: must be between 1 and "
        "65535, inclusive",
    ),
    (
        {"resources": {"requests": {"cpu": "2"}, "limits": {"cpu": "1"}}},
        'spec.containers[0].resources.requests: Invalid value: "2": must be less than or equal to '
        "cpu limit of 1",
    ),
    (
        {"volumeMounts": [{"name": "gone", "mountPath": "/x"}]},
        'spec.containers[0].volumeMounts[0].name: Not found: "gone"',
    ),
    (
        {"livenessProbe": {"timeoutSeconds": 1, "periodSeconds": 1, "failureThreshold": 1}},
        "spec.containers[0].livenessProbe: Required value: must specify a handler type",
    ),
    (
        {"env": [{"name": ""}]},
        "spec.containers[0].env[0].name: Required value",
    ),
    (
        {"env": [{"name": "A", "value": "x", "valueFrom": {"fieldRef": {"fieldPath": "a"}}}]},
        'spec.containers[0].env[0].valueFrom: Invalid value: "": may not be specified when '
        "`value` is not empty",
    ),
    (
        {"lifecycle": {"preStop": {}}},
        "spec.containers[0].lifecycle.preStop: Required value: must specify a handler type",
    ),
    (
        {"securityContext": {"privileged": True, "allowPrivilegeEscalation": False}},
        "spec.containers[0].securityContext: Invalid value",
    ),
]

SPECS: list[tuple[Obj, str]] = [
    ({"containers": []}, "spec.containers: Required value"),
    (
        {"restartPolicy": "Sometimes"},
        'spec.restartPolicy: Unsupported value: "Sometimes": supported values: "Always", '
        '"OnFailure", "Never"',
    ),
    (
        {"dnsPolicy": "None"},
        "spec.dnsConfig: Required value: must provide `dnsConfig` when `dnsPolicy` is None",
    ),
    (
        {"activeDeadlineSeconds": 0},
        "spec.activeDeadlineSeconds: Invalid value: 0: must be between 1 and 2147483647, inclusive",
    ),
    (
        {"volumes": [{"name": "v", "emptyDir": {}}, {"name": "v", "emptyDir": {}}]},
        'spec.volumes[1].name: Duplicate value: "v"',
    ),
    (
        {"volumes": [{"name": "v", "emptyDir": {}, "hostPath": {"path": "/x"}}]},
        "spec.volumes[0].hostPath: Forbidden: may not specify more than 1 volume type",
    ),
    (
        {"tolerations": [{"operator": "Equal", "value": "x"}]},
        'spec.tolerations[0].operator: Invalid value: "Equal": operator must be Exists when '
        '`key` is empty, which means "match all values and all keys"',
    ),
    (
        {"initContainers": [{"name": "c", "image": "x"}]},
        'spec.initContainers[0].name: Duplicate value: "c"',
    ),
    ({"nodeName": "a_b"}, 'spec.nodeName: Invalid value: "a_b": a lowercase RFC 1123 subdomain'),
    (
        {"ephemeralContainers": [{"name": "e", "image": "x"}]},
        "spec.ephemeralContainers: Forbidden: cannot be set on create",
    ),
]


def test_a_plain_pod_is_valid() -> None:
    assert texts(validate_pod_create(make_pod())) == []


@pytest.mark.parametrize(("container", "expected"), CONTAINERS)
def test_containers(container: Obj, expected: str) -> None:
    errors = texts(validate_pod_create(make_pod(None, **container)))
    assert any(error.startswith(expected) for error in errors), errors


@pytest.mark.parametrize(("spec", "expected"), SPECS)
def test_specs(spec: Obj, expected: str) -> None:
    errors = texts(validate_pod_create(make_pod(spec)))
    assert any(error.startswith(expected) for error in errors), errors


def change(pod: Obj, **spec: Any) -> Obj:
    new = copy.deepcopy(pod)
    new["spec"].update(spec)
    return new


UPDATABLE: list[Obj] = [
    {"activeDeadlineSeconds": 5},
    {"tolerations": [{"key": "a", "operator": "Exists"}]},
    {"containers": [{**make_pod()["spec"]["containers"][0], "image": "nginx"}]},
]


@pytest.mark.parametrize("spec", UPDATABLE)
def test_update_of_what_may_change(spec: Obj) -> None:
    pod = make_pod()
    assert texts(validate_pod_update(change(pod, **spec), pod)) == []


def test_update_of_other_fields_is_forbidden() -> None:
    pod = make_pod()
    errors = texts(validate_pod_update(change(pod, restartPolicy="Never"), pod))
    assert len(errors) == 1
    assert errors[0].startswith(
        "spec: Forbidden: pod updates may not change fields other than "
        "`spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,"
        "`spec.tolerations` (only additions to existing tolerations),"
        "`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously "
        "negative)\n"
    )
    assert "Never" in errors[0]


def test_tolerations_may_not_go() -> None:
    pod = make_pod({"tolerations": [{"key": "a", "operator": "Exists"}]})
    errors = texts(validate_pod_update(change(pod, tolerations=[]), pod))
    assert errors == [
        "spec.tolerations: Forbidden: existing toleration can not be modified except its "
        "tolerationSeconds"
    ]


def test_active_deadline_may_only_shrink() -> None:
    pod = make_pod({"activeDeadlineSeconds": 5})
    errors = texts(validate_pod_update(change(pod, activeDeadlineSeconds=6), pod))
    assert errors == [
        "spec.activeDeadlineSeconds: Invalid value: 6: must be less than or equal to previous value"
    ]


def test_status_may_not_move_a_node() -> None:
    pod = make_pod({"nodeName": "a"})
    errors = texts(validate_pod_status_update(change(pod, nodeName="b"), pod))
    assert errors == ["status.nodeName: Forbidden: may not be changed directly"]


def test_a_finished_container_may_not_run_again() -> None:
    pod = make_pod({"restartPolicy": "Never"})
    done = {"terminated": {"exitCode": 0}}
    pod["status"] = {"containerStatuses": [{"name": "c", "state": done}]}
    new = copy.deepcopy(pod)
    new["status"]["containerStatuses"][0]["state"] = {"running": {}}
    assert texts(validate_pod_status_update(new, pod)) == [
        "status.containerStatuses[0].state: Forbidden: may not be transitioned to non-terminated "
        "state"
    ]


def test_ephemeral_containers_may_only_be_added() -> None:
    pod = make_pod()
    debug = {
        "name": "e",
        "image": "x",
        "imagePullPolicy": "Always",
        "terminationMessagePolicy": "File",
    }
    new = change(pod, ephemeralContainers=[debug])
    assert texts(validate_ephemeral_containers_update(new, pod)) == []
    assert validate_ephemeral_containers_update(pod, new)
    other = change(pod, ephemeralContainers=[{**debug, "image": "y"}])
    assert texts(validate_ephemeral_containers_update(other, new))[0].startswith(
        'spec.ephemeralContainers: Forbidden: existing ephemeral containers "e" may not be changed'
    )


def test_resize_changes_cpu_and_memory_only() -> None:
    pod = make_pod(None, resources={"requests": {"cpu": "1"}})
    new = copy.deepcopy(pod)
    new["spec"]["containers"][0]["resources"]["requests"]["cpu"] = "2"
    assert texts(validate_pod_resize(new, pod)) == []
    new["spec"]["containers"][0]["image"] = "other"
    assert texts(validate_pod_resize(new, pod))[0].startswith(
        "spec: Forbidden: only cpu and memory resources are mutable"
    )


def test_resize_may_not_change_the_qos_class() -> None:
    pod = make_pod(None, resources={"requests": {"cpu": "1"}})
    new = copy.deepcopy(pod)
    new["spec"]["containers"][0]["resources"] = {}
    errors = texts(validate_pod_resize(new, pod))
    assert any("Pod QOS Class may not change as a result of resizing" in e for e in errors), errors


def test_binding_needs_a_node() -> None:
    assert texts(validate_binding({"metadata": {"name": "web"}, "target": {"kind": "Node"}})) == [
        "target.name: Required value"
    ]
    assert texts(validate_binding({"target": {"kind": "Pod", "name": "x"}})) == [
        'target.kind: Unsupported value: "Pod": supported values: "Node", "<empty>"'
    ]
