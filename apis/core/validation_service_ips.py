"""ClusterIPs and IP families of a Service, and how they may change."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pilothouse.apis.meta import validation as check
from pilothouse.apis.meta.errors import duplicate, invalid, not_supported, required

if TYPE_CHECKING:
    from pilothouse.apimachinery.fieldpath import ErrorList
    from pilothouse.apimachinery.object import Obj

FAMILIES = ("IPv4", "IPv6")
FAMILY_POLICIES = ("PreferDualStack", "RequireDualStack", "SingleStack")
_FIXED = "may not change once set"


def is_headless(spec: Obj) -> bool:
    return (spec.get("clusterIPs") or []) == ["None"]


def family_of(ip: str) -> str:
    return "IPv6" if check.is_ipv6(ip) else "IPv4"


def validate_cluster_ips(errors: ErrorList, spec: Obj, old_spec: Obj | None) -> None:
    """ValidateServiceClusterIPsRelatedFields."""
    if spec.get("type") == "ExternalName":
        return
    ip, ips = spec.get("clusterIP") or "", spec.get("clusterIPs") or []
    if ip:
        if not ips:
            errors.append(required("spec.clusterIPs"))
        elif ips[0] != ip:
            errors.append(invalid("spec.clusterIPs", ips, "first value must match `clusterIP`"))
    elif ips:
        message = "must be empty when `clusterIP` is not specified"
        errors.append(invalid("spec.clusterIPs", ips, message))
    families = spec.get("ipFamilies") or []
    _families(errors, spec, families)
    if not _addresses(errors, ips, (old_spec or {}).get("clusterIPs") or ()):
        return
    if len(ips) > 1 and not check.is_dual_stack(ips):
        message = "may specify no more than one IP for each IP family"
        errors.append(invalid("spec.clusterIPs", ips, message))
    if is_headless(spec):
        return
    for i, (address, family) in enumerate(zip(ips, families, strict=False)):
        if family in FAMILIES and family_of(address) != family:
            message = f"expected an {family} value as indicated by `ipFamilies[{i}]`"
            errors.append(invalid(f"spec.clusterIPs[{i}]", address, message))


def _families(errors: ErrorList, spec: Obj, families: list[str]) -> None:
    seen: set[str] = set()
    for i, family in enumerate(families):
        if family not in FAMILIES:
            errors.append(not_supported(f"spec.ipFamilies[{i}]", family, FAMILIES))
        if family in seen:
            errors.append(duplicate(f"spec.ipFamilies[{i}]", family))
        seen.add(family)
    policy = spec.get("ipFamilyPolicy")
    if policy is not None and policy not in FAMILY_POLICIES:
        errors.append(not_supported("spec.ipFamilyPolicy", policy, FAMILY_POLICIES))


def _addresses(errors: ErrorList, ips: list[str], existing: list[str] | tuple[()]) -> bool:
    """Each address alone; False when one is wrong."""
    good = True
    for i, ip in enumerate(ips):
        if i == 0 and ip == "None":
            if len(ips) > 1:
                good = False
                message = "'None' must be the first and only value"
                errors.append(invalid("spec.clusterIPs", ips, message))
            continue
        if not check.ip_for_legacy_field(errors, ip, f"spec.clusterIPs[{i}]", existing):
            good = False
    if len(ips) > 2:
        errors.append(invalid("spec.clusterIPs", ips, "may only hold up to 2 values"))
    return good


def validate_ip_changes(errors: ErrorList, spec: Obj, old: Obj) -> None:
    """validateUpgradeDowngradeClusterIPs and -IPFamilies."""
    if "ExternalName" in (spec.get("type"), old.get("type")):
        return
    headless, was_headless = is_headless(spec), is_headless(old)
    if not (headless and was_headless):
        _cluster_ip_changes(errors, spec, old)
    if not headless and not was_headless:
        _family_changes(errors, spec, old)


def _cluster_ip_changes(errors: ErrorList, spec: Obj, old: Obj) -> None:
    ips, before = spec.get("clusterIPs") or [], old.get("clusterIPs") or []
    if len(before) == len(ips):
        for i, ip in enumerate(before):
            if ip != ips[i]:
                errors.append(invalid(f"spec.clusterIPs[{i}]", ips, _FIXED))
    elif not ips:
        message = "primary clusterIP can not be unset"
        errors.append(invalid("spec.clusterIPs[0]", ips, message))
    elif before and ips[0] != before[0]:
        errors.append(invalid("spec.clusterIPs[0]", ips, _FIXED))
    if len(before) > len(ips) == 1 and spec.get("ipFamilyPolicy") != "SingleStack":
        message = "must be set to 'SingleStack' when releasing the secondary clusterIP"
        errors.append(invalid("spec.ipFamilyPolicy", spec.get("ipFamilyPolicy"), message))


def _family_changes(errors: ErrorList, spec: Obj, old: Obj) -> None:
    families, before = spec.get("ipFamilies") or [], old.get("ipFamilies") or []
    path = "spec.ipFamilies[0]"
    if len(before) == len(families):
        errors.extend(
            invalid(path, families, _FIXED)
            for had, has in zip(before, families, strict=True)
            if had != has
        )
        return
    if len(before) > len(families) and not spec.get("clusterIPs"):
        errors.append(invalid(path, families, "primary ipFamily can not be unset"))
    if before and families and families[0] != before[0]:
        errors.append(invalid(path, spec.get("clusterIPs") or [], _FIXED))
    if len(before) > len(families) == 1 and spec.get("ipFamilyPolicy") != "SingleStack":
        message = "must be set to 'SingleStack' when releasing the secondary ipFamily"
        errors.append(invalid("spec.ipFamilyPolicy", spec.get("ipFamilyPolicy"), message))
