"""ServiceCIDRs and IPAddresses."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pilothouse.apimachinery import names
from pilothouse.apis.meta import validation as check
from pilothouse.apis.meta.equality import semantic_equal
from pilothouse.apis.meta.errors import IMMUTABLE, add_all, invalid, required

if TYPE_CHECKING:
    from pilothouse.apimachinery.fieldpath import ErrorList
    from pilothouse.apimachinery.object import Obj


def ip_address_name_messages(name: str) -> list[str]:
    errors: ErrorList = []
    check.ip_strict(errors, name, "")
    return [error.detail for error in errors]


def validate_ip_address(address: Obj) -> ErrorList:
    errors: ErrorList = []
    parent = (address.get("spec") or {}).get("parentRef")
    if parent is None:
        errors.append(required("spec.parentRef"))
        return errors
    path = "spec.parentRef"
    if parent.get("group"):
        check.dns_subdomain(errors, parent["group"], f"{path}.group")
    for field in ("resource", "name"):
        if not parent.get(field):
            errors.append(required(f"{path}.{field}"))
    for field in ("resource", "name", "namespace"):
        value = parent.get(field) or ""
        if value:
            add_all(errors, f"{path}.{field}", value, names.is_path_segment_name(value))
    return errors


def validate_ip_address_update(address: Obj, old: Obj) -> ErrorList:
    errors = validate_ip_address(address)
    new, before = (address.get("spec") or {}), (old.get("spec") or {})
    if not semantic_equal(new.get("parentRef"), before.get("parentRef")):
        errors.append(invalid("spec.parentRef", new.get("parentRef"), IMMUTABLE))
    return errors


def validate_service_cidr(service_cidr: Obj) -> ErrorList:
    errors: ErrorList = []
    cidrs = (service_cidr.get("spec") or {}).get("cidrs") or []
    path = "spec.cidrs"
    if not cidrs:
        errors.append(required(path, "at least one CIDR required"))
        return errors
    if len(cidrs) > 2:
        errors.append(invalid(path, {"cidrs": cidrs}, "may only hold up to 2 values"))
        return errors
    for i, cidr in enumerate(cidrs):
        check.cidr_strict(errors, cidr, f"{path}[{i}]")
    parsed = [check.parse_cidr_sloppy(cidr) for cidr in cidrs]
    versions = [found[0].version for found in parsed if found is not None]
    if len(versions) == 2 and versions[0] == versions[1]:
        message = (
            "may specify no more than one IP for each IP family, i.e 192.168.0.0/24 and "
            "2001:db8::/64"
        )
        errors.append(invalid(path, cidrs, message))
    return errors


def validate_service_cidr_update(service_cidr: Obj, old: Obj) -> ErrorList:
    """A single-stack ServiceCIDR may become dual-stack, no more."""
    errors: ErrorList = []
    new = (service_cidr.get("spec") or {}).get("cidrs") or []
    before = (old.get("spec") or {}).get("cidrs") or []
    if len(new) == len(before):
        for i, (cidr, known) in enumerate(zip(new, before, strict=True)):
            check.immutable(errors, cidr, known, f"spec.cidrs[{i}]")
    elif len(before) == 1 and len(new) == 2:
        check.immutable(errors, new[0], before[0], "spec.cidrs[0]")
        errors += validate_service_cidr(service_cidr)
    else:
        errors.append(invalid("spec.cidrs", new, IMMUTABLE))
    return errors
