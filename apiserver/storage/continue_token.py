"""The continue parameter of a paged LIST (apiserver pkg/storage/continue.go)."""

from __future__ import annotations

import base64
import binascii
import json
import posixpath
import re
from typing import Any

from pilothouse.apimachinery.errors import StatusError, new_resource_expired
from pilothouse.apiserver.codec.go_values import json_kind

_VERSION = "meta.k8s.io/v1"
LATEST = -1
"""The revision in a token that goes on at the newest state (an inconsistent list)."""

EXPIRED_LIST = "The resourceVersion for the provided list is too old."
EXPIRED_WATCH = "The resourceVersion for the provided watch is too old."
EXPIRED_CONTINUE = (
    "The provided continue parameter is too old to display a consistent list result. You can "
    "start a new list without the continue parameter."
)
INCONSISTENT_CONTINUE = (
    "The provided continue parameter is too old to display a consistent list result. You can "
    "start a new list without the continue parameter, or use the continue token in this response "
    "to retrieve the remainder of the results. Continuing with the provided token results in an "
    "inconsistent list - objects that were created, modified, or deleted between the time the "
    "first chunk was returned and now may show up in the list."
)
_INVALID = "continue key is not valid"
_NOT_BASE64 = re.compile(r"[^A-Za-z0-9_-]")


class InvalidContinue(ValueError):
    """A token that this server did not make; the text is upstream's (a 400)."""


def encode_continue(start_key: str, prefix: str, revision: int) -> str:
    """A token that goes on at ``start_key`` (usually the last key of the page + NUL)."""
    if not start_key.startswith(prefix) or start_key == prefix:
        raise ValueError("unable to encode next field: the key and key prefix do not match")
    token = {"v": _VERSION, "rv": revision, "start": start_key[len(prefix) :]}
    text = json.dumps(token, separators=(",", ":"), ensure_ascii=True)
    return base64.urlsafe_b64encode(text.encode()).rstrip(b"=").decode()


def decode_continue(token: str, prefix: str) -> tuple[str, int]:
    """(key to start at, revision), the key always under ``prefix``.

    :raises InvalidContinue: not a token of ours, or one that tries to leave the prefix.
    """
    fields = _fields(token)
    version, revision, start = fields.get("v", ""), fields.get("rv", 0), fields.get("start", "")
    for name, value, go_type in (
        ("v", version, "string"), ("rv", revision, "int64"), ("start", start, "string")
    ):  # fmt: skip
        if type(value) is not (int if go_type == "int64" else str):
            raise InvalidContinue(
                f"{_INVALID}: json: cannot unmarshal {json_kind(value)} into Go struct field "
                f"continueToken.{name} of type {go_type}"
            )
    if version != _VERSION:
        raise InvalidContinue(
            f"{_INVALID}: server does not recognize this encoded version {version}"
        )
    if revision == 0:
        raise InvalidContinue(
            f"{_INVALID}: incorrect encoded start resourceVersion (version {_VERSION})"
        )
    if not start:
        raise InvalidContinue(f"{_INVALID}: encoded start key empty (version {_VERSION})")
    key = start if start.startswith("/") else "/" + start
    # A clean path cannot climb out of the prefix that it is appended to.
    if key.startswith("//") or posixpath.normpath(key) != key:
        raise InvalidContinue(f"{_INVALID}: {start}")
    return prefix + key[1:], revision


def _fields(token: str) -> dict[str, Any]:
    try:
        wrong = _NOT_BASE64.search(token)
        if wrong is not None:
            raise ValueError
        raw = token.encode("ascii")
        text = base64.b64decode(raw + b"=" * (-len(raw) % 4), altchars=b"-_", validate=True)
    except (ValueError, binascii.Error) as error:
        at = len(token) if wrong is None else len(token[: wrong.start()].encode())
        raise InvalidContinue(f"{_INVALID}: illegal base64 data at input byte {at}") from error
    try:
        from pilothouse.apiserver.codec.json_syntax import loads

        fields = loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidContinue(f"{_INVALID}: {error}") from error
    if not isinstance(fields, dict):
        raise InvalidContinue(f"{_INVALID}: json: cannot unmarshal into continueToken")
    return fields


def expired_continue(start_key: str, prefix: str) -> StatusError:
    """410 for a token whose revision is gone, with a token for an inconsistent rest."""
    try:
        token = encode_continue(start_key, prefix, LATEST)
    except ValueError:
        return new_resource_expired(EXPIRED_CONTINUE)
    error = new_resource_expired(INCONSISTENT_CONTINUE)
    error.continue_token = token
    return error
