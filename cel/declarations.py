"""Functions as the checker and the compiler see them: overloads with an implementation each.

A library is a table of rows ``(overload id, signature, implementation)``, parsed when the first
environment is made. A signature is ``string.startsWith(string) -> bool`` for a method and
``size(list(A)) -> int`` for a function.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from pilothouse.cel import types
from pilothouse.cel.types import Type

if TYPE_CHECKING:
    from collections.abc import Iterable

Row = tuple[str, str, Callable[..., Any]]
_SIGNATURE = re.compile(r"(?P<name>[^\s()]+)\((?P<args>.*)\) -> (?P<result>.+)")


class Overload:
    """``generic``: it has type parameters. ``call`` takes target and arguments."""

    __slots__ = ("args", "call", "function", "generic", "id", "member", "result")

    def __init__(
        self,
        id_: str,
        function: str,
        member: bool,
        args: tuple[Type, ...],
        result: Type,
        call: Callable[..., Any],
    ) -> None:
        self.id = id_
        self.function = function
        self.member = member
        self.args = args
        self.result = result
        self.call = call
        self.generic = any(map(_has_param, (*args, result)))

    def __repr__(self) -> str:
        return self.id


def _has_param(type_: Type) -> bool:
    return type_.kind == "param" or any(map(_has_param, type_.params))


class Functions:
    """Overloads by the function's name, in the order of their declaration."""

    def __init__(self) -> None:
        self._overloads: dict[str, list[Overload]] = {}

    def add(self, rows: Iterable[Row]) -> None:
        for id_, signature, call in rows:
            overload = _parse(id_, signature, call)
            self._overloads.setdefault(overload.function, []).append(overload)

    def get(self, name: str) -> list[Overload] | None:
        return self._overloads.get(name)


def _split(text: str) -> list[str]:
    """At commas outside parentheses."""
    parts: list[str] = []
    depth, start = 0, 0
    for at, char in enumerate(text):
        if char == "(":
            depth += 1
        elif char == ")":
            depth -= 1
        elif char == "," and depth == 0:
            parts.append(text[start:at].strip())
            start = at + 1
    if text.strip():
        parts.append(text[start:].strip())
    return parts


def _parse(id_: str, signature: str, call: Callable[..., Any]) -> Overload:
    """A method's signature is written ``target.name(...)``; ``|`` marks where the name starts
    when the name has dots or the target has parentheses."""
    head, _, result = signature.rpartition(" -> ")
    target, bar, rest = head.partition("|")
    if not bar:
        target, rest = "", head
    match = _SIGNATURE.fullmatch(f"{rest} -> {result}")
    assert match is not None, signature
    args = [types.parse(part) for part in _split(match["args"])]
    if target:
        args.insert(0, types.parse(target))
    return Overload(id_, match["name"], bool(target), tuple(args), types.parse(result), call)
