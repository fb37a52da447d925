"""What is wrong with literals however they are used: times and regular expressions of calls."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pilothouse.cel import ast
from pilothouse.cel.interfaces import EvaluationError
from pilothouse.cel.library.standard import to_duration, to_timestamp
from pilothouse.cel.regular_expressions import RegexpError, compile_go

if TYPE_CHECKING:
    from pilothouse.cel.source import Source

_CONVERSIONS = {"duration": to_duration, "timestamp": to_timestamp}


def validate(source: Source, tree: ast.Expr) -> None:
    """Reports what can never be evaluated."""
    stack = [tree]
    while stack:
        expr = stack.pop()
        stack.extend(expr.children())
        if isinstance(expr, ast.Call):
            if expr.function in _CONVERSIONS and expr.target is None:
                _conversion(source, expr)
            elif expr.function == "matches":
                _regex(source, expr)


def _literal(expr: ast.Expr) -> str | None:
    if isinstance(expr, ast.Literal) and isinstance(expr.value, str):
        return expr.value
    return None


def _conversion(source: Source, expr: ast.Call) -> None:
    text = _literal(expr.args[0]) if len(expr.args) == 1 else None
    if text is None:
        return
    try:
        _CONVERSIONS[expr.function](text)
    except EvaluationError:
        source.report(expr.args[0].offset, f"invalid {expr.function} argument")


def _regex(source: Source, expr: ast.Call) -> None:
    pattern = _literal(expr.args[-1]) if expr.args else None
    if pattern is None:
        return
    try:
        compile_go(pattern)
    except RegexpError:
        source.report(expr.args[-1].offset, "invalid matches argument")
