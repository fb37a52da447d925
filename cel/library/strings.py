"""cel-go's string extension, version 2, which Kubernetes uses. Offsets count code points."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pilothouse.cel.interfaces import EvaluationError
from pilothouse.cel.library.formatting import format_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_GO_SPACE = "\t\n\v\f\r \x85\xa0\u1680\u2028\u2029\u202f\u205f\u3000" + "".join(
    map(chr, range(0x2000, 0x200B))
)
_QUOTED = str.maketrans(
    {
        "\a": "\\a",
        "\b": "\\b",
        "\f": "\\f",
        "\n": "\\n",
        "\r": "\\r",
        "\t": "\\t",
        "\v": "\\v",
        "\\": "\\\\",
        '"': '\\"',
    }
)


def _out_of_range(index: int) -> EvaluationError:
    return EvaluationError(f"index out of range: {index}")


def _char_at(text: str, index: int) -> str:
    if not 0 <= index <= len(text):
        raise _out_of_range(index)
    return text[index : index + 1]


def _index_of(text: str, part: str, offset: int = 0) -> int:
    if offset < 0:
        raise _out_of_range(offset)
    if not part:
        return min(offset, len(text))
    return text.find(part, offset)


def _last_index_of(text: str, part: str) -> int:
    return text.rfind(part)


def _last_index_before(text: str, part: str, offset: int) -> int:
    if offset < 0:
        raise _out_of_range(offset)
    if not part:
        return min(offset, len(text))
    if offset >= len(text):
        return -1
    return text.rfind(part, 0, offset + len(part))


def _ascii(text: str, change: Callable[[str], str]) -> str:
    if text.isascii():
        return change(text)
    return "".join(change(char) if char.isascii() else char for char in text)


def _lower(text: str) -> str:
    return _ascii(text, str.lower)


def _upper(text: str) -> str:
    return _ascii(text, str.upper)


def _replace(text: str, old: str, new: str, count: int = -1) -> str:
    return text.replace(old, new, max(count, -1))


def _split(text: str, separator: str, count: int = -1) -> list[str]:
    """strings.SplitN"""
    if count == 0:
        return []
    if not separator:
        parts = list(text)
        if 0 < count < len(parts):
            parts[count - 1 :] = ["".join(parts[count - 1 :])]
        return parts
    return text.split(separator, count - 1 if count > 0 else -1)


def _substring(text: str, start: int, end: int | None = None) -> str:
    if end is not None and start > end:
        raise EvaluationError(f"invalid substring range. start: {start}, end: {end}")
    if not 0 <= start <= len(text):
        raise _out_of_range(start)
    if end is not None and not 0 <= end <= len(text):
        raise _out_of_range(end)
    return text[start:end]


def _trim(text: str) -> str:
    return text.strip(_GO_SPACE)


def _join(parts: list[Any], separator: str = "") -> str:
    for part in parts:
        if type(part) is not str:
            raise EvaluationError(f"join: invalid input: {part}")
    return separator.join(parts)


def _quote(text: str) -> str:
    return f'"{text.translate(_QUOTED)}"'


def rows() -> Iterator[tuple[str, str, Callable[..., Any]]]:
    yield "string_char_at_int", "string|charAt(int) -> string", _char_at
    yield "string_index_of_string", "string|indexOf(string) -> int", _index_of
    yield "string_index_of_string_int", "string|indexOf(string, int) -> int", _index_of
    yield "string_last_index_of_string", "string|lastIndexOf(string) -> int", _last_index_of
    yield (
        "string_last_index_of_string_int",
        "string|lastIndexOf(string, int) -> int",
        _last_index_before,
    )
    yield "string_lower_ascii", "string|lowerAscii() -> string", _lower
    yield "string_upper_ascii", "string|upperAscii() -> string", _upper
    yield "string_replace_string_string", "string|replace(string, string) -> string", _replace
    yield (
        "string_replace_string_string_int",
        "string|replace(string, string, int) -> string",
        _replace,
    )
    yield "string_split_string", "string|split(string) -> list(string)", _split
    yield "string_split_string_int", "string|split(string, int) -> list(string)", _split
    yield "string_substring_int", "string|substring(int) -> string", _substring
    yield "string_substring_int_int", "string|substring(int, int) -> string", _substring
    yield "string_trim", "string|trim() -> string", _trim
    yield "string_format", "string|format(list(dyn)) -> string", format_text
    yield "strings_quote", "strings.quote(string) -> string", _quote
    yield "list_join", "list(string)|join() -> string", _join
    yield "list_join_string", "list(string)|join(string) -> string", _join
