"""Defaults of device requests (resource.k8s.io/v1)."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pilothouse.apimachinery.object import Obj


def set_claim_spec_defaults(spec: Obj) -> None:
    for request in (spec.get("devices") or {}).get("requests") or ():
        if request.get("exactly") is not None:
            _request(request["exactly"])
        for sub_request in request.get("firstAvailable") or ():
            _request(sub_request)


def _request(request: Obj) -> None:
    if not request.get("allocationMode"):
        request["allocationMode"] = "ExactCount"
    if request["allocationMode"] == "ExactCount" and not request.get("count"):
        request["count"] = 1
