"""Hashes for names."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pilothouse.apimachinery.hashing import fnv32a, hash_object, safe_encode_string
from pilothouse.apimachinery.names import RANDOM_ALPHABET


def test_fnv32a_is_the_published_one() -> None:
    assert fnv32a(b"") == 0x811C9DC5
    assert fnv32a(b"a") == 0xE40C292C
    assert fnv32a(b"foobar") == 0xBF9CF968


def test_safe_encoding() -> None:
    # 'a' is 97 and 97 % 27 is 16; digits start at 48 % 27 = 21.
    assert safe_encode_string("a0") == RANDOM_ALPHABET[16] + RANDOM_ALPHABET[21]


def test_hash_depends_on_content_only() -> None:
    assert hash_object({"a": 1, "b": [2]}) == hash_object({"b": [2], "a": 1})
    assert hash_object({"a": 1}) != hash_object({"a": 2})
    assert hash_object({"a": 1}) != hash_object({"a": 1}, 0)
    assert hash_object({"a": 1}, 1) != hash_object({"a": 1}, 2)


@given(st.recursive(st.none() | st.integers() | st.text(), lambda s: st.lists(s), max_leaves=5))
def test_hashes_are_name_safe(value: object) -> None:
    text = hash_object(value)
    assert 1 <= len(text) <= 10
    assert set(text) <= set(RANDOM_ALPHABET)
