"""Name rules and their messages."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest

from pilothouse.apimachinery import names

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.mark.parametrize(
    ("check", "good", "bad"),
    [
        (names.is_dns1123_label, ["a", "0", "a-b", "a" * 63], ["", "A", "a.b", "-a", "a\n"]),
        (names.is_dns1123_subdomain, ["a", "a.b-c.0"], ["", "a..b", "A", "a_b", "a" * 254]),
        (names.is_dns1035_label, ["a", "a1-b"], ["1a", "", "a" * 64]),
        (
            names.is_qualified_name,
            ["a", "A_b.c", "example.com/a"],
            ["", "/a", "a/", "a/b/c", "A.com/b", "_a", "a" * 64],
        ),
        (names.is_valid_label_value, ["", "a", "A_b.c-d"], ["-a", "a b", "a" * 64]),
        (names.is_config_map_key, ["a.b", "_X-"], ["", ".", "..", "..a", "a/b"]),
        (names.is_env_var_name, ["A", "a.b-c", "_"], ["1a", "", "..", "a=b"]),
        (names.is_relaxed_env_var_name, ["1 a", "a-b/c"], ["", "a=b", "é", "a\tb"]),
        (names.is_c_identifier, ["_a1"], ["1a", "a-b"]),
        (names.is_valid_port_name, ["a", "http-2"], ["", "1", "a--b", "-a", "a" * 16, "A"]),
        (names.is_http_header_name, ["X-A"], ["X A", ""]),
        (names.is_valid_percent, ["1%", "100%"], ["1", "%", "1.5%"]),
        (names.is_wildcard_dns1123_subdomain, ["*.a.b"], ["*", "*a.b", "*.*.a", "a.b"]),
        (names.is_sysctl_name, ["net.ipv4.x", "net/ipv4/x"], ["A.b", "", "a..b"]),
        (names.is_path_segment_name, ["", "a:b"], [".", "..", "a/b", "a%b"]),
        (names.is_decimal_integer, ["0", "-1", "10"], ["", "01", "-0", "+1", "-"]),
        (names.is_prefixed_label_key, ["a.b/c"], ["c"]),
        (names.is_dns1123_subdomain_caseless, ["A.b"], ["A_b"]),
        (names.is_dns1123_subdomain_with_underscore, ["_a.b"], ["a."]),
    ],
)
def test_rules(check: Callable[[str], list[str]], good: list[str], bad: list[str]) -> None:
    for value in good:
        assert check(value) == [], value
    for value in bad:
        assert check(value), value


def test_messages() -> None:
    assert names.is_dns1123_label("A.b") == [
        "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', "
        "and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', "
        "regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')"
    ]
    assert names.is_dns1123_label("a.b") == ["must not contain dots"]
    assert names.is_dns1123_label("a" * 64) == ["must be no more than 63 characters"]
    assert names.is_valid_label_value("a" * 64) == ["must be no more than 63 bytes"]
    assert names.is_qualified_name("/") == [
        "prefix part must be non-empty",
        "name part must be non-empty",
        "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and "
        "end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex "
        "used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')",
    ]
    assert names.is_valid_port_num(0) == ["must be between 1 and 65535, inclusive"]
    assert names.is_valid_port_num(80) == []
    assert names.is_valid_user_id(1 << 31) == ["must be between 0 and 2147483647, inclusive"]
    assert names.is_config_map_key("..a") == ["must not start with '..'"]
    assert names.is_path_segment_name("/%") == ["may not contain '/'", "may not contain '%'"]
    assert names.is_sysctl_name("A")[0].startswith("must have at most 253 characters and match")


def test_a_generate_name_may_end_with_a_dash() -> None:
    assert names.is_dns1123_subdomain("web-", prefix=True) == []
    assert names.is_dns1123_subdomain("web-")
    assert names.is_dns1035_label("-", prefix=True)


def test_generate_name() -> None:
    name = names.generate_name("x" * 70, random.Random(1))
    assert len(name) == 63
    assert set(name[58:]) <= set("bcdfghjklmnpqrstvwxz2456789")
    assert names.generate_name("a-", random.Random(1)) != names.generate_name(
        "a-", random.Random(2)
    )
    assert names.generate_name("a-", random.Random(1)) == names.generate_name(
        "a-", random.Random(1)
    )
