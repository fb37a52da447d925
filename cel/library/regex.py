"""Kubernetes' regular expressions: ``find`` and ``findAll``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pilothouse.cel.interfaces import EvaluationError
from pilothouse.cel.regular_expressions import RegexpError, compile_go, matcher

if TYPE_CHECKING:
    import re
    from collections.abc import Callable, Iterator


def _compiled(pattern: str, text: str) -> re.Pattern[str] | None:
    """None: there is no match, which is found out in linear time."""
    try:
        return compile_go(pattern) if matcher(pattern)(text) else None
    except RegexpError as error:
        raise EvaluationError(f"Illegal regex: {error}") from None


def _find(text: str, pattern: str) -> str:
    compiled = _compiled(pattern, text)
    match = None if compiled is None else compiled.search(text)
    return match[0] if match else ""


def _find_all(text: str, pattern: str, limit: int = -1) -> list[str]:
    found: list[str] = []
    end = -1
    compiled = _compiled(pattern, text)
    for match in compiled.finditer(text) if compiled is not None else ():
        if 0 <= limit <= len(found):
            break
        # Go takes no empty match right after another match.
        if match.end() == match.start() == end:
            continue
        end = match.end()
        found.append(match[0])
    return found


def rows() -> Iterator[tuple[str, str, Callable[..., Any]]]:
    yield "string_find_string", "string|find(string) -> string", _find
    yield "string_find_all_string", "string|findAll(string) -> list(string)", _find_all
    yield (
        "string_find_all_string_int",
        "string|findAll(string, int) -> list(string)",
        _find_all,
    )
