"""JSON as Go reads it, for what orjson cannot: error texts, repeated keys, lone surrogates.

The usual body never comes here: ``decode.py`` tries orjson first.
"""

from __future__ import annotations

import json
import re
from typing import Any

from pilothouse.apiserver.codec.strict import Pairs

MAX_DEPTH = 10000
"""Go's limit. (``decode.py`` refuses far less deep values as if this were reached.)"""

_SPACE = b" \t\r\n"
_NUMBER = re.compile(rb"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")
_PLAIN_TEXT = re.compile(rb'[^"\\\x00-\x1f]*')
_HEX = b"0123456789abcdefABCDEF"
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")
END = "unexpected end of JSON input"


class JSONSyntaxError(ValueError):
    """With the text of Go's scanner."""


def syntax_error(data: bytes) -> str | None:
    """Go's complaint about ``data``, None when it is valid JSON."""
    try:
        _Scanner(data).document()
    except JSONSyntaxError as error:
        return str(error)
    return None


def loads(data: bytes) -> Any:
    """Any valid JSON, repeated keys in :class:`Pairs`. :raises JSONSyntaxError: Go's text."""
    message = syntax_error(data)
    if message is not None:
        raise JSONSyntaxError(message)
    text = data.decode("utf-8", "replace")
    try:
        value = json.loads(text, object_pairs_hook=_object, parse_int=_integer, parse_float=_float)
    except RecursionError:
        raise JSONSyntaxError("exceeded max depth") from None
    return _without_surrogates(value) if _LONE_SURROGATE.search(_escaped(text)) else value


def has_repeated_keys(data: bytes) -> bool:
    """For valid JSON; cheap enough for every body whose length leaves a doubt."""
    found = False

    def hook(pairs: list[tuple[str, Any]]) -> None:
        nonlocal found
        if not found and len(dict(pairs)) != len(pairs):
            found = True

    try:
        json.loads(data.decode("utf-8", "replace"), object_pairs_hook=hook)
    except (ValueError, RecursionError):
        return False
    return found


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    return found if len(found) == len(pairs) else Pairs(pairs)


def _integer(digits: str) -> int | float:
    """Go keeps integers that fit 64 bits and makes a float of the others."""
    if len(digits) < 19 or (-(1 << 63) <= int(digits[:25]) < 1 << 63 and len(digits) <= 20):
        return int(digits)
    return _float(digits)


def _float(text: str) -> float:
    value = float(text)
    if value in (float("inf"), float("-inf")):
        raise JSONSyntaxError(f"json: cannot unmarshal number {text} into Go value of type float64")
    return value


def _escaped(text: str) -> str:
    return "\ud800" if re.search(r"\\u[dD][89a-fA-F]", text) else text


