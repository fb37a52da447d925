"""Field selectors and their escapes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilothouse.apimachinery.fields import (
    FieldSelector,
    and_selectors,
    escape_value,
    one_term_equal,
    parse_field_selector,
    unescape_value,
)


@pytest.mark.parametrize(
    ("text", "requirements"),
    [
        ("", ()),
        ("a=b", (("a", "=", "b"),)),
        ("a==b,c!=d", (("a", "=", "b"), ("c", "!=", "d"))),
        (
            "c=,a=b",
            (("a", "=", "b"), ("c", "=", "")),
        ),
        (r"a=b\,c\=d\\", (("a", "=", r"b,c=d" + "\\"),)),
        (",a=b,", (("a", "=", "b"),)),
        ("=", ()),
    ],
)
def test_parse(text: str, requirements: tuple[tuple[str, str, str], ...]) -> None:
    assert parse_field_selector(text).requirements == requirements


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("a", "invalid selector: 'a'; can't understand 'a'"),
        ("a=b,c", "invalid selector: 'a=b,c'; can't understand 'c'"),
        (r"a=\b", r"invalid field selector: invalid escape sequence: \b"),
        ("a=b=c", "invalid field selector: unescaped character in value: 61"),
        ("a=\\", "invalid field selector: invalid escape sequence: \\"),
    ],
)
def test_errors(text: str, error: str) -> None:
    with pytest.raises(ValueError) as raised:
        parse_field_selector(text)
    assert str(raised.value) == error


def test_matching_counts_what_is_missing_as_empty() -> None:
    selector = parse_field_selector("spec.nodeName=,status.phase!=Failed")
    assert selector.matches({"status.phase": "Running"})
    assert not selector.matches({"status.phase": "Failed"})
    assert not selector.matches({"spec.nodeName": "a"})
    assert parse_field_selector("a!=b").matches({})
    assert not parse_field_selector("a=b").matches({})


def test_introspection() -> None:
    selector = parse_field_selector("metadata.name=x,a!=b")
    assert selector.requires_exact("metadata.name") == "x"
    assert selector.requires_exact("a") is None
    assert not selector.empty
    assert parse_field_selector("").empty
    assert str(selector.transform(lambda f, v: ("", "") if f == "a" else (f, v + ","))) == (
        r"metadata.name=x\,"
    )
    assert and_selectors(one_term_equal("a", "b"), parse_field_selector("c!=d")) == (
        parse_field_selector("a=b,c!=d")
    )


@given(st.text())
def test_escapes_round_trip(value: str) -> None:
    assert unescape_value(escape_value(value)) == value
    selector = FieldSelector((("f", "=", value),))
    assert parse_field_selector(str(selector)) == selector
