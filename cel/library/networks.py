"""IP addresses and CIDRs (Go's net/netip)."""

from __future__ import annotations

import re
from ipaddress import IPv4Address, IPv6Address, ip_network
from typing import TYPE_CHECKING, Any

from pilothouse.cel.interfaces import EvaluationError
from pilothouse.cel.operators import no_overload

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_Address = IPv4Address | IPv6Address
_IP, _CIDR = "net.IP", "net.CIDR"


class IP:
    """An address."""

    __slots__ = ("address",)
    type_name = _IP

    def __init__(self, address: _Address) -> None:
        self.address = address

    def __eq__(self, other: object) -> bool:
        return isinstance(other, IP) and other.address == self.address

    def __hash__(self) -> int:
        return hash(self.address)

    def __str__(self) -> str:
        return str(self.address)

    def cost_size(self) -> int:
        return self.address.max_prefixlen // 8


class CIDR:
    """An address with the length of a prefix."""

    __slots__ = ("address", "bits")
    type_name = _CIDR

    def __init__(self, address: _Address, bits: int) -> None:
        self.address = address
        self.bits = bits

    def __eq__(self, other: object) -> bool:
        return isinstance(other, CIDR) and self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self._key())

    def _key(self) -> tuple[_Address, int]:
        return self.address, self.bits

    def __str__(self) -> str:
        return f"{self.address}/{self.bits}"

    def cost_size(self) -> int:
        return (self.bits + 7) // 8

    def masked(self) -> CIDR:
        network = ip_network((self.address, self.bits), strict=False)
        return CIDR(network.network_address, self.bits)

    def contains(self, address: _Address) -> bool:
        if address.version != self.address.version:
            return False
        shift = address.max_prefixlen - self.bits
        return int(address) >> shift == int(self.address) >> shift


def _go_error(text: str) -> str:
    """netip.ParseAddr's reason, for the common cases."""
    quoted = f'ParseAddr("{text}")'
    if ":" not in text and "." not in text:
        return f"{quoted}: unable to parse IP"
    if ":" in text:
        if re.fullmatch(r"[0-9A-Fa-f:.]+", text) is None:
            bad = re.sub(r"^[0-9A-Fa-f:.]*", "", text)
            return f'{quoted}: unexpected character (at "{bad}")'
        return f"{quoted}: unable to parse IP"
    parts = text.split(".")
    if any(not part.isdigit() for part in parts if part):
        bad = re.sub(r"^[0-9.]*", "", text)
        return f'{quoted}: unexpected character (at "{bad}")'
    if any(len(part) > 1 and part[0] == "0" for part in parts):
        return f"{quoted}: IPv4 field has octet with leading zero"
    if any(part and int(part[:9]) > 255 for part in parts):
        return f"{quoted}: IPv4 field has value >255"
    if len(parts) > 4:
        return f"{quoted}: IPv4 address too long"
    return f"{quoted}: IPv4 address too short"


def _address(text: str) -> _Address:
    """:raises ValueError: with Go's text."""
    if "%" in text and ":" in text:
        if text.endswith("%"):
            raise ValueError(f'ParseAddr("{text}"): zone must be a non-empty string')
        text = text.partition("%")[0]
    try:
        if ":" in text:
            return IPv6Address(text)
        return IPv4Address(text)
    except ValueError:
        raise ValueError(_go_error(text)) from None


def parse_ip(text: str) -> IP:
    """:raises ValueError: with upstream's text."""
    try:
        address = _address(text)
    except ValueError as error:
        text = f'IP Address "{text}" parse error during conversion from string: {error}'
        raise ValueError(text) from None
    if "%" in text:
        raise ValueError(f'IP address "{text}" with zone value is not allowed')
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        raise ValueError(f'IPv4-mapped IPv6 address "{text}" is not allowed')
    return IP(address)


def parse_cidr(text: str) -> CIDR:
    """:raises ValueError: with upstream's text."""
    prefix = "network address parse error during conversion from string: "
    try:
        cidr = _prefix(text)
    except ValueError as error:
        shown = f'netip.ParsePrefix("{text}"): {error}'
        raise ValueError(prefix + shown) from None
    if isinstance(cidr.address, IPv6Address) and cidr.address.ipv4_mapped is not None:
        raise ValueError(f'IPv4-mapped IPv6 address "{text}" is not allowed')
    return cidr


