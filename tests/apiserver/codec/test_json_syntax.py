"""Go's JSON error texts, and values that orjson refuses."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilothouse.apiserver.codec.json_syntax import (
    JSONSyntaxError,
    has_repeated_keys,
    loads,
    syntax_error,
)


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"", "unexpected end of JSON input"),
        (b'{"a"', "unexpected end of JSON input"),
        (b'{"a":1,}', "invalid character '}' looking for beginning of object key string"),
        (b"[1 2]", "invalid character '2' after array element"),
        (b"[1,]", "invalid character ']' looking for beginning of value"),
        (b'{"a":tru}', "invalid character '}' in literal true (expecting 'e')"),
        (b"01", "invalid character '1' after top-level value"),
        (b"-x", "invalid character 'x' in numeric literal"),
        (b"1.x", "invalid character 'x' after decimal point in numeric literal"),
        (b"1e+x", "invalid character 'x' in exponent of numeric literal"),
        (b'"\\x"', "invalid character 'x' in string escape code"),
        (b'"\\u12g', "invalid character 'g' in \\u hexadecimal character escape"),
        (b'"a\nb"', "invalid character '\\n' in string literal"),
        (b'{"a" 1}', "invalid character '1' after object key"),
        (b'{"a":1 "b"', "invalid character '\"' after object key:value pair"),
        (b"'a'", "invalid character '\\'' looking for beginning of value"),
        (b"[" * 20000, "exceeded max depth"),
    ],
)
def test_texts(data: bytes, text: str) -> None:
    assert syntax_error(data) == text


def test_lone_surrogates_and_bad_utf8_become_replacement_characters() -> None:
    assert loads(b'{"a":"\\ud800x","b":"\\ud83d\\ude00"}') == {"a": "\ufffdx", "b": "\U0001f600"}
    assert loads(b'["\xff"]') == ["\ufffd"]


def test_numbers() -> None:
    assert loads(b"[9223372036854775807, 9223372036854775808]") == [2**63 - 1, float(2**63)]
    with pytest.raises(JSONSyntaxError):
        loads(b"1e999")


def test_repeated_keys() -> None:
    assert has_repeated_keys(b'{"a":{"b":1,"b":2}}')
    assert not has_repeated_keys(b'[{"a":1},{"a":2}]')


@given(st.text(alphabet='{}[]",:0123456789.eE+-truefalsn\\ \n', max_size=30))
def test_agrees_with_another_parser_on_what_is_valid(text: str) -> None:
    try:
        json.loads(text)
        valid = True
    except ValueError:
        valid = False
    assert (syntax_error(text.encode()) is None) == valid
