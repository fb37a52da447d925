"""Scalars with a JSON form of their own, read as Go's unmarshalers read them.

Each function takes the decoded JSON value (never None) and returns the canonical wire value, or
None for a zero value that Go encodes as null. They raise :class:`GoValueError` with upstream's
text; ``wrong`` on it says that the JSON type was wrong, for which the caller knows the path.
"""

from __future__ import annotations

import binascii
from functools import lru_cache
from typing import Any

from pilothouse.apimachinery.quantity import canonical
from pilothouse.apimachinery.timefmt import (
    format_duration_nanoseconds,
    format_micro_time,
    format_time,
    parse_duration_nanoseconds,
    parse_time,
)

INT32_MIN, INT32_MAX = -(1 << 31), (1 << 31) - 1
INT64_MIN, INT64_MAX = -(1 << 63), (1 << 63) - 1
_ZERO_TIME = "0001-01-01T00:00:00Z"


class GoValueError(ValueError):
    """``wrong`` is (JSON value as Go names it, Go type) when the JSON type did not fit."""

    def __init__(self, text: str, wrong: tuple[str, str] | None = None) -> None:
        super().__init__(text)
        self.wrong = wrong


def json_kind(value: Any) -> str:
    """How Go's decoder calls a JSON value that does not fit."""
    if isinstance(value, str):
        return "string"
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, (int, float)):
        return "number"
    return "array" if isinstance(value, list) else "object"


def wrong_type(value: Any, go_type: str) -> GoValueError:
    kind = json_kind(value)
    if kind == "number" and go_type in ("int32", "int64", "float64", "int"):
        kind = f"number {value}"
    return GoValueError(
        f"json: cannot unmarshal {kind} into Go value of type {go_type}", (kind, go_type)
    )


@lru_cache(maxsize=4096)
def _canonical_quantity(text: str) -> str:
    return canonical(text)


def quantity(value: Any) -> str:
    if isinstance(value, bool):
        text = "true" if value else "false"
    elif isinstance(value, (str, int, float)):
        text = str(value)
    else:
        text = "[]" if isinstance(value, list) else "{}"
    try:
        return _canonical_quantity(text)
    except ValueError as error:
        raise GoValueError(str(error)) from None


@lru_cache(maxsize=4096)
def _canonical_time(text: str) -> str | None:
    found = format_time(parse_time(text))
    return None if found == _ZERO_TIME else found


def _canonical_micro_time(text: str) -> str | None:
    if len(text) == 27 and text.endswith("Z") and text[19] == ".":
        # As we and others write it, a new one each time: its seconds are known from before.
        fraction, seconds = text[20:26], f"{text[:19]}Z"
        if fraction.isascii() and fraction.isdigit() and _is_canonical(seconds):
            return text
    return _any_micro_time(text)


def _is_canonical(text: str) -> bool:
    try:
        return _canonical_time(text) == text
    except ValueError:
        return False


@lru_cache(maxsize=1024)
def _any_micro_time(text: str) -> str | None:
    found = format_micro_time(parse_time(text))
    return None if found.startswith(_ZERO_TIME[:-1]) else found


def time(value: Any) -> str | None:
    if not isinstance(value, str):
        raise wrong_type(value, "string")
    try:
        return _canonical_time(value)
    except ValueError as error:
        raise GoValueError(_for_layout(error, "2006-01-02T15:04:05Z07:00")) from None


def micro_time(value: Any) -> str | None:
    if not isinstance(value, str):
        raise wrong_type(value, "string")
    try:
        return _canonical_micro_time(value)
    except ValueError as error:
        raise GoValueError(_for_layout(error, "2006-01-02T15:04:05.000000Z07:00")) from None


def _for_layout(error: ValueError, layout: str) -> str:
    return str(error).replace("2006-01-02T15:04:05Z07:00", layout)


def duration(value: Any) -> str:
    if not isinstance(value, str):
        raise wrong_type(value, "string")
    try:
        return format_duration_nanoseconds(parse_duration_nanoseconds(value))
    except ValueError as error:
        raise GoValueError(str(error)) from None


def int_or_string(value: Any) -> int | str:
    if isinstance(value, str):
        return value
    if type(value) is int and INT32_MIN <= value <= INT32_MAX:
        return value
    raise wrong_type(value, "int32")


def base64_text(value: Any) -> str:
    """``[]byte``: checked as Go checks it; the spelling that Go would write."""
    if not isinstance(value, str):
        raise wrong_type(value, "[]uint8")
    try:
        raw = binascii.a2b_base64(value, strict_mode=True)
    except ValueError:
        raw = _lenient_base64(value)
    text = binascii.b2a_base64(raw, newline=False).decode()
    return value if text == value else text


def _lenient_base64(value: str) -> bytes:
    """Go ignores line ends in base64; everything else that fails is an error with a position."""
    position, quantum = 0, 0
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    stripped: list[str] = []
    for position, char in enumerate(value):
        if char in "\r\n":
            continue
        if char == "=":
            rest = value[position:].replace("\r", "").replace("\n", "")
            if quantum < 2 or rest != "=" * (4 - quantum):
                at = position if quantum < 2 else _padding_error(value, position, 4 - quantum)
                raise GoValueError(f"illegal base64 data at input byte {at}")
            stripped.append(rest)
            quantum = 0
            break
        if char not in alphabet:
            at = len(value[:position].encode())
            raise GoValueError(f"illegal base64 data at input byte {at}")
        stripped.append(char)
        quantum = (quantum + 1) % 4
    if quantum:
        raise GoValueError(f"illegal base64 data at input byte {len(value.encode()) - quantum}")
    try:
        return binascii.a2b_base64("".join(stripped))
    except ValueError:
        raise GoValueError(f"illegal base64 data at input byte {position}") from None


def _padding_error(value: str, position: int, wanted: int) -> int:
    """Where Go stops when ``=`` is not followed by exactly the padding that is due."""
    seen = 0
    for offset in range(position, len(value)):
        char = value[offset]
        if char in "\r\n":
            continue
        if char != "=" or seen == wanted:
            return len(value[:offset].encode())
        seen += 1
    return len(value.encode())