def _prefix(text: str) -> CIDR:
    address_text, slash, length = text.rpartition("/")
    if not slash:
        raise ValueError("no '/'")
    if "%" in address_text:
        raise ValueError("IPv6 zones cannot be present in a prefix")
    address = _address(address_text)
    if not re.fullmatch("0|[1-9][0-9]{0,2}", length):
        raise ValueError(f'bad bits after slash: "{length}"')
    if int(length) > address.max_prefixlen:
        raise ValueError("prefix length out of range")
    return CIDR(address, int(length))


def _ip(text: Any) -> IP:
    if type(text) is not str:
        raise no_overload()
    try:
        return parse_ip(text)
    except ValueError as error:
        raise EvaluationError(str(error)) from None


def _cidr(text: Any) -> CIDR:
    if type(text) is not str:
        raise no_overload()
    try:
        return parse_cidr(text)
    except ValueError as error:
        prefix = "network address parse error during conversion from string: "
        raise EvaluationError(f"{prefix}{error}") from None


def _parses(parse: Callable[[str], object]) -> Callable[[Any], bool]:
    def check(text: Any) -> bool:
        if type(text) is not str:
            raise no_overload()
        try:
            parse(text)
        except ValueError:
            return False
        return True

    return check


def _is_canonical(text: Any) -> bool:
    return bool(str(_ip(text)) == text)


def _contains_ip(cidr: CIDR, ip: Any) -> bool:
    return cidr.contains((ip if isinstance(ip, IP) else _ip(ip)).address)


def _contains_cidr(cidr: CIDR, other: Any) -> bool:
    inner = other if isinstance(other, CIDR) else _cidr(other)
    return bool(cidr.bits <= inner.bits and cidr.contains(inner.address))


def _is_link_local_multicast(ip: IP) -> bool:
    if isinstance(ip.address, IPv4Address):
        return str(ip.address).startswith("224.0.0.")
    return int(ip.address) >> 112 & 0xFF0F == 0xFF02


def _is_global_unicast(ip: IP) -> bool:
    address = ip.address
    if isinstance(address, IPv4Address) and int(address) == 0xFFFFFFFF:
        return False
    return not (
        address.is_unspecified
        or address.is_loopback
        or address.is_multicast
        or address.is_link_local
    )


def rows() -> Iterator[tuple[str, str, Callable[..., Any]]]:
    yield "string_to_ip", f"ip(string) -> {_IP}", _ip
    yield "ip_family", f"{_IP}|family() -> int", lambda ip: ip.address.version
    yield "ip_is_canonical", "ip.isCanonical(string) -> bool", _is_canonical
    yield (
        "ip_is_unspecified",
        f"{_IP}|isUnspecified() -> bool",
        lambda ip: ip.address.is_unspecified,
    )
    yield "ip_is_loopback", f"{_IP}|isLoopback() -> bool", lambda ip: ip.address.is_loopback
    yield (
        "ip_is_link_local_multicast",
        f"{_IP}|isLinkLocalMulticast() -> bool",
        _is_link_local_multicast,
    )
    yield (
        "ip_is_link_local_unicast",
        f"{_IP}|isLinkLocalUnicast() -> bool",
        lambda ip: ip.address.is_link_local,
    )
    yield "ip_is_global_unicast", f"{_IP}|isGlobalUnicast() -> bool", _is_global_unicast
    yield "is_ip", "isIP(string) -> bool", _parses(parse_ip)
    yield "ip_to_string", f"string({_IP}) -> string", str
    yield "string_to_cidr", f"cidr(string) -> {_CIDR}", _cidr
    yield "cidr_contains_ip_string", f"{_CIDR}|containsIP(string) -> bool", _contains_ip
    yield "cidr_contains_ip_ip", f"{_CIDR}|containsIP({_IP}) -> bool", _contains_ip
    yield "cidr_contains_cidr_string", f"{_CIDR}|containsCIDR(string) -> bool", _contains_cidr
    yield "cidr_contains_cidr", f"{_CIDR}|containsCIDR({_CIDR}) -> bool", _contains_cidr
    yield "cidr_ip", f"{_CIDR}|ip() -> {_IP}", lambda cidr: IP(cidr.address)
    yield "cidr_prefix_length", f"{_CIDR}|prefixLength() -> int", lambda cidr: cidr.bits
    yield "cidr_masked", f"{_CIDR}|masked() -> {_CIDR}", lambda cidr: cidr.masked()
    yield "is_cidr", "isCIDR(string) -> bool", _parses(parse_cidr)
    yield "cidr_to_string", f"string({_CIDR}) -> string", str
