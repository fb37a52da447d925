"""Checks that every group's validation shares: numbers, names, labels, selectors, addresses."""

from __future__ import annotations

import ipaddress
import re
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from pilothouse.apimachinery import names
from pilothouse.apis.meta.equality import semantic_equal
from pilothouse.apis.meta.errors import (
    IMMUTABLE,
    NOT_NEGATIVE,
    NOT_POSITIVE,
    add_all,
    forbidden,
    invalid,
    not_supported,
    required,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pilothouse.apimachinery.fieldpath import ErrorList
    from pilothouse.apimachinery.object import Obj

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
IPNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network

_SELECTOR_OPERATORS_WITH_VALUES = ("In", "NotIn")
_SELECTOR_OPERATORS_WITHOUT_VALUES = ("Exists", "DoesNotExist")


def nonnegative(errors: ErrorList, obj: Mapping[str, Any], key: str, path: str) -> None:
    """``obj[key]``, if set, must not be negative; ``path`` is the object's."""
    value = obj.get(key)
    if value is not None and value < 0:
        errors.append(invalid(child(path, key), value, NOT_NEGATIVE))


def positive(errors: ErrorList, value: int, path: str) -> None:
    if value <= 0:
        errors.append(invalid(path, value, NOT_POSITIVE))


def child(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key


def immutable(errors: ErrorList, new: Any, old: Any, path: str) -> None:
    if not semantic_equal(new, old):
        errors.append(invalid(path, new, IMMUTABLE))


def one_of(errors: ErrorList, value: Any, valid: Sequence[str], path: str) -> None:
    """Required and one of ``valid`` (a validation-gen enum)."""
    if not value:
        errors.append(required(path))
    elif value not in valid:
        errors.append(not_supported(path, value, valid))


def dns_label(errors: ErrorList, value: str, path: str) -> None:
    messages = names.is_dns1123_label(value)
    if messages:
        add_all(errors, path, value, messages)


def dns_subdomain(errors: ErrorList, value: str, path: str) -> None:
    messages = names.is_dns1123_subdomain(value)
    if messages:
        add_all(errors, path, value, messages)


def qualified_name(errors: ErrorList, value: str, path: str) -> None:
    messages = names.is_qualified_name(value)
    if messages:
        add_all(errors, path, value, messages)


def port_number(errors: ErrorList, value: int, path: str) -> None:
    if not 1 <= value <= 65535:
        add_all(errors, path, value, names.is_valid_port_num(value))


def port_number_or_name(errors: ErrorList, value: Any, path: str) -> None:
    if isinstance(value, str):
        messages = names.is_valid_port_name(value)
        if messages:
            add_all(errors, path, value, messages)
    else:
        port_number(errors, value or 0, path)


def labels(errors: ErrorList, value: Mapping[str, str] | None, path: str) -> None:
    for key, text in (value or {}).items():
        messages = names.is_qualified_name(key)
        if messages:
            add_all(errors, path, key, messages)
        messages = names.is_valid_label_value(text)
        if messages:
            add_all(errors, path, text, messages)


def annotation_map(errors: ErrorList, value: Mapping[str, str] | None, path: str) -> None:
    if not value:
        return
    size = 0
    for key, text in value.items():
        messages = names.is_qualified_name(key.lower())
        if messages:
            add_all(errors, path, key, messages)
        size += len(key) + len(text)
    if size > 262144 or (size > 65536 and _utf8_size(value) > 262144):
        from pilothouse.apis.meta.errors import too_long

        errors.append(too_long(path, 262144))


def _utf8_size(value: Mapping[str, str]) -> int:
    return sum(len(k.encode()) + len(v.encode()) for k, v in value.items())


def label_selector(
    errors: ErrorList, selector: Obj | None, path: str, *, allow_invalid_values: bool = False
) -> None:
    """unversionedvalidation.ValidateLabelSelector."""
    if not selector:
        return
    match_labels = selector.get("matchLabels")
    if match_labels:
        labels(errors, match_labels, f"{path}.matchLabels")
    for i, requirement in enumerate(selector.get("matchExpressions") or ()):
        _label_requirement(
            errors, requirement, f"{path}.matchExpressions[{i}]", allow_invalid_values
        )


def _label_requirement(errors: ErrorList, requirement: Obj, path: str, allow: bool) -> None:
    operator = requirement.get("operator") or ""
    values = requirement.get("values") or ()
    if operator in _SELECTOR_OPERATORS_WITH_VALUES:
        if not values:
            message = "must be specified when `operator` is 'In' or 'NotIn'"
            errors.append(required(f"{path}.values", message))
    elif operator in _SELECTOR_OPERATORS_WITHOUT_VALUES:
        if values:
            message = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'"
            errors.append(forbidden(f"{path}.values", message))
    else:
        errors.append(invalid(f"{path}.operator", operator, "not a valid selector operator"))
    qualified_name(errors, requirement.get("key") or "", f"{path}.key")
    if not allow:
        for i, value in enumerate(values):
            messages = names.is_valid_label_value(value)
            if messages:
                add_all(errors, f"{path}.values[{i}]", value, messages)


def selector_has_invalid_values(selector: Obj | None) -> bool:
    return any(
        names.is_valid_label_value(value)
        for requirement in (selector or {}).get("matchExpressions") or ()
        for value in requirement.get("values") or ()
    )


def selector_is_empty(selector: Obj) -> bool:
    return not selector.get("matchLabels") and not selector.get("matchExpressions")


# -- addresses --------------------------------------------------------------------------------

_LEADING_ZERO = re.compile(r"(^|\.)0+(?=\d)")


@lru_cache(maxsize=4096)
def parse_ip_sloppy(text: str) -> IPAddress | None:
    """netutils.ParseIPSloppy: IPv4 octets may have leading zeros."""
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        pass
    if "%" in text or text.count(".") != 3:
        return None
    head, colon, tail = text.rpartition(":")
    try:
        return ipaddress.ip_address(head + colon + _LEADING_ZERO.sub(r"\1", tail))
    except ValueError:
        return None


def parse_cidr_sloppy(text: str) -> tuple[IPAddress, IPNetwork] | None:
    address, slash, length = text.partition("/")
    if not slash or not length.isascii() or not length.isdigit():
        return None
    ip = parse_ip_sloppy(address)
    if ip is None or int(length) > ip.max_prefixlen:
        return None
    return ip, ipaddress.ip_network(f"{ip}/{int(length)}", strict=False)


def is_ipv6(text: str) -> bool:
    """netutils.IsIPv6String: an IPv4-mapped address counts as IPv4."""
    ip = parse_ip_sloppy(text)
    return isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped is None


def canonical_ip(ip: IPAddress) -> str:
    """Go's net.IP.String: IPv4-mapped addresses print as IPv4."""
    if isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped is not None:
        return str(ip.ipv4_mapped)
    return str(ip)


def ip_for_legacy_field(
    errors: ErrorList, value: str, path: str, valid_old: Sequence[str] = ()
) -> bool:
    """IsValidIPForLegacyField with StrictIPCIDRValidation on; True when valid."""
    if value in valid_old:
        return True
    before = len(errors)
    ip = parse_ip_sloppy(value)
    if ip is None:
        message = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"
        errors.append(invalid(path, value, message))
        return False
    if _strict_ip(value) is None:
        errors.append(invalid(path, value, "must not have leading 0s"))
    if isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped is not None:
        errors.append(invalid(path, value, "must not be an IPv4-mapped IPv6 address"))
    return len(errors) == before


@lru_cache(maxsize=4096)
def _strict_ip(value: str) -> IPAddress | None:
    try:
        return ipaddress.ip_address(value)
    except ValueError:
        return None


def ip_strict(errors: ErrorList, value: str, path: str) -> None:
    """IsValidIP: strict and canonical."""
    if ip_for_legacy_field(errors, value, path):
        ip = parse_ip_sloppy(value)
        if ip is not None and str(ip) != value:
            errors.append(invalid(path, value, f'must be in canonical form ("{ip}")'))


def cidr_for_legacy_field(
    errors: ErrorList, value: str, path: str, valid_old: Sequence[str] = ()
) -> bool:
    if value in valid_old:
        return True
    parsed = parse_cidr_sloppy(value)
    if parsed is None:
        message = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)"
        errors.append(invalid(path, value, message))
        return False
    ip, network = parsed
    address, _, length = value.partition("/")
    if _strict_ip(address) is None or (len(length) > 1 and length[0] == "0"):
        message = "must not have leading 0s in IP or prefix length"
    elif isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped is not None:
        message = "must not have an IPv4-mapped IPv6 address"
    elif network.network_address != ip:
        message = "must not have bits set beyond the prefix length"
    else:
        return True
    errors.append(invalid(path, value, message))
    return False


def cidr_strict(errors: ErrorList, value: str, path: str) -> None:
    if cidr_for_legacy_field(errors, value, path):
        parsed = parse_cidr_sloppy(value)
        if parsed is not None and str(parsed[1]) != value:
            errors.append(invalid(path, value, f'must be in canonical form ("{parsed[1]}")'))


def is_dual_stack(values: Sequence[str]) -> bool:
    """IsDualStackIPStrings / IsDualStackCIDRStrings: both families are there."""
    return len({is_ipv6(value.partition("/")[0]) for value in values}) == 2


def ip_warnings(path: str, value: str) -> list[str]:
    """utilvalidation.GetWarningsForIP."""
    ip = parse_ip_sloppy(value)
    if ip is None:
        return []
    strict = _strict_ip(value)
    mapped = isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped is not None
    if strict is None or mapped:
        return [f'{path}: non-standard IP address "{value}" is invalid: use "{canonical_ip(ip)}"']
    if strict.version == 6 and str(strict) != value:
        return [
            f'{path}: IPv6 address "{value}" should be in RFC 5952 canonical format ("{strict}")'
        ]
    return []


def cidr_warnings(path: str, value: str) -> list[str]:
    """utilvalidation.GetWarningsForCIDR."""
    parsed = parse_cidr_sloppy(value)
    if parsed is None:
        return []
    ip, network = parsed
    warnings = []
    if network.network_address != ip:
        warnings.append(
            f'{path}: CIDR value "{value}" is ambiguous in this context (should be "{network}" or '
            f'"{ip}/{ip.max_prefixlen}"?)'
        )
    address, _, length = value.partition("/")
    mapped = isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped is not None
    if _strict_ip(address) is None or (len(length) > 1 and length[0] == "0") or mapped:
        warnings.append(f'{path}: non-standard CIDR value "{value}" is invalid: use "{network}"')
    canonical = f"{ip}/{length}"
    if not warnings and ip.version == 6 and canonical != value:
        warnings.append(
            f'{path}: IPv6 CIDR value "{value}" should be in RFC 5952 canonical format '
            f'("{canonical}")'
        )
    return warnings


# -- int or percent ---------------------------------------------------------------------------

_PERCENT = re.compile(r"[0-9]+%")
_PERCENT_MESSAGE = (
    "a valid percent string must be a numeric string followed by an ending '%' "
    "(e.g. '1%',  or '93%', regex used for validation is '[0-9]+%')"
)


def int_or_percent(errors: ErrorList, value: Any, path: str) -> None:
    """ValidatePositiveIntOrPercent."""
    if isinstance(value, str):
        if not _PERCENT.fullmatch(value):
            errors.append(invalid(path, value, _PERCENT_MESSAGE))
    elif (value or 0) < 0:
        errors.append(invalid(path, value, NOT_NEGATIVE))


def int_or_percent_value(value: Any) -> int:
    """The number in front of the percent sign, or the number."""
    if isinstance(value, str):
        if _PERCENT.fullmatch(value):
            return int(value[:-1])
        return int(value) if re.fullmatch(r"[+-]?\d+", value) else 0
    return value or 0


def at_most_100_percent(errors: ErrorList, value: Any, path: str) -> None:
    if isinstance(value, str) and _PERCENT.fullmatch(value) and int(value[:-1]) > 100:
        errors.append(invalid(path, value, "must not be greater than 100%"))
