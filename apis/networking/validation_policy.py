"""NetworkPolicies."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pilothouse.apimachinery import names
from pilothouse.apis.meta import validation as check
from pilothouse.apis.meta.errors import add_all, forbidden, invalid, not_supported, required

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pilothouse.apimachinery.fieldpath import ErrorList
    from pilothouse.apimachinery.object import Obj

_PROTOCOLS = ("TCP", "UDP", "SCTP")
_TYPES = ("Ingress", "Egress")


def validate_network_policy(policy: Obj, old: Obj | None = None) -> ErrorList:
    errors: ErrorList = []
    spec, before = policy.get("spec") or {}, (old or {}).get("spec") or {}
    allow = check.selector_has_invalid_values(before.get("podSelector"))
    known = [cidr for _, block in _blocks(before) for cidr in _cidrs(block)]
    selector = spec.get("podSelector")
    check.label_selector(errors, selector, "spec.podSelector", allow_invalid_values=allow)
    for field, peers in (("ingress", "from"), ("egress", "to")):
        for i, rule in enumerate(spec.get(field) or ()):
            for j, port in enumerate(rule.get("ports") or ()):
                _port(errors, port, f"spec.{field}[{i}].ports[{j}]")
            for j, peer in enumerate(rule.get(peers) or ()):
                _peer(errors, peer, f"spec.{field}[{i}].{peers}[{j}]", known, allow)
    types = spec.get("policyTypes") or ()
    if len(types) > len(_TYPES):
        message = "may not specify more than two policyTypes"
        errors.append(invalid("spec.policyTypes", types, message))
        return errors
    for i, kind in enumerate(types):
        if kind not in _TYPES:
            errors.append(not_supported(f"spec.policyTypes[{i}]", kind, _TYPES))
    return errors


def _port(errors: ErrorList, port: Obj, path: str) -> None:
    protocol = port.get("protocol")
    if protocol is not None and protocol not in _PROTOCOLS:
        errors.append(not_supported(f"{path}.protocol", protocol, _PROTOCOLS))
    number, end = port.get("port"), port.get("endPort")
    if number is None:
        if end is not None:
            message = "may not be specified when `port` is not specified"
            errors.append(invalid(f"{path}.endPort", end, message))
    elif isinstance(number, int):
        check.port_number(errors, number, f"{path}.port")
        if end is not None:
            if end < number:
                message = "must be greater than or equal to `port`"
                errors.append(invalid(f"{path}.endPort", end, message))
            check.port_number(errors, end, f"{path}.endPort")
    else:
        if end is not None:
            message = "may not be specified when `port` is non-numeric"
            errors.append(invalid(f"{path}.endPort", end, message))
        add_all(errors, f"{path}.port", number, names.is_valid_port_name(number))


def _peer(errors: ErrorList, peer: Obj, path: str, known: Sequence[str], allow: bool) -> None:
    selectors = [field for field in ("podSelector", "namespaceSelector") if field in peer]
    for field in selectors:
        check.label_selector(errors, peer[field], f"{path}.{field}", allow_invalid_values=allow)
    block = peer.get("ipBlock")
    if block is not None:
        _block(errors, block, f"{path}.ipBlock", known)
        if selectors:
            message = "may not specify both ipBlock and another peer"
            errors.append(forbidden(path, message))
    elif not selectors:
        errors.append(required(path, "must specify a peer"))


def _block(errors: ErrorList, block: Obj, path: str, known: Sequence[str]) -> None:
    cidr = block.get("cidr") or ""
    if not cidr:
        errors.append(required(f"{path}.cidr"))
        return
    check.cidr_for_legacy_field(errors, cidr, f"{path}.cidr", known)
    parsed = check.parse_cidr_sloppy(cidr)
    if parsed is None:
        return
    for i, text in enumerate(block.get("except") or ()):
        at = f"{path}.except[{i}]"
        check.cidr_for_legacy_field(errors, text, at, known)
        part = check.parse_cidr_sloppy(text)
        if part is None:
            continue
        whole, network = parsed[1], part[1]
        if whole.prefixlen >= network.prefixlen or network.network_address not in whole:
            errors.append(invalid(at, text, "must be a strict subset of `cidr`"))


def _blocks(spec: Obj) -> Iterator[tuple[str, Obj]]:
    for field, peers in (("ingress", "from"), ("egress", "to")):
        for i, rule in enumerate(spec.get(field) or ()):
            for j, peer in enumerate(rule.get(peers) or ()):
                if peer.get("ipBlock") is not None:
                    yield f"spec.{field}[{i}].{peers}[{j}].ipBlock", peer["ipBlock"]


def _cidrs(block: Obj) -> list[str]:
    return [block.get("cidr") or "", *(block.get("except") or ())]


def network_policy_warnings(policy: Obj) -> list[str]:
    warnings = []
    for path, block in _blocks(policy.get("spec") or {}):
        warnings += check.cidr_warnings(f"{path}.cidr", block.get("cidr") or "")
        for i, text in enumerate(block.get("except") or ()):
            warnings += check.cidr_warnings(f"{path}.except[{i}]", text)
    return warnings
