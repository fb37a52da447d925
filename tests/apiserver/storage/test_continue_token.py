"""Continue tokens: what upstream makes and refuses."""

from __future__ import annotations

import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilothouse.apiserver.storage.continue_token import (
    INCONSISTENT_CONTINUE,
    LATEST,
    InvalidContinue,
    decode_continue,
    encode_continue,
    expired_continue,
)

PREFIX = "/registry/pods/"


def token(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return base64.urlsafe_b64encode(text.encode()).rstrip(b"=").decode()


def test_round_trip() -> None:
    made = encode_continue(PREFIX + "ns/a\0", PREFIX, 42)
    assert json.loads(base64.urlsafe_b64decode(made + "==")) == {
        "v": "meta.k8s.io/v1",
        "rv": 42,
        "start": "ns/a\0",
    }
    assert decode_continue(made, PREFIX) == (PREFIX + "ns/a\0", 42)


def test_a_key_outside_of_the_prefix_cannot_be_encoded() -> None:
    with pytest.raises(ValueError, match="the key and key prefix do not match"):
        encode_continue("/registry/secrets/a", PREFIX, 1)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"v": "v1", "rv": 1, "start": "a"}, "does not recognize this encoded version v1"),
        ({}, "does not recognize this encoded version "),
        ({"v": "meta.k8s.io/v1", "start": "a"}, "incorrect encoded start resourceVersion"),
        ({"v": "meta.k8s.io/v1", "rv": 1}, "encoded start key empty"),
        ({"v": "meta.k8s.io/v1", "rv": 1, "start": "../secrets"}, "not valid: ../secrets"),
        ({"v": "meta.k8s.io/v1", "rv": 1, "start": "a/../../secrets"}, "not valid"),
        ({"v": "meta.k8s.io/v1", "rv": 1, "start": "//a"}, "not valid"),
        ({"v": "meta.k8s.io/v1", "rv": 1, "start": "a/"}, "not valid"),
        ({"v": "meta.k8s.io/v1", "rv": "1", "start": "a"}, "not valid"),
        ({"v": "meta.k8s.io/v1", "rv": True, "start": "a"}, "not valid"),
        ([], "not valid"),
        ("{", "not valid"),
        ("[" * 100_000, "not valid"),
    ],
)
def test_refused(value: object, message: str) -> None:
    with pytest.raises(InvalidContinue, match="continue key is not valid") as raised:
        decode_continue(token(value), PREFIX)
    assert message in str(raised.value)


@given(st.text(max_size=40) | st.binary(max_size=40).map(lambda b: token(b.decode("latin1"))))
def test_any_text_is_decoded_or_refused(text: str) -> None:
    try:
        key, revision = decode_continue(text, PREFIX)
    except InvalidContinue:
        return
    assert key.startswith(PREFIX) and revision


def test_an_expired_token_comes_with_one_for_the_rest() -> None:
    error = expired_continue(PREFIX + "ns/b", PREFIX)
    assert (error.code, error.reason, error.message) == (410, "Expired", INCONSISTENT_CONTINUE)
    assert error.continue_token is not None
    assert decode_continue(error.continue_token, PREFIX) == (PREFIX + "ns/b", LATEST)
