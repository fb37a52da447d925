"""IP and CIDR rules, strict and as of old."""

from __future__ import annotations

import pytest

from pilothouse.apimachinery.ipaddresses import (
    cidr_warnings,
    ip_warnings,
    is_valid_cidr,
    is_valid_cidr_for_legacy_field,
    is_valid_interface_address,
    is_valid_ip,
    is_valid_ip_for_legacy_field,
    parse_ip_sloppy,
)

NO_IP = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"


@pytest.mark.parametrize(
    ("text", "strict", "legacy", "canonical"),
    [
        ("10.0.0.1", "", "", ""),
        ("::1", "", "", ""),
        ("010.0.0.1", "must not have leading 0s", "", ""),
        ("00001::1", "must not have leading 0s", "", ""),
        ("::ffff:1.2.3.4", "must not be an IPv4-mapped IPv6 address", "", ""),
        ("FE80::1", "", "", 'must be in canonical form ("fe80::1")'),
        ("0001::", "", "", 'must be in canonical form ("1::")'),
        ("1.2.3", NO_IP, NO_IP, ""),
        ("1.2.3.256", NO_IP, NO_IP, ""),
        ("fe80::1%eth0", NO_IP, NO_IP, ""),
        ("1::2::3", NO_IP, NO_IP, ""),
        ("", NO_IP, NO_IP, ""),
    ],
)
def test_ip(text: str, strict: str, legacy: str, canonical: str) -> None:
    def listed(message: str) -> list[str]:
        return [message] if message else []

    assert is_valid_ip_for_legacy_field(text) == listed(strict)
    assert is_valid_ip_for_legacy_field(text, strict=False) == listed(legacy)
    assert is_valid_ip(text) == listed(strict or canonical)


@pytest.mark.parametrize(
    ("text", "errors"),
    [
        ("10.0.0.0/8", []),
        ("2001:db8::/32", []),
        ("10.1.0.0/8", ["must not have bits set beyond the prefix length"]),
        ("10.0.0.0/08", ["must not have leading 0s in IP or prefix length"]),
        ("2001:DB8::/32", ['must be in canonical form ("2001:db8::/32")']),
        ("::ffff:10.0.0.0/104", ["must not have an IPv4-mapped IPv6 address"]),
        (
            "10.0.0.0/33",
            ["must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)"],
        ),
    ],
)
def test_cidr(text: str, errors: list[str]) -> None:
    assert is_valid_cidr(text) == errors


def test_old_spellings_pass_where_they_did() -> None:
    assert is_valid_cidr_for_legacy_field("10.1.0.0/08", strict=False) == []
    assert str(parse_ip_sloppy("::ffff:1.2.3.4")) == "1.2.3.4"


def test_interface_address() -> None:
    assert is_valid_interface_address("192.168.1.5/24") == []
    assert is_valid_interface_address("192.168.1.05/24") == [
        'must be in canonical form ("192.168.1.5/24")'
    ]
    assert is_valid_interface_address("192.168.1.5") == [
        "must be a valid address in CIDR form, (e.g. 10.9.8.7/24 or 2001:db8::1/64)"
    ]


def test_warnings() -> None:
    assert ip_warnings("spec.ip", "010.0.0.1") == [
        'spec.ip: non-standard IP address "010.0.0.1" is invalid: use "10.0.0.1"'
    ]
    assert ip_warnings("f", "FE80::1") == [
        'f: IPv6 address "FE80::1" should be in RFC 5952 canonical format ("fe80::1")'
    ]
    assert ip_warnings("f", "1.2.3.4") == []
    assert cidr_warnings("f", "10.0.0.1/24") == [
        'f: CIDR value "10.0.0.1/24" is ambiguous in this context (should be "10.0.0.0/24" or '
        '"10.0.0.1/32"?)'
    ]
    assert cidr_warnings("f", "10.0.0.0/24") == []
