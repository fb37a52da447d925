"""IP addresses and CIDRs in API fields (apimachinery pkg/util/validation/ip.go).

Old fields were validated by a parser that ignored leading zeros; "legacy" checks accept what it
accepted unless ``strict``. The other checks want the canonical form. Exported by ``names``.
"""

from __future__ import annotations

import re
from ipaddress import IPv4Address, IPv6Address, ip_network

IPAddress = IPv4Address | IPv6Address

_LEADING_ZEROS = re.compile(r"(?<![0-9A-Fa-f])0+(?=[0-9A-Fa-f])")
_IPV4_SLOPPY = re.compile(r"[0-9]+(?:\.[0-9]+){3}")
_IPV4_STRICT = re.compile(r"(?:0|[1-9][0-9]{0,2})(?:\.(?:0|[1-9][0-9]{0,2})){3}")
_INVALID_IP = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"
_INVALID_CIDR = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)"
_INVALID_INTERFACE = "must be a valid address in CIDR form, (e.g. 10.9.8.7/24 or 2001:db8::1/64)"


def parse_ip_sloppy(text: str) -> IPAddress | None:
    """netutils.ParseIPSloppy: leading zeros are ignored; an IPv4-mapped address is IPv4."""
    address = _parse_sloppy(text)
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


def _parse_sloppy(text: str) -> IPAddress | None:
    if "%" in text or not text.isascii():
        return None
    plain = _LEADING_ZEROS.sub("", text)
    try:
        if ":" in text:
            return IPv6Address(plain)
        return IPv4Address(plain) if _IPV4_SLOPPY.fullmatch(text) else None
    except ValueError:
        return None


def _has_leading_zeros(text: str) -> bool:
    """What netip.ParseAddr refuses of that which the sloppy parser takes."""
    if ":" not in text:
        return _IPV4_STRICT.fullmatch(text) is None
    *groups, last = text.split(":")
    if "." in last:
        if _IPV4_STRICT.fullmatch(last) is None:
            return True
    else:
        groups.append(last)
    return any(len(group) > 4 for group in groups)


def _is_mapped(text: str) -> bool:
    address = _parse_sloppy(text)
    return isinstance(address, IPv6Address) and address.ipv4_mapped is not None


def is_valid_ip_for_legacy_field(value: str, *, strict: bool = True) -> list[str]:
    """For fields that are older than strict validation; any spelling of the address."""
    if parse_ip_sloppy(value) is None:
        return [_INVALID_IP]
    if strict:
        if _has_leading_zeros(value):
            return ["must not have leading 0s"]
        if _is_mapped(value):
            return ["must not be an IPv4-mapped IPv6 address"]
    return []


def is_valid_ip(value: str, *, prefix: bool = False) -> list[str]:
    """A canonical IPv4 or IPv6 address."""
    errors = is_valid_ip_for_legacy_field(value)
    canonical = str(parse_ip_sloppy(value))
    if not errors and value != canonical:
        return [f'must be in canonical form ("{canonical}")']
    return errors


def parse_cidr_sloppy(text: str) -> tuple[IPAddress, int] | None:
    """Address and prefix length (netutils.ParseCIDRSloppy)."""
    address_text, slash, length_text = text.partition("/")
    address = _parse_sloppy(address_text)
    if not slash or address is None or not re.fullmatch("[0-9]{1,7}", length_text):
        return None
    length = int(length_text)
    return (address, length) if length <= address.max_prefixlen else None


def is_valid_cidr_for_legacy_field(value: str, *, strict: bool = True) -> list[str]:
    parsed = parse_cidr_sloppy(value)
    if parsed is None:
        return [_INVALID_CIDR]
    if strict:
        address_text, _, length = value.partition("/")
        if _has_leading_zeros(address_text) or (len(length) > 1 and length[0] == "0"):
            return ["must not have leading 0s in IP or prefix length"]
        if _is_mapped(address_text):
            return ["must not have an IPv4-mapped IPv6 address"]
        if ip_network(parsed, strict=False).network_address != parsed[0]:
            return ["must not have bits set beyond the prefix length"]
    return []


def is_valid_cidr(value: str, *, prefix: bool = False) -> list[str]:
    """A canonical subnet, no bits set beyond the prefix length."""
    errors = is_valid_cidr_for_legacy_field(value)
    parsed = parse_cidr_sloppy(value)
    if errors or parsed is None:
        return errors
    canonical = str(ip_network(parsed))
    return [] if value == canonical else [f'must be in canonical form ("{canonical}")']


def is_valid_interface_address(value: str, *, prefix: bool = False) -> list[str]:
    """A canonical address with its subnet's length."""
    parsed = parse_cidr_sloppy(value)
    if parsed is None:
        return [_INVALID_INTERFACE]
    address, length = parsed
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        address, length = address.ipv4_mapped, length - 96 if length > 32 else length
    canonical = f"{address}/{length}"
    return [] if value == canonical else [f'must be in canonical form ("{canonical}")']


def ip_warnings(field: str, value: str) -> list[str]:
    """Warnings for a spelling that ``is_valid_ip_for_legacy_field(strict=False)`` accepts."""
    address = parse_ip_sloppy(value)
    if address is None:
        return []
    if _has_leading_zeros(value) or _is_mapped(value):
        return [f'{field}: non-standard IP address "{value}" is invalid: use "{address}"']
    if isinstance(address, IPv6Address) and str(address) != value:
        return [
            f'{field}: IPv6 address "{value}" should be in RFC 5952 canonical format ("{address}")'
        ]
    return []


def cidr_warnings(field: str, value: str) -> list[str]:
    """Warnings for a spelling that ``is_valid_cidr_for_legacy_field(strict=False)`` accepts."""
    parsed = parse_cidr_sloppy(value)
    if parsed is None:
        return []
    address, _ = parsed
    network = ip_network(parsed, strict=False)
    warnings: list[str] = []
    if network.network_address != address:
        single = f"{address}/{address.max_prefixlen}"
        warnings.append(
            f'{field}: CIDR value "{value}" is ambiguous in this context (should be "{network}" '
            f'or "{single}"?)'
        )
    address_text, _, length = value.partition("/")
    zeros = _has_leading_zeros(address_text) or (len(length) > 1 and length[0] == "0")
    if zeros or _is_mapped(address_text):
        warnings.append(f'{field}: non-standard CIDR value "{value}" is invalid: use "{network}"')
    if not warnings and isinstance(address, IPv6Address) and str(network) != value:
        warnings.append(
            f'{field}: IPv6 CIDR value "{value}" should be in RFC 5952 canonical format '
            f'("{network}")'
        )
    return warnings
