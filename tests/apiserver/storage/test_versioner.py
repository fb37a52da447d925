"""Splicing a resourceVersion into stored bytes is right for any JSON object."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilothouse.apiserver.storage.versioner import (
    encode,
    parse_revision,
    restamp,
    splice,
    with_revision,
)

_texts = st.text(max_size=12) | st.sampled_from(
    ['a"metadata":{', '"metadata":{', "\\", "resourceVersion", "metadata", "{", "kind"]
)
_scalars = st.none() | st.booleans() | st.integers(-(2**53), 2**53) | _texts
_values = st.recursive(
    _scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_texts, inner, max_size=3),
    max_leaves=8,
)
_metadata = st.dictionaries(_texts | st.sampled_from(["resourceVersion", "name"]), _values)
_objects = st.fixed_dictionaries(
    {},
    optional={
        "kind": _texts,
        "apiVersion": _texts,
        "metadata": _metadata,
        "spec": _values,
        'x"metadata': st.dictionaries(_texts, _values, max_size=2),
    },
).flatmap(lambda obj: st.permutations(list(obj.items())).map(dict))


def expected(obj: dict[str, Any], revision: int) -> dict[str, Any]:
    metadata = obj.get("metadata") or {}
    return {**obj, "metadata": {**metadata, "resourceVersion": str(revision)}}


@given(_objects, st.integers(1, 2**62), st.integers(1, 2**62))
def test_splice_and_restamp_equal_decoding_and_encoding(
    obj: dict[str, Any], first: int, second: int
) -> None:
    for value in (orjson.dumps(obj), encode(obj)):
        spliced = splice(value, first)
        assert orjson.loads(spliced) == expected(obj, first)
        # A duplicate key would hide from the decoder.
        assert orjson.dumps(orjson.loads(spliced)) == spliced
        assert orjson.loads(restamp(spliced, first, second)) == expected(obj, second)
    assert with_revision(obj, first) == expected(obj, first)


@given(_objects)
def test_encode_drops_the_resource_version_and_keeps_the_rest(obj: dict[str, Any]) -> None:
    decoded = orjson.loads(encode(obj))
    wanted = dict(obj)
    if "metadata" in wanted:
        wanted["metadata"] = {k: v for k, v in obj["metadata"].items() if k != "resourceVersion"}
    assert decoded == wanted


def test_the_normal_case_keeps_the_bytes() -> None:
    value = b'{"kind":"Pod","apiVersion":"v1","metadata":{"name":"a"},"spec":{"x": 1.0}}'
    assert splice(value, 7) == (
        b'{"kind":"Pod","apiVersion":"v1","metadata":{"resourceVersion":"7","name":"a"},'
        b'"spec":{"x": 1.0}}'
    )
    empty = b'{"apiVersion":"v1","kind":"Pod","metadata":{}}'
    assert splice(empty, 7).endswith(b'"metadata":{"resourceVersion":"7"}}')
    event = b'{"kind":"Event","metadata":{"name":"a"},"involvedObject":{"resourceVersion":"3"}}'
    assert orjson.loads(splice(event, 7))["involvedObject"] == {"resourceVersion": "3"}


@pytest.mark.parametrize("value", [b"", b"[]", b"1", b"{", b'{"metadata":[]}', b"k8s\0\n\x0c"])
def test_values_that_are_no_object(value: bytes) -> None:
    with pytest.raises(ValueError):
        splice(value, 1)


def test_parse_revision() -> None:
    assert parse_revision("") == 0
    assert parse_revision("0") == 0
    assert parse_revision("18446744073709551615") == 2**64 - 1
    for text, reason in (("x", "invalid syntax"), ("-1", "invalid"), ("1" * 21, "out of range")):
        with pytest.raises(ValueError, match=reason):
            parse_revision(text)
    with pytest.raises(ValueError):
        parse_revision("٣")
