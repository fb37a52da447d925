"""Fields behind alpha feature gates: dropped from what is new, kept where they are in use."""

from __future__ import annotations

from typing import Any

import pytest

from pilothouse.apis.core.disabled_fields import POD_SPECS, drop_disabled_fields


def spec() -> dict[str, Any]:
    return {
        "schedulingGroup": {"podGroupName": "g"},
        "evictionResponders": [{"name": "r"}],
        "containers": [
            {
                "name": "c",
                "volumeMounts": [{"name": "v", "bindMountOptions": ["noexec"]}],
                "livenessProbe": {"grpc": {"port": 1, "mode": "TLS"}},
                "lifecycle": {"preStop": {"httpGet": {"port": 1, "protocol": "H2C"}}},
            }
        ],
        "volumes": [
            {"name": "v", "emptyDir": {"mode": 7}},
            {"name": "w", "secret": {"defaultUser": 1, "items": [{"key": "k", "user": 2}]}},
            {"name": "x", "projected": {"sources": [{"serviceAccountToken": {"user": 3}}]}},
        ],
    }


LEFT = {
    "containers": [
        {
            "name": "c",
            "volumeMounts": [{"name": "v"}],
            "livenessProbe": {"grpc": {"port": 1}},
            "lifecycle": {"preStop": {"httpGet": {"port": 1}}},
        }
    ],
    "volumes": [
        {"name": "v", "emptyDir": {}},
        {"name": "w", "secret": {"items": [{"key": "k"}]}},
        {"name": "x", "projected": {"sources": [{"serviceAccountToken": {}}]}},
    ],
}


@pytest.mark.parametrize("kind", POD_SPECS)
def test_all_are_dropped_of_something_new(kind: str) -> None:
    obj: dict[str, Any] = {}
    at = obj
    for key in POD_SPECS[kind][:-1]:
        at = at.setdefault(key, {})
    at["spec"] = spec()
    drop_disabled_fields(kind, obj)
    assert at["spec"] == LEFT


def test_what_is_in_use_stays() -> None:
    obj = {"spec": spec()}
    drop_disabled_fields("Pod", obj, {"spec": spec()})
    assert obj["spec"] == spec()
    drop_disabled_fields("Pod", obj, {"spec": {"evictionResponders": [{"name": "r"}]}})
    assert obj["spec"] == {**LEFT, "evictionResponders": [{"name": "r"}]}


def test_other_kinds_are_left_alone() -> None:
    obj = {"spec": spec()}
    drop_disabled_fields("Widget", obj)
    assert obj["spec"] == spec()
