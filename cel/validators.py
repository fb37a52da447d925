"""What is wrong with literals however they are used: times and regular expressions of calls."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from pilothouse.cel import ast
from pilothouse.cel.interfaces import EvaluationError
from pilothouse.cel.library.formatting import MESSAGES, parse_clause
from pilothouse.cel.library.standard import to_duration, to_timestamp
from pilothouse.cel.regular_expressions import RegexpError, compile_go
from pilothouse.cel.types import unwrapped

if TYPE_CHECKING:
    from pilothouse.cel.source import Source
    from pilothouse.cel.types import Type

_CONVERSIONS: dict[str, Callable[[Any], object]] = {
    "duration": to_duration,
    "timestamp": to_timestamp,
}
_EXEMPT = "format"
"""The arguments of this function may have any types."""


def validate(source: Source, tree: ast.Expr) -> None:
    """Reports what can never be evaluated, and literals of parts with different types."""
    stack = [(tree, False)]
    while stack:
        expr, exempt = stack.pop()
        if isinstance(expr, ast.Call):
            exempt = exempt or expr.function == _EXEMPT
            if expr.function in _CONVERSIONS and expr.target is None:
                _conversion(source, expr)
            elif expr.function == "matches":
                _regex(source, expr)
            elif expr.function == "format":
                _format(source, expr)
        elif isinstance(expr, ast.ListExpr) and not exempt:
            _same_elements(source, expr)
        elif isinstance(expr, ast.MapExpr) and not exempt:
            _same_entries(source, expr)
        stack.extend((child, exempt) for child in expr.children())


def _same_elements(source: Source, expr: ast.ListExpr) -> None:
    first: Type | None = None
    for at, element in enumerate(expr.elements):
        type_ = unwrapped(element.type)[0] if at in expr.optional else element.type
        if first is None:
            first = type_
        elif type_ != first:
            _mismatch(source, element, first, type_)
            return


def _same_entries(source: Source, expr: ast.MapExpr) -> None:
    first: tuple[Type, Type] | None = None
    for entry in expr.entries:
        assert entry.key is not None
        value = unwrapped(entry.value.type)[0] if entry.optional else entry.value.type
        if first is None:
            first = (entry.key.type, value)
            continue
        if entry.key.type != first[0]:
            _mismatch(source, entry.key, first[0], entry.key.type)
        if value != first[1]:
            _mismatch(source, entry.value, first[1], value)


def _mismatch(source: Source, expr: ast.Expr, expected: Type, found: Type) -> None:
    text = f"expected type '{expected.text}' but found '{found.text}'"
    source.report(expr.offset, text)


def _conversion(source: Source, expr: ast.Call) -> None:
    arg = expr.args[0] if len(expr.args) == 1 else None
    if not isinstance(arg, ast.Literal):
        return
    try:
        _CONVERSIONS[expr.function](arg.value)
    except EvaluationError:
        source.report(arg.offset, f"invalid {expr.function} argument")


_CLAUSES = {
    "d": ("int", "uint"),
    "f": ("double", "string"),
    "e": ("double", "string"),
    "b": ("int", "uint", "bool"),
    "x": ("int", "uint", "string", "bytes"),
    "X": ("int", "uint", "string", "bytes"),
    "o": ("int", "uint"),
    "s": ("list map int uint double bool string timestamp bytes duration type null").split(),
}


def _format(source: Source, expr: ast.Call) -> None:
    """A constant template for a list that is written out: clauses and types must fit."""
    template, values = expr.target, expr.args[0] if len(expr.args) == 1 else None
    if not isinstance(template, ast.Literal) or not isinstance(template.value, str):
        return
    if not isinstance(values, ast.ListExpr):
        return
    try:
        clauses = _clauses(template.value, len(values.elements))
    except EvaluationError as error:
        source.report(expr.offset, str(error))
        return
    for clause, value in zip(clauses, values.elements, strict=False):
        kind = value.type.kind
        if kind != "dyn" and kind not in _CLAUSES[clause]:
            text = f"error during formatting: {MESSAGES[clause]}, was given {value.type.name}"
            source.report(value.offset, text)
            return
    count = len(values.elements)
    if count > len(clauses):
        source.report(
            expr.offset,
            f"too many arguments supplied to string.format (expected {len(clauses)}, got {count})",
        )


def _clauses(template: str, count: int) -> list[str]:
    found: list[str] = []
    at = 0
    while at < len(template):
        if template[at] != "%":
            at += 1
        elif template.startswith("%%", at):
            at += 2
        else:
            if at + 1 >= len(template):
                raise EvaluationError("unexpected end of string")
            if len(found) >= count:
                raise EvaluationError(f"index {len(found)} out of range")
            at, clause, _ = parse_clause(template, at + 1)
            found.append(clause)
    return found


def _regex(source: Source, expr: ast.Call) -> None:
    pattern = expr.args[-1] if expr.args else None
    if not isinstance(pattern, ast.Literal) or not isinstance(pattern.value, str):
        return
    try:
        compile_go(pattern.value)
    except RegexpError:
        source.report(pattern.offset, "invalid matches argument")


def pattern_error(tree: ast.Expr) -> str:
    """Why a pattern of ``find`` or ``findAll`` is none; empty when all are fine."""
    stack = [tree]
    while stack:
        expr = stack.pop()
        stack.extend(expr.children())
        if isinstance(expr, ast.Call) and expr.function in ("find", "findAll") and expr.args:
            pattern = expr.args[0]
            if isinstance(pattern, ast.Literal) and isinstance(pattern.value, str):
                try:
                    compile_go(pattern.value)
                except RegexpError as error:
                    return str(error)
    return ""
