"""What string and bytes literals mean: quotes removed, escapes replaced."""

from __future__ import annotations

_PLAIN = {
    "a": "\a",
    "b": "\b",
    "f": "\f",
    "n": "\n",
    "r": "\r",
    "t": "\t",
    "v": "\v",
    "\\": "\\",
    "'": "'",
    '"': '"',
    "`": "`",
    "?": "?",
}
_DIGITS = {"x": 2, "X": 2, "u": 4, "U": 8}


def _body(text: str) -> tuple[str, bool]:
    """Without prefix and quotes; whether it was raw."""
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    raw = text[0] in "rR"
    if raw:
        text = text[1:]
    triple = len(text) >= 6 and text[:3] in ("'''", '"""')
    return (text[3:-3] if triple else text[1:-1]), raw


def unescape(text: str) -> str:
    """A string literal's value.

    :raises ValueError: with cel-go's text.
    """
    body, raw = _body(text)
    if raw or "\\" not in body:
        return body
    out: list[str] = []
    at = 0
    while at < len(body):
        if body[at] != "\\":
            out.append(body[at])
            at += 1
            continue
        code, at = _escape(body, at)
        if code > 0x10FFFF or 0xD800 <= code <= 0xDFFF:
            raise ValueError("invalid unicode code point")
        out.append(chr(code))
    return "".join(out)


def unescape_bytes(text: str) -> bytes:
    """A bytes literal's value; ``text`` is without the ``b``.

    :raises ValueError: with cel-go's text.
    """
    body, raw = _body(text)
    if raw or "\\" not in body:
        return body.encode()
    out = bytearray()
    at = 0
    while at < len(body):
        if body[at] != "\\":
            out += body[at].encode()
            at += 1
            continue
        if body[at + 1] in "uU":
            raise ValueError("unable to unescape string")
        code, at = _escape(body, at)
        out.append(code & 0xFF)
    return bytes(out)


def _escape(body: str, at: int) -> tuple[int, int]:
    char = body[at + 1]
    plain = _PLAIN.get(char)
    if plain is not None:
        return ord(plain), at + 2
    digits = _DIGITS.get(char)
    if digits is not None:
        return int(body[at + 2 : at + 2 + digits], 16), at + 2 + digits
    return int(body[at + 1 : at + 4], 8), at + 4
