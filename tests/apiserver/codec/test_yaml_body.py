"""YAML bodies: go-yaml's scalars, bombs, repeated keys."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilothouse.apiserver.codec.yaml_body import YAMLError, load


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("12:30:45", "12:30:45"),
        ("2020-01-01", "2020-01-01"),
        ("0755", 493),
        ("0o17", 15),
        ("0x1F", 31),
        ("1_000", 1000),
        ("1e3", 1000),
        ("1.50", 1.5),
        ("yes", True),
        ("Off", False),
        ("~", None),
        ("'1'", "1"),
        ("!!str 1", "1"),
        ("1.2.3", "1.2.3"),
        ("-", None),
        ("99999999999999999999", 1e20),
    ],
)
def test_scalars(text: str, value: Any) -> None:
    if text == "-":
        assert load(b"a:\n-\n") == ({"a": [None]}, "")
    else:
        assert load(f"a: {text}".encode()) == ({"a": value}, "")


def test_keys_become_text_and_merges_are_done() -> None:
    assert load(b"1: a\ntrue: b\nbase: &x {k: 1, l: 2}\nuse: {<<: *x, k: 3}\n")[0] == {
        "1": "a",
        "true": "b",
        "base": {"k": 1, "l": 2},
        "use": {"k": 3, "l": 2},
    }


def test_aliases_are_copies() -> None:
    value, _ = load(b"a: &x {k: 1}\nb: *x\n")

    value["a"]["k"] = 2
    assert value["b"] == {"k": 1}


def test_only_the_first_document_counts() -> None:
    assert load(b"---\na: 1\n---\nb: 2\n")[0] == {"a": 1}


def test_bombs_are_refused() -> None:
    lines = [b'a: &a ["x","x","x","x","x","x","x","x","x"]']
    for char in range(98, 107):
        name, before = chr(char).encode(), b"*" + chr(char - 1).encode()
        lines.append(name + b": &" + name + b" [" + b",".join([before] * 9) + b"]")
    with pytest.raises(YAMLError, match="document contains excessive aliasing"):
        load(b"\n".join(lines))


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"a: b: c", "yaml: mapping values are not allowed in this context"),
        (b"a: *q", "yaml: unknown anchor 'q' referenced"),
        (b"a: &a [*a]", "yaml: unknown anchor 'a' referenced"),
        (b"a: .nan", "json: unsupported value: NaN"),
        (b"[" * 5000, "yaml: exceeded max depth"),
        (b"? [a]\n: b", "yaml: invalid map key: a mapping or sequence"),
    ],
)
def test_errors(data: bytes, text: str) -> None:
    with pytest.raises(YAMLError) as raised:
        load(data)
    assert str(raised.value) == f"error converting YAML to JSON: {text}"


@given(st.binary(max_size=60) | st.text(max_size=60).map(str.encode))
def test_random_bodies_never_fail_otherwise(data: bytes) -> None:
    try:
        load(data)
    except YAMLError:
        pass
