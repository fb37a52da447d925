"""Deployments, ReplicaSets, StatefulSets and DaemonSets."""

from __future__ import annotations

from typing import Any

import pytest

from pilothouse.apis.apps.defaults import (
    set_daemon_set_defaults,
    set_deployment_defaults,
    set_stateful_set_defaults,
)
from pilothouse.apis.apps.validation import (
    validate_deployment,
    validate_deployment_status_update,
    validate_deployment_update,
    validate_replica_set_status_update,
)
from pilothouse.apis.apps.validation_sets import (
    validate_daemon_set,
    validate_stateful_set,
    validate_stateful_set_update,
)

Obj = dict[str, Any]


def workload(**spec: Any) -> Obj:
    template = {
        "metadata": {"labels": {"app": "web"}},
        "spec": {"containers": [{"name": "c", "image": "x"}]},
    }
    base = {"selector": {"matchLabels": {"app": "web"}}, "template": template}
    return {"metadata": {"name": "web", "namespace": "d"}, "spec": {**base, **spec}}


def deployment(**spec: Any) -> Obj:
    found = workload(**spec)
    set_deployment_defaults(found)
    return found


def texts(errors: list[Any]) -> list[str]:
    return [str(error) for error in errors]


def test_defaults() -> None:
    spec = deployment()["spec"]
    assert spec["replicas"] == 1
    assert spec["strategy"] == {
        "type": "RollingUpdate",
        "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": "25%"},
    }
    assert (spec["revisionHistoryLimit"], spec["progressDeadlineSeconds"]) == (10, 600)


DEPLOYMENTS: list[tuple[Obj, str]] = [
    ({"replicas": -1}, "spec.replicas: Invalid value: -1: must be greater than or equal to 0"),
    ({"selector": None}, "spec.selector: Required value"),
    (
        {"selector": {}},
        "spec.selector: Invalid value: {}: empty selector is invalid for deployment",
    ),
    (
        {"selector": {"matchLabels": {"app": "other"}}},
        'spec.template.metadata.labels: Invalid value: {"app":"web"}: `selector` does not match '
        "template `labels`",
    ),
    (
        {
            "strategy": {
                "type": "RollingUpdate",
                "rollingUpdate": {"maxSurge": 0, "maxUnavailable": 0},
            }
        },
        "spec.strategy.rollingUpdate.maxUnavailable: Invalid value: 0: may not be 0 when "
        "`maxSurge` is 0",
    ),
    (
        {"strategy": {"type": "Recreate", "rollingUpdate": {}}},
        "spec.strategy.rollingUpdate: Forbidden: may not be specified when strategy `type` is "
        "'Recreate'",
    ),
    (
        {"minReadySeconds": 600, "progressDeadlineSeconds": 600},
        "spec.progressDeadlineSeconds: Invalid value: 600: must be greater than minReadySeconds",
    ),
]


@pytest.mark.parametrize(("spec", "expected"), DEPLOYMENTS)
def test_deployments(spec: Obj, expected: str) -> None:
    errors = texts(validate_deployment(deployment(**spec)))
    assert any(error.startswith(expected) for error in errors), errors


def test_a_template_restarts_always() -> None:
    found = deployment()
    found["spec"]["template"]["spec"]["restartPolicy"] = "Never"
    assert texts(validate_deployment(found)) == [
        'spec.template.spec.restartPolicy: Unsupported value: "Never": supported values: "Always"'
    ]


def test_a_selector_may_not_change() -> None:
    old, new = deployment(), deployment()
    new["spec"]["selector"] = {"matchLabels": {"app": "web", "x": "y"}}
    new["spec"]["template"]["metadata"]["labels"] = {"app": "web", "x": "y"}
    assert texts(validate_deployment_update(new, old)) == [
        'spec.selector: Invalid value: {"matchLabels":{"app":"web","x":"y"}}: field is immutable'
    ]


def test_status_counts() -> None:
    status = {"replicas": 1, "readyReplicas": 2}
    assert texts(validate_deployment_status_update({"status": status}, {})) == [
        "status.readyReplicas: Invalid value: 2: cannot be greater than status.replicas"
    ]
    assert (
        texts(validate_replica_set_status_update({"status": {**status, "readyReplicas": 1}})) == []
    )


def test_what_of_a_stateful_set_may_change() -> None:
    old = workload(serviceName="a")
    set_stateful_set_defaults(old)
    assert texts(validate_stateful_set(old)) == []
    new = {**old, "spec": {**old["spec"], "serviceName": "b"}}
    assert texts(validate_stateful_set_update(new, old)) == [
        'spec.serviceName: Invalid value: "b": field is immutable'
    ]
    scaled = {**old, "spec": {**old["spec"], "replicas": 3}}
    assert texts(validate_stateful_set_update(scaled, old)) == []


def test_daemon_sets() -> None:
    found = workload()
    set_daemon_set_defaults(found)
    assert texts(validate_daemon_set(found)) == []
    found["spec"]["updateStrategy"] = {"type": "Other"}
    assert texts(validate_daemon_set(found)) == [
        'spec.updateStrategy: Unsupported value: {"Type":"Other","RollingUpdate":null}: supported '
        'values: "RollingUpdate", "OnDelete"'
    ]
