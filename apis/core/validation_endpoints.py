"""Endpoints, and addresses that may be an endpoint's."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING

from pilothouse.apimachinery import names
from pilothouse.apis.meta import validation as check
from pilothouse.apis.meta.equality import semantic_equal
from pilothouse.apis.meta.errors import add_all, invalid, required

if TYPE_CHECKING:
    from pilothouse.apimachinery.fieldpath import ErrorList
    from pilothouse.apimachinery.object import Obj

_PROTOCOLS = ("SCTP", "TCP", "UDP")


def endpoint_ip(errors: ErrorList, value: str, path: str) -> None:
    """ValidateEndpointIP: not unspecified, loopback or link-local."""
    ip = check.parse_ip_sloppy(value)
    if ip is None:
        errors.append(invalid(path, value, "must be a valid IP address"))
        return
    if isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped is not None:
        ip = ip.ipv4_mapped
    if ip.is_unspecified:
        errors.append(invalid(path, value, f"may not be unspecified ({value})"))
    if ip.is_loopback:
        message = "may not be in the loopback range (127.0.0.0/8, ::1/128)"
        errors.append(invalid(path, value, message))
    if ip.is_link_local:
        message = "may not be in the link-local range (169.254.0.0/16, fe80::/10)"
        errors.append(invalid(path, value, message))
    if _is_link_local_multicast(ip):
        message = "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)"
        errors.append(invalid(path, value, message))


def _is_link_local_multicast(ip: check.IPAddress) -> bool:
    packed = ip.packed
    if ip.version == 4:
        return packed[:3] == b"\xe0\x00\x00"
    return packed[0] == 0xFF and packed[1] & 0x0F == 0x02


def validate_endpoints(endpoints: Obj, old: Obj | None = None) -> ErrorList:
    """Subsets that do not change are let pass."""
    errors: ErrorList = []
    for i, subset in enumerate(endpoints.get("subsets") or ()):
        _subset(errors, subset, f"subsets[{i}]")
    if errors and old is not None and semantic_equal(endpoints.get("subsets"), old.get("subsets")):
        return []
    return errors


def _subset(errors: ErrorList, subset: Obj, path: str) -> None:
    addresses, not_ready = subset.get("addresses") or (), subset.get("notReadyAddresses") or ()
    if not addresses and not not_ready:
        errors.append(required(path, "must specify `addresses` or `notReadyAddresses`"))
    for field, listed in (("addresses", addresses), ("notReadyAddresses", not_ready)):
        for i, address in enumerate(listed):
            _address(errors, address, f"{path}.{field}[{i}]")
    ports = subset.get("ports") or ()
    for i, port in enumerate(ports):
        _port(errors, port, len(ports) > 1, f"{path}.ports[{i}]")


def _address(errors: ErrorList, address: Obj, path: str) -> None:
    ip = address.get("ip") or ""
    check.ip_for_legacy_field(errors, ip, f"{path}.ip")
    if address.get("hostname"):
        check.dns_label(errors, address["hostname"], f"{path}.hostname")
    node = address.get("nodeName")
    if node is not None:
        messages = names.is_dns1123_subdomain(node)
        if messages:
            add_all(errors, f"{path}.nodeName", node, messages)
    endpoint_ip(errors, ip, f"{path}.ip")


def _port(errors: ErrorList, port: Obj, require_name: bool, path: str) -> None:
    if port.get("name"):
        check.dns_label(errors, port["name"], f"{path}.name")
    elif require_name:
        errors.append(required(f"{path}.name"))
    check.port_number(errors, port.get("port") or 0, f"{path}.port")
    if port.get("protocol") not in _PROTOCOLS:
        check.one_of(errors, port.get("protocol"), _PROTOCOLS, f"{path}.protocol")
    if port.get("appProtocol") is not None:
        check.qualified_name(errors, port["appProtocol"], f"{path}.appProtocol")
