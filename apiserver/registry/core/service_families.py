"""IP families of a Service: what is left open is filled in (initIPFamilyFields)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pilothouse.apimachinery.errors import new_invalid
from pilothouse.apimachinery.object import name_of
from pilothouse.apimachinery.schema import GroupKind
from pilothouse.apis.core.validation_service_ips import family_of, validate_cluster_ips
from pilothouse.apis.meta.errors import invalid

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pilothouse.apimachinery.fieldpath import ErrorList
    from pilothouse.apimachinery.object import Obj

_SERVICE = GroupKind("", "Service")
_SINGLE, _REQUIRE, _PREFER = "SingleStack", "RequireDualStack", "PreferDualStack"
_POLICY = "spec.ipFamilyPolicy"


def init_ip_families(service: Obj, old: Obj | None, configured: Sequence[str]) -> None:
    """``configured``: the cluster's families, the default first. :raises StatusError: 422."""
    spec, old_spec = service["spec"], None if old is None else old.get("spec") or {}
    if spec.get("type") == "ExternalName":
        return
    if old_spec is not None and _keeps_preferred(spec, old_spec):
        return
    selectorless = spec.get("clusterIP") == "None" and not spec.get("selector")
    if spec.get("ipFamilyPolicy") is None:
        before = (old_spec or {}).get("ipFamilyPolicy")
        spec["ipFamilyPolicy"] = before or (_REQUIRE if selectorless else _SINGLE)
    errors: ErrorList = []
    validate_cluster_ips(errors, spec, old_spec)
    _refuse(service, errors)
    if old_spec is not None:
        _shrink(errors, spec, old_spec)
    _families_of_addresses(errors, spec, configured)
    _refuse(service, errors)
    families = list(spec.get("ipFamilies") or [])
    if selectorless:
        families = families or [configured[0]]
        if len(families) < 2 and spec["ipFamilyPolicy"] != _SINGLE:
            families.append(_other(families[0]))
        spec["ipFamilies"] = families
        return
    _check_configured(errors, spec, families, configured)
    _refuse(service, errors)
    families = families or [configured[0]]
    if spec["ipFamilyPolicy"] != _SINGLE and len(families) == 1 and len(configured) == 2:
        families.append(_other(families[0]))
    spec["ipFamilies"] = families


def _refuse(service: Obj, errors: ErrorList) -> None:
    if errors:
        raise new_invalid(_SERVICE, name_of(service), errors)


def _other(family: str) -> str:
    return "IPv6" if family == "IPv4" else "IPv4"


def _keeps_preferred(spec: Obj, old: Obj) -> bool:
    """isMatchingPreferDualStackClusterIPFields: nothing about addresses changes."""
    return (
        spec.get("type") == old.get("type")
        and spec.get("ipFamilyPolicy") == _PREFER
        and old.get("ipFamilyPolicy") in (None, _PREFER)
        and (spec.get("clusterIPs") or []) == (old.get("clusterIPs") or [])
        and (spec.get("ipFamilies") or []) == (old.get("ipFamilies") or [])
    )


def _shrink(errors: ErrorList, spec: Obj, old: Obj) -> None:
    """To SingleStack: the second address goes. Otherwise it may not."""
    for field, what in (("clusterIPs", "cluster IP"), ("ipFamilies", "IP family")):
        now, before = spec.get(field) or [], old.get(field) or []
        if spec["ipFamilyPolicy"] == _SINGLE:
            if now == before and len(now) > 1:
                spec[field] = now[:1]
        elif now and len(now) < len(before):
            message = f"must be 'SingleStack' to release the secondary {what}"
            errors.append(invalid(_POLICY, spec["ipFamilyPolicy"], message))


def _families_of_addresses(errors: ErrorList, spec: Obj, configured: Sequence[str]) -> None:
    ips, families = spec.get("clusterIPs") or [], list(spec.get("ipFamilies") or [])
    if spec["ipFamilyPolicy"] == _SINGLE:
        for listed, what in ((ips, "cluster IPs"), (families, "IP families")):
            if len(listed) == 2:
                message = (
                    f"must be 'RequireDualStack' or 'PreferDualStack' when multiple {what} are "
                    "specified"
                )
                errors.append(invalid(_POLICY, _SINGLE, message))
    for i, ip in enumerate(ips):
        if ip == "None":
            break
        if i < len(families):
            continue
        family = family_of(ip)
        if family in configured:
            families.append(family)
        else:
            message = f"{family} is not configured on this cluster"
            errors.append(invalid(f"spec.clusterIPs[{i}]", ips, message))
    if families:
        spec["ipFamilies"] = families


def _check_configured(
    errors: ErrorList, spec: Obj, families: list[str], configured: Sequence[str]
) -> None:
    if spec["ipFamilyPolicy"] == _REQUIRE and len(configured) < 2:
        message = "this cluster is not configured for dual-stack services"
        errors.append(invalid(_POLICY, _REQUIRE, message))
    errors.extend(
        invalid(f"spec.ipFamilies[{i}]", family, "not configured on this cluster")
        for i, family in enumerate(families)
        if family not in configured
    )
