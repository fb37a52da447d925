"""Nodes: taints, resources, CIDRs and what may not change."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

from pilothouse.apis.core.validation_resources import quantity_value
from pilothouse.apis.core.validation_scheduling import validate_taints
from pilothouse.apis.meta import validation as check
from pilothouse.apis.meta.errors import NOT_POSITIVE, duplicate, forbidden, invalid

if TYPE_CHECKING:
    from pilothouse.apimachinery.fieldpath import ErrorList
    from pilothouse.apimachinery.object import Obj

TAINTS_ANNOTATION = "scheduler.alpha.kubernetes.io/taints"
_FEATURE = re.compile(r"[A-Z][a-zA-Z0-9]*(/[a-zA-Z0-9]+)*")
_CIDR_FIXED = 'node updates may not change podCIDR except from "" to valid'


def validate_node(node: Obj) -> ErrorList:
    errors: ErrorList = []
    spec, status = node.get("spec") or {}, node.get("status") or {}
    _common(errors, node, spec, status)
    swap = (status.get("nodeInfo") or {}).get("swap") or {}
    if swap.get("capacity") is not None and swap["capacity"] <= 0:
        at = "metadata.nodeSwapStatus.capacity"
        errors.append(invalid(at, swap["capacity"], NOT_POSITIVE))
    cidrs = spec.get("podCIDRs") or ()
    for i, cidr in enumerate(cidrs):
        check.cidr_for_legacy_field(errors, cidr, f"spec.podCIDRs[{i}]")
    if len(cidrs) > 2 or (len(cidrs) > 1 and not check.is_dual_stack(cidrs)):
        message = "may specify no more than one CIDR for each IP family"
        errors.append(invalid("spec.podCIDRs", cidrs, message))
    return errors


def _common(errors: ErrorList, node: Obj, spec: Obj, status: Obj) -> None:
    text = ((node.get("metadata") or {}).get("annotations") or {}).get(TAINTS_ANNOTATION)
    if text:
        _annotated_taints(errors, text)
    if spec.get("taints"):
        validate_taints(errors, spec["taints"], "metadata.taints")
    for field in ("capacity", "allocatable"):
        for name, quantity in (status.get(field) or {}).items():
            quantity_value(errors, name, quantity, f"status.{field}.{name}")
    features = status.get("declaredFeatures")
    if features:
        _declared_features(errors, features)


def _annotated_taints(errors: ErrorList, text: str) -> None:
    try:
        taints = json.loads(text)
    except ValueError as error:
        errors.append(invalid("metadata.annotations", TAINTS_ANNOTATION, str(error)))
        return
    if isinstance(taints, list):
        path = f"metadata.annotations.{TAINTS_ANNOTATION}"
        validate_taints(errors, [t for t in taints if isinstance(t, dict)], path)


def _declared_features(errors: ErrorList, features: list[str]) -> None:
    for i, name in enumerate(features):
        at = f"status.declaredFeatures[{i}]"
        if len(name) > 253:
            message = f'invalid feature name "{name}": must be no more than 253 characters'
            errors.append(invalid(at, name, message))
        elif not _FEATURE.fullmatch(name):
            message = (
                f'invalid feature name "{name}": must start with an UpperCamelCase segment, with '
                "subsequent segments separated by '/' (e.g., MyFeature or MyFeature/mySubFeature), "
                "and contain only alphanumeric characters and slashes"
            )
            errors.append(invalid(at, name, message))
        if i and features[i - 1] == name:
            errors.append(duplicate(at, name))
        elif i and features[i - 1] > name:
            errors.append(invalid(at, name, "list must be sorted alphabetically"))


def validate_node_update(node: Obj, old: Obj) -> ErrorList:
    """ValidateNodeUpdate; for the main resource :func:`validate_node` comes first."""
    errors: ErrorList = []
    spec, status = node.get("spec") or {}, node.get("status") or {}
    old_spec = old.get("spec") or {}
    _common(errors, node, spec, status)
    seen: set[tuple[str, str]] = set()
    for i, address in enumerate(status.get("addresses") or ()):
        key = (address.get("type") or "", address.get("address") or "")
        if key in seen:
            shown = {"Type": key[0], "Address": key[1]}
            errors.append(duplicate(f"status.addresses[{i}]", shown))
        seen.add(key)
    _fixed_fields(errors, spec, old_spec)
    if spec.get("configSource") is not None:
        _config_source(errors, spec["configSource"])
    return errors


def _fixed_fields(errors: ErrorList, spec: Obj, old: Obj) -> None:
    cidrs, old_cidrs = spec.get("podCIDRs") or [], old.get("podCIDRs") or []
    if old_cidrs:
        if len(cidrs) != len(old_cidrs):
            errors.append(forbidden("spec.podCIDRs", _CIDR_FIXED))
        else:
            errors.extend(
                forbidden("spec.podCIDRs", _CIDR_FIXED)
                for new, before in zip(cidrs, old_cidrs, strict=True)
                if new != before
            )
    provider, old_provider = spec.get("providerID") or "", old.get("providerID") or ""
    if old_provider and provider != old_provider:
        message = f"field cannot be {'modified' if provider else 'cleared'} once set"
        errors.append(invalid("spec.providerID", None, message))
    if (spec.get("externalID") or "") != (old.get("externalID") or ""):
        errors.append(forbidden("spec.externalID", "may not be updated"))


def _config_source(errors: ErrorList, source: Obj) -> None:
    if source.get("configMap") is None:
        message = "exactly one reference subfield must be non-nil"
        errors.append(invalid("spec.configSource", source, message))


def node_warnings(node: Obj) -> list[str]:
    spec = node.get("spec") or {}
    warnings = []
    if spec.get("configSource") is not None:
        warnings.append("spec.configSource: the feature is removed")
    if spec.get("externalID"):
        warnings.append("spec.externalID: this field is deprecated, and is unused by Kubernetes")
    for i, cidr in enumerate(spec.get("podCIDRs") or ()):
        warnings.extend(check.cidr_warnings(f"spec.podCIDRs[{i}]", cidr))
    return warnings
