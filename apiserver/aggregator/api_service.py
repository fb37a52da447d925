"""What an APIService says: its group version, its service, its condition. Pure.

``endpoints_problem`` is the part of upstream's remote availability controller that needs no
network: whether the Service and its EndpointSlices are such that a request could get through.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pilothouse.apimachinery.object import copy_object
from pilothouse.apimachinery.schema import GroupVersionResource

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pilothouse.apimachinery.object import Obj

API_SERVICES = GroupVersionResource("apiregistration.k8s.io", "v1", "apiservices")
AVAILABLE = "Available"
DEFAULT_PORT = 443
SERVICE_NAME_LABEL = "kubernetes.io/service-name"


@dataclass(frozen=True, slots=True)
class ServiceReference:
    namespace: str
    name: str
    port: int

    @property
    def host(self) -> str:
        """The name in the extension server's certificate."""
        return f"{self.name}.{self.namespace}.svc"

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}:{self.port}"


def group_version(api_service: Obj) -> tuple[str, str]:
    spec = api_service["spec"]
    return spec.get("group") or "", spec["version"]


def service_reference(api_service: Obj) -> ServiceReference | None:
    """None: the group version is served by this server."""
    service = api_service["spec"].get("service")
    if service is None:
        return None
    port = int(service.get("port") or DEFAULT_PORT)
    return ServiceReference(service.get("namespace") or "", service.get("name") or "", port)


def find_condition(api_service: Obj, type_: str = AVAILABLE) -> Obj | None:
    for condition in (api_service.get("status") or {}).get("conditions") or ():
        if condition["type"] == type_:
            found: Obj = condition
            return found
    return None


def is_available(api_service: Obj) -> bool:
    condition = find_condition(api_service)
    return condition is not None and condition["status"] == "True"


@dataclass(frozen=True, slots=True)
class Verdict:
    """The condition Available as it should be."""

    status: str
    reason: str
    message: str


LOCAL = Verdict("True", "Local", "Local APIServices are always available")
PASSED = Verdict("True", "Passed", "all checks passed")


def with_verdict(api_service: Obj, verdict: Verdict, now: str) -> Obj | None:
    """A copy whose condition Available is ``verdict``; None when it says so already."""
    old = find_condition(api_service)
    if old is not None and (old["status"], old.get("reason"), old.get("message")) == (
        verdict.status,
        verdict.reason,
        verdict.message,
    ):
        return None
    changed: Obj = copy_object(api_service)
    status = changed.setdefault("status", {}) or {}
    changed["status"] = status
    conditions = status.get("conditions")
    if conditions is None:
        conditions = status["conditions"] = []
    since = now if old is None or old["status"] != verdict.status else old["lastTransitionTime"]
    new = {
        "type": AVAILABLE,
        "status": verdict.status,
        "lastTransitionTime": since,
        "reason": verdict.reason,
        "message": verdict.message,
    }
    for position, condition in enumerate(conditions):
        if condition["type"] == AVAILABLE:
            conditions[position] = new
            return changed
    conditions.append(new)
    return changed


def endpoints_problem(
    reference: ServiceReference, service: Obj | None, slices: Iterable[Obj]
) -> Verdict | None:
    """Why requests can't get through, as far as objects tell; None when they may."""
    what = f'service/{reference.name} in "{reference.namespace}"'
    if service is None:
        return Verdict("False", "ServiceNotFound", f"{what} is not present")
    spec = service["spec"]
    if (spec.get("type") or "ClusterIP") != "ClusterIP":
        return None
    port = find_port(service, reference.port)
    if port is None:
        text = f"{what} is not listening on port {reference.port}"
        return Verdict("False", "ServicePortError", text)
    found = list(slices)
    if not found:
        text = f"cannot find endpointslices for {what}"
        return Verdict("False", "EndpointsNotFound", text)
    name = port.get("name") or ""
    if not any(_has_endpoint(each, name) for each in found):
        text = f'endpointslices for {what} have no addresses with port name "{name}"'
        return Verdict("False", "MissingEndpoints", text)
    return None


def find_port(service: Obj, number: int) -> Obj | None:
    for port in service["spec"].get("ports") or ():
        if port.get("port") == number:
            found: Obj = port
            return found
    return None


def _has_endpoint(endpoint_slice: Obj, port_name: str) -> bool:
    return any(map(_is_ready, endpoint_slice.get("endpoints") or ())) and any(
        (port.get("name") or "") == port_name and port.get("port")
        for port in endpoint_slice.get("ports") or ()
    )


def _is_ready(endpoint: Any) -> bool:
    return (endpoint.get("conditions") or {}).get("ready") is not False


def addresses(service: Obj, slices: Iterable[Obj], number: int) -> list[tuple[str, int]]:
    """Where the Service's port ``number`` can be reached: its ready endpoints."""
    port = find_port(service, number)
    if port is None:
        return []
    name = port.get("name") or ""
    return [
        (address, int(entry["port"]))
        for each in slices
        for entry in each.get("ports") or ()
        if (entry.get("name") or "") == name and entry.get("port")
        for endpoint in each.get("endpoints") or ()
        if _is_ready(endpoint)
        for address in (endpoint.get("addresses") or ())[:1]
    ]
