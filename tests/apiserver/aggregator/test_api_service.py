"""Conditions of APIServices, as remote_available_controller_test.go has them."""

from __future__ import annotations

from typing import Any

import pytest

from pilothouse.apiserver.aggregator.api_service import (
    PASSED,
    ServiceReference,
    Verdict,
    addresses,
    endpoints_problem,
    is_available,
    with_verdict,
)

REFERENCE = ServiceReference("foo", "bar", 443)
NOW = "2026-01-01T00:00:00Z"


def service(port: int = 443, name: str = "https", type_: str = "ClusterIP") -> dict[str, Any]:
    return {"spec": {"type": type_, "ports": [{"port": port, "name": name}]}}


def endpoints(name: str = "https", ready: bool | None = True) -> dict[str, Any]:
    return {
        "ports": [{"name": name, "port": 8443}],
        "endpoints": [{"addresses": ["10.0.0.1"], "conditions": {"ready": ready}}],
    }


@pytest.mark.parametrize(
    ("found", "slices", "reason", "message"),
    [
        (None, [], "ServiceNotFound", 'service/bar in "foo" is not present'),
        (
            service(port=80), [endpoints()], "ServicePortError",
            'service/bar in "foo" is not listening on port 443',
        ),
        (
            service(), [], "EndpointsNotFound",
            'cannot find endpointslices for service/bar in "foo"',
        ),
        (
            service(), [endpoints(ready=False)], "MissingEndpoints",
            'endpointslices for service/bar in "foo" have no addresses with port name "https"',
        ),
        (
            service(), [endpoints(name="other")], "MissingEndpoints",
            'endpointslices for service/bar in "foo" have no addresses with port name "https"',
        ),
        (service(), [endpoints(name="other"), endpoints()], "", ""),
        (service(), [endpoints(ready=None)], "", ""),
        (service(type_="ExternalName"), [], "", ""),
    ],
)  # fmt: skip
def test_what_objects_say(found: Any, slices: Any, reason: str, message: str) -> None:
    verdict = endpoints_problem(REFERENCE, found, slices)
    assert verdict == (Verdict("False", reason, message) if reason else None)


def test_addresses_are_those_of_ready_endpoints_at_the_port() -> None:
    slices = [endpoints(), endpoints(ready=False), endpoints(name="other")]
    assert addresses(service(), slices, 443) == [("10.0.0.1", 8443)]
    assert addresses(service(), slices, 80) == []


def test_a_condition_keeps_its_time_until_the_status_changes() -> None:
    first = with_verdict({"spec": {}}, PASSED, NOW)
    assert first is not None and is_available(first)
    assert with_verdict(first, PASSED, "2027-01-01T00:00:00Z") is None
    failed = with_verdict(first, Verdict("False", "X", "y"), "2027-01-01T00:00:00Z")
    assert failed is not None and not is_available(failed)
    assert failed["status"]["conditions"][0]["lastTransitionTime"] == "2027-01-01T00:00:00Z"
    again = with_verdict(failed, Verdict("False", "Z", "y"), "2028-01-01T00:00:00Z")
    assert again is not None
    assert again["status"]["conditions"][0]["lastTransitionTime"] == "2027-01-01T00:00:00Z"
    assert first["status"]["conditions"][0]["reason"] == "Passed"
