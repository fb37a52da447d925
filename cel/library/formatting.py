"""``'%s: %d'.format([...])``: cel-go's first formatter, with the numbers of en_US."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from pilothouse.cel.interfaces import EvaluationError
from pilothouse.cel.values import Duration, Timestamp, TypeValue, Uint, type_name

if TYPE_CHECKING:
    from collections.abc import Callable

_SUPERSCRIPTS = str.maketrans("0123456789-", "⁰¹²³⁴⁵⁶⁷⁸⁹⁻")
_SPECIAL = ("NaN", "Infinity", "-Infinity")
_PRECISION = 6
_NUMBERS = "clause can only be used on doubles"
MESSAGES = {
    "s": "string clause can only be used on strings, bools, bytes, ints, doubles, maps, lists, "
    "types, durations, and timestamps",
    "d": "decimal clause can only be used on integers",
    "f": f"fixed-point {_NUMBERS}",
    "e": f"scientific {_NUMBERS}",
    "b": "only integers and bools can be formatted as binary",
    "x": "only integers, byte buffers, and strings can be formatted as hex",
    "X": "only integers, byte buffers, and strings can be formatted as hex",
    "o": "octal clause can only be used on integers",
}
"""What a clause says of a value that it can't print."""


def _failed(clause: str, value: Any) -> EvaluationError:
    text = f"error during formatting: {MESSAGES[clause]}, was given {type_name(value)}"
    return EvaluationError(text)


def format_text(template: str, values: list[Any]) -> str:
    out: list[str] = []
    at, used, end = 0, 0, len(template)
    while at < end:
        char = template[at]
        if char != "%":
            out.append(char)
            at += 1
            continue
        if template.startswith("%%", at):
            out.append("%")
            at += 2
            continue
        if used >= len(values):
            raise EvaluationError(f"index {used} out of range")
        if at + 1 >= end:
            raise EvaluationError("unexpected end of string")
        at, clause, precision = parse_clause(template, at + 1)
        out.append(_CLAUSES[clause](values[used], precision, clause))
        used += 1
    return "".join(out)


def parse_clause(template: str, at: int) -> tuple[int, str, int]:
    """What follows a ``%``: where it ends, its letter, its precision.

    :raises EvaluationError:
    """
    precision = _PRECISION
    if template[at] == ".":
        start = at + 1
        at = start
        while at < len(template) and template[at] in "0123456789":
            at += 1
        prefix = "could not parse formatting clause: error while parsing precision: "
        if at >= len(template):
            raise EvaluationError(prefix + "could not find end of precision specifier")
        if at == start:
            text = 'error while converting precision to integer: strconv.Atoi: parsing "": '
            raise EvaluationError(f"{prefix}{text}invalid syntax")
        precision = min(int(template[start:at][:6]), 1000)
    clause = template[at]
    if clause not in _CLAUSES:
        text = f'could not parse formatting clause: unrecognized formatting clause "{clause}"'
        raise EvaluationError(text)
    return at + 1, clause, precision


def _string(value: Any, _: int = 0, __: str = "s") -> str:
    from pilothouse.cel.library.standard import to_string

    kind = type(value)
    if kind is list or kind is tuple:
        return f"[{', '.join(map(_nested, value))}]"
    if isinstance(value, dict):
        entries = sorted((_key(key), _nested(each)) for key, each in value.items())
        return "{" + ", ".join(f"{key}:{each}" for key, each in entries) + "}"
    if value is None:
        return "null"
    if kind is TypeValue:
        return str(value.name)
    if kind in (int, Uint, float, bool, str, bytes, Timestamp, Duration):
        return to_string(value)
    raise _failed("s", value)


def _nested(value: Any) -> str:
    kind = type(value)
    if kind is str:
        return _quoted(value)
    if kind is bytes:
        return "b" + _quoted(_string(value))
    if kind is float:
        if value != value or value in (float("inf"), float("-inf")):
            return _quoted({"nan": "NaN", "inf": "+Inf", "-inf": "-Inf"}[str(value)])
        return f"{value:.6f}"
    if kind is Timestamp:
        return f"timestamp({_quoted(_string(value))})"
    if kind is Duration:
        return f"duration({_quoted(_string(value))})"
    return _string(value)


def _key(key: Any) -> str:
    return _quoted(key) if type(key) is str else _string(key)


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _decimal(value: Any, _: int, __: str) -> str:
    if type(value) in (int, Uint):
        return str(int(value))
    raise _failed("d", value)


def _number(value: Any, clause: str) -> float:
    if type(value) is float:
        return value
    if type(value) is str and value in _SPECIAL:
        return float(value)
    raise _failed(clause, value)


def _not_finite(number: float) -> str:
    return "NaN" if number != number else ("∞" if number > 0 else "-∞")


def _fixed(value: Any, precision: int, _: str) -> str:
    number = _number(value, "f")
    if number != number or abs(number) == float("inf"):
        return _not_finite(number)
    return f"{number:,.{precision}f}"


def _scientific(value: Any, precision: int, _: str) -> str:
    number = _number(value, "e")
    if number != number or abs(number) == float("inf"):
        return _not_finite(number)
    mantissa, _, exponent = f"{number:.{precision}e}".partition("e")
    power = int(exponent)
    shown = f"{'-' if power < 0 else ''}{abs(power):02d}".translate(_SUPERSCRIPTS)
    return f"{mantissa}\u00d710{shown}"


def _binary(value: Any, _: int, __: str) -> str:
    if type(value) in (int, Uint, bool):
        return f"{int(value):b}"
    raise _failed("b", value)


def _hex(value: Any, _: int, clause: str) -> str:
    if type(value) in (int, Uint):
        return f"{int(value):{clause}}"
    if type(value) is str:
        value = value.encode("utf-8", "surrogatepass")
    if type(value) is not bytes:
        raise _failed("x", value)
    shown = value.hex()
    return shown.upper() if clause == "X" else shown


def _octal(value: Any, _: int, __: str) -> str:
    if type(value) in (int, Uint):
        return f"{int(value):o}"
    raise _failed("o", value)


_CLAUSES: dict[str, Callable[[Any, int, str], str]] = {
    "s": _string,
    "d": _decimal,
    "f": _fixed,
    "e": _scientific,
    "b": _binary,
    "x": _hex,
    "X": _hex,
    "o": _octal,
}