def _without_surrogates(value: Any) -> Any:
    if isinstance(value, str):
        return _LONE_SURROGATE.sub("\ufffd", value)
    if isinstance(value, Pairs):
        return Pairs([(_without_surrogates(k), _without_surrogates(v)) for k, v in value.pairs])
    if isinstance(value, dict):
        return {_without_surrogates(k): _without_surrogates(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_without_surrogates(item) for item in value]
    return value


class _Scanner:
    """Go's state machine, one method a state group; positions only, no values."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    def fail(self, context: str) -> JSONSyntaxError:
        if self.at >= len(self.data):
            return JSONSyntaxError(END)
        return JSONSyntaxError(f"invalid character {_quote(self.data[self.at])} {context}")

    def peek(self) -> int:
        while self.at < len(self.data) and self.data[self.at] in _SPACE:
            self.at += 1
        return self.data[self.at] if self.at < len(self.data) else -1

    def document(self) -> None:
        """Nesting is kept on a list, so that depth costs no stack."""
        open_containers: list[str] = []
        if self.peek() < 0:
            raise JSONSyntaxError(END)
        self.value(open_containers)
        while open_containers:
            self.after_value(open_containers)
        if self.peek() >= 0:
            raise self.fail("after top-level value")

    def value(self, stack: list[str]) -> None:
        """Up to the end of a scalar or of an empty container, or into the first element."""
        while (char := self.peek()) in (0x7B, 0x5B):
            if len(stack) >= MAX_DEPTH:
                raise JSONSyntaxError("exceeded max depth")
            self.at += 1
            stack.append("}" if char == 0x7B else "]")
            if self.peek() == ord(stack[-1]):
                self.at += 1
                stack.pop()
                return
            if char == 0x7B:
                self.key()
        if char == 0x22:
            self.string()
        elif char == 0x2D or 0x30 <= char <= 0x39:
            self.number()
        elif char in (0x74, 0x66, 0x6E):
            self.literal({0x74: b"true", 0x66: b"false", 0x6E: b"null"}[char])
        else:
            raise self.fail("looking for beginning of value")

    def after_value(self, stack: list[str]) -> None:
        char, closing = self.peek(), stack[-1]
        if char == ord(closing):
            self.at += 1
            stack.pop()
        elif char == 0x2C:
            self.at += 1
            if closing == "}":
                self.peek()
                self.key()
            self.value(stack)
        else:
            where = "object key:value pair" if closing == "}" else "array element"
            raise self.fail(f"after {where}")

    def key(self) -> None:
        if self.peek() != 0x22:
            raise self.fail("looking for beginning of object key string")
        self.string()
        if self.peek() != 0x3A:
            raise self.fail("after object key")
        self.at += 1

    def string(self) -> None:
        self.at += 1
        while True:
            match = _PLAIN_TEXT.match(self.data, self.at)
            self.at = match.end() if match else self.at
            if self.at >= len(self.data) or self.data[self.at] < 0x20:
                raise self.fail("in string literal")
            if self.data[self.at] == 0x22:
                self.at += 1
                return
            self.escape()

    def escape(self) -> None:
        self.at += 1
        if self.at >= len(self.data) or self.data[self.at] not in b'bfnrt\\/"u':
            raise self.fail("in string escape code")
        hexadecimal = self.data[self.at] == 0x75
        self.at += 1
        for _ in range(4 if hexadecimal else 0):
            if self.at >= len(self.data) or self.data[self.at] not in _HEX:
                raise self.fail("in \\u hexadecimal character escape")
            self.at += 1

    def number(self) -> None:
        match = _NUMBER.match(self.data, self.at)
        if match is None:
            self.at += 1
            raise self.fail("in numeric literal")
        self.at = match.end()
        rest = self.data[self.at : self.at + 3]
        if rest[:1] == b"." and b"." not in match[0] and b"e" not in match[0].lower():
            self.at += 1
            raise self.fail("after decimal point in numeric literal")
        if rest[:1] in (b"e", b"E") and b"e" not in match[0].lower():
            self.at += 2 if rest[1:2] in (b"+", b"-") else 1
            raise self.fail("in exponent of numeric literal")

    def literal(self, word: bytes) -> None:
        for char in word:
            if self.at >= len(self.data) or self.data[self.at] != char:
                raise self.fail(f"in literal {word.decode()} (expecting {chr(char)!r})")
            self.at += 1


def _quote(char: int) -> str:
    if char == 0x27:
        return r"'\''"
    if char == 0x22:
        return "'\"'"
    if 0x20 <= char < 0x7F:
        return f"'{chr(char)}'"
    known = {7: r"\a", 8: r"\b", 12: r"\f", 10: r"\n", 13: r"\r", 9: r"\t", 11: r"\v", 92: r"\\"}
    if char in known:
        return f"'{known[char]}'"
    if char < 0x80:
        return f"'\\x{char:02x}'"
    return f"'{chr(char)}'" if char > 0xA0 and char != 0xAD else f"'\\u{char:04x}'"
