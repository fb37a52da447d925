"""EndpointSlices."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pilothouse.apimachinery import names
from pilothouse.apis.core.validation_endpoints import endpoint_ip
from pilothouse.apis.meta import validation as check
from pilothouse.apis.meta.equality import semantic_equal
from pilothouse.apis.meta.errors import add_all, duplicate, invalid, required, too_many

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pilothouse.apimachinery.fieldpath import ErrorList
    from pilothouse.apimachinery.object import Obj

ADDRESS_TYPES = ("FQDN", "IPv4", "IPv6")
_PROTOCOLS = ("SCTP", "TCP", "UDP")
_MAX_ADDRESSES, _MAX_PORTS, _MAX_ENDPOINTS, _MAX_HINTS, _MAX_TOPOLOGY = 100, 20000, 1000, 8, 16


def set_endpoint_slice_defaults(endpoint_slice: Obj) -> None:
    for port in endpoint_slice.get("ports") or ():
        if port.get("name") is None:
            port["name"] = ""
        if port.get("protocol") is None:
            port["protocol"] = "TCP"


def validate_endpoint_slice(endpoint_slice: Obj, old: Obj | None = None) -> ErrorList:
    errors: ErrorList = []
    kind = endpoint_slice.get("addressType") or ""
    check.one_of(errors, kind, ADDRESS_TYPES, "addressType")
    _ports(errors, endpoint_slice.get("ports") or ())
    endpoints = endpoint_slice.get("endpoints") or ()
    endpoint_errors: ErrorList = []
    if len(endpoints) > _MAX_ENDPOINTS:
        endpoint_errors.append(too_many("endpoints", len(endpoints), _MAX_ENDPOINTS))
    else:
        for i, endpoint in enumerate(endpoints):
            _endpoint(endpoint_errors, endpoint, kind, f"endpoints[{i}]")
    if endpoint_errors and (
        old is None or not semantic_equal(endpoint_slice.get("endpoints"), old.get("endpoints"))
    ):
        errors += endpoint_errors
    return errors


def validate_endpoint_slice_update(endpoint_slice: Obj, old: Obj) -> ErrorList:
    errors = validate_endpoint_slice(endpoint_slice, old)
    kind = endpoint_slice.get("addressType")
    check.immutable(errors, kind, old.get("addressType"), "addressType")
    return errors


def _ports(errors: ErrorList, ports: Sequence[Obj]) -> None:
    if len(ports) > _MAX_PORTS:
        errors.append(too_many("ports", len(ports), _MAX_PORTS))
        return
    seen: set[str] = set()
    for i, port in enumerate(ports):
        name = port.get("name") or ""
        if name:
            check.dns_label(errors, name, f"ports[{i}].name")
        if name in seen:
            errors.append(duplicate(f"ports[{i}].name", name))
        seen.add(name)
        if port.get("protocol") not in _PROTOCOLS:
            check.one_of(errors, port.get("protocol"), _PROTOCOLS, f"ports[{i}].protocol")
        if port.get("appProtocol") is not None:
            check.qualified_name(errors, port["appProtocol"], f"ports[{i}].appProtocol")


def _endpoint(errors: ErrorList, endpoint: Obj, kind: str, path: str) -> None:
    addresses = endpoint.get("addresses") or ()
    if not addresses:
        errors.append(required(f"{path}.addresses"))
    elif len(addresses) > _MAX_ADDRESSES:
        errors.append(too_many(f"{path}.addresses", len(addresses), _MAX_ADDRESSES))
    for i, address in enumerate(addresses):
        _address(errors, address, kind, f"{path}.addresses", i)
    node = endpoint.get("nodeName")
    if node is not None:
        messages = names.is_dns1123_subdomain(node)
        if messages:
            add_all(errors, f"{path}.nodeName", node, messages)
    topology = endpoint.get("deprecatedTopology")
    if topology:
        at = f"{path}.deprecatedTopology"
        if len(topology) > _MAX_TOPOLOGY:
            errors.append(too_many(at, len(topology), _MAX_TOPOLOGY))
        check.labels(errors, topology, at)
    if endpoint.get("hostname") is not None:
        check.dns_label(errors, endpoint["hostname"], f"{path}.hostname")
    if endpoint.get("hints"):
        _hints(errors, endpoint["hints"], f"{path}.hints")


def _address(errors: ErrorList, address: str, kind: str, path: str, i: int) -> None:
    at = f"{path}[{i}]"
    if kind == "FQDN":
        _fqdn(errors, address, at)
    elif kind == "IPv4":
        if check.ip_for_legacy_field(errors, address, at):
            if check.is_ipv6(address):
                errors.append(invalid(path, address, "must be an IPv4 address"))
            endpoint_ip(errors, address, at)
    elif kind == "IPv6":
        before = len(errors)
        check.ip_strict(errors, address, at)
        if len(errors) == before:
            if not check.is_ipv6(address):
                errors.append(invalid(path, address, "must be an IPv6 address"))
            endpoint_ip(errors, address, at)


def _fqdn(errors: ErrorList, name: str, path: str) -> None:
    """IsFullyQualifiedDomainName."""
    if not name:
        errors.append(required(path))
        return
    name = name.removesuffix(".")
    messages = names.is_dns1123_subdomain(name)
    if messages:
        add_all(errors, path, name, messages)
    elif "." not in name:
        message = "should be a domain with at least two segments separated by dots"
        errors.append(invalid(path, name, message))


def _hints(errors: ErrorList, hints: Obj, path: str) -> None:
    for field, messages_of in (
        ("forZones", names.is_valid_label_value),
        ("forNodes", names.is_dns1123_subdomain),
    ):
        listed = hints.get(field) or ()
        if len(listed) > _MAX_HINTS:
            errors.append(too_many(f"{path}.{field}", len(listed), _MAX_HINTS))
            return
        seen: set[str] = set()
        for i, hint in enumerate(listed):
            name, at = hint.get("name") or "", f"{path}.{field}[{i}].name"
            if name in seen:
                errors.append(duplicate(at, name))
            seen.add(name)
            add_all(errors, at, name, messages_of(name))
