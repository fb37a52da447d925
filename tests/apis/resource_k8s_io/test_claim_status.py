"""What a ResourceClaim's status may say, which expressions choose devices, admin access."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from pilothouse.apis.resource_k8s_io.selectors import validate_selectors
from pilothouse.apis.resource_k8s_io.validation import validate_claim, validate_device_class
from pilothouse.apis.resource_k8s_io.validation_claim_status import validate_claim_status
from pilothouse.apiserver.registry.resource import admin_access

USER = {"resource": "pods", "name": "p", "uid": "u"}
RESULT = {"request": "r", "driver": "a.b", "pool": "p", "device": "d"}
ALLOCATION: dict[str, Any] = {"devices": {"results": [RESULT]}}


def claim(status: dict[str, Any], **metadata: str) -> dict[str, Any]:
    requests = [{"name": "r", "exactly": {"deviceClassName": "c", "allocationMode": "All"}}]
    return {
        "metadata": {"name": "c", "namespace": "n", **metadata},
        "spec": {"devices": {"requests": requests}},
        "status": status,
    }


def told(status: dict[str, Any], before: dict[str, Any] | None = None, **metadata: str) -> str:
    errors = validate_claim_status(claim(status, **metadata), claim(before or {}))
    return "; ".join(str(error) for error in errors)


def test_a_reserved_claim_is_allocated() -> None:
    assert told({"allocation": ALLOCATION, "reservedFor": [USER]}) == ""
    assert "status.reservedFor: Forbidden: may not be specified when" in told(
        {"reservedFor": [USER]}
    )
    assert "status.reservedFor[0].uid: Required value" in told(
        {"allocation": ALLOCATION, "reservedFor": [USER | {"uid": ""}]}
    )
    assert 'status.reservedFor[1]: Duplicate value: "u"' in told(
        {"allocation": ALLOCATION, "reservedFor": [USER, USER]}
    )


def test_a_claim_that_goes_gets_no_new_users() -> None:
    status = {"allocation": ALLOCATION, "reservedFor": [USER]}
    gone = {"deletionTimestamp": "2026-01-01T00:00:00Z"}
    assert "new entries may not be added" in told(status, {"allocation": ALLOCATION}, **gone)
    assert told(status, status, **gone) == ""


def test_an_allocation_stays_and_is_of_the_claims_requests() -> None:
    other = {"devices": {"results": [RESULT | {"device": "e"}]}}
    assert "status.allocation: Invalid value" in told(
        {"allocation": other}, {"allocation": ALLOCATION}
    )
    assert told({}, {"allocation": ALLOCATION}) == "", "it may be taken back"
    bad = {"request": "x", "driver": "", "pool": "", "device": ""}
    text = told({"allocation": {"devices": {"results": [bad], "config": [{"opaque": {}}]}}})
    for part in (
        "results[0].request: Invalid value",
        "results[0].driver: Required value",
        "results[0].pool: Required value",
        "results[0].device: Required value",
        "config[0].source: Required value",
    ):
        assert f"status.allocation.devices.{part}" in text


def test_drivers_tell_about_allocated_devices() -> None:
    device = {"driver": "a.b", "pool": "p", "device": "d"}
    assert told({"allocation": ALLOCATION, "devices": [device]}) == ""
    assert told({"allocation": ALLOCATION, "devices": [device | {"device": "x"}]}) == (
        'status.devices[0]: Invalid value: "a.b/p/x": must be an allocated device in the claim'
    )


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("device.driver == 'x'", ""),
        ("device.attributes['a.b'].c", ""),
        ("1", "must evaluate to bool or the unknown type, not int"),
        ("device.foo", "compilation failed: ERROR: <input>:1:7: undefined field 'foo'"),
        ("x" * 10241, "may not be more than 10240 bytes"),
    ],
)
def test_selectors(expression: str, message: str) -> None:
    errors: list[Any] = []
    validate_selectors(errors, [{"cel": {"expression": expression}}], "s")
    assert len(errors) == bool(message)
    assert all(message in str(error) for error in errors)


def test_stored_selectors_are_not_compiled_again() -> None:
    old = {"spec": {"selectors": [{"cel": {"expression": "nonsense("}}]}}
    assert validate_device_class(old) != []
    assert validate_device_class(old, old) == []
    assert validate_claim(claim({}), claim({})) == []


@pytest.mark.parametrize("label", ["true", "false", None])
def test_admin_access_is_for_labelled_namespaces(label: str | None) -> None:
    labels = {} if label is None else {admin_access.LABEL: label}
    namespace = {"metadata": {"labels": labels}}
    context: Any = SimpleNamespace(listers=SimpleNamespace(get=lambda *_: namespace))
    asking = claim({})
    asking["spec"]["devices"]["requests"][0]["exactly"]["adminAccess"] = True
    granting = claim({"allocation": {"devices": {"results": [RESULT | {"adminAccess": True}]}}})
    for errors in (
        admin_access.of_requests(context, asking, asking["spec"]),
        admin_access.of_results(context, granting, claim({})),
    ):
        assert len(errors) == (label != "true")
    assert admin_access.of_results(context, granting, granting) == []
    assert admin_access.of_requests(context, claim({}), claim({})["spec"]) == []
