"""The syntax tree: what the parser makes, the checker annotates and the compiler reads.

``offset`` is the position in the source (code points) that errors point at. ``type`` and
``overloads`` are the checker's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pilothouse.cel.types import DYN, Type

if TYPE_CHECKING:
    from pilothouse.cel.declarations import Overload


class Expr:
    __slots__ = ("offset", "type")

    def __init__(self, offset: int) -> None:
        self.offset = offset
        self.type: Type = DYN

    def children(self) -> list[Expr]:
        return []


class Literal(Expr):
    __slots__ = ("value",)

    def __init__(self, offset: int, value: Any) -> None:
        super().__init__(offset)
        self.value = value


class Ident(Expr):
    """``constant`` is the value of a name that is a type or a constant."""

    __slots__ = ("constant", "name")

    def __init__(self, offset: int, name: str) -> None:
        super().__init__(offset)
        self.name = name
        self.constant: Any = None


class Select(Expr):
    """``resolved`` is the qualified variable or type that the whole selection names."""

    __slots__ = ("field", "operand", "resolved", "test_only")

    def __init__(self, offset: int, operand: Expr, field: str, test_only: bool = False) -> None:
        super().__init__(offset)
        self.operand = operand
        self.field = field
        self.test_only = test_only
        self.resolved: Ident | None = None

    def children(self) -> list[Expr]:
        return [] if self.resolved is not None else [self.operand]


class Call(Expr):
    __slots__ = ("args", "function", "overloads", "target")

    def __init__(
        self, offset: int, function: str, args: list[Expr], target: Expr | None = None
    ) -> None:
        super().__init__(offset)
        self.function = function
        self.target = target
        self.args = args
        self.overloads: tuple[Overload, ...] = ()

    def operands(self) -> list[Expr]:
        """The target, if any, and the arguments."""
        return self.args if self.target is None else [self.target, *self.args]

    def children(self) -> list[Expr]:
        return self.operands()


class ListExpr(Expr):
    __slots__ = ("elements", "optional")

    def __init__(self, offset: int, elements: list[Expr], optional: frozenset[int]) -> None:
        super().__init__(offset)
        self.elements = elements
        self.optional = optional

    def children(self) -> list[Expr]:
        return self.elements


class Entry:
    """An entry of a map (``key`` is an expression) or of an object (``name``)."""

    __slots__ = ("key", "name", "offset", "optional", "value")

    def __init__(
        self, offset: int, key: Expr | None, name: str, value: Expr, optional: bool
    ) -> None:
        self.offset = offset
        self.key = key
        self.name = name
        self.value = value
        self.optional = optional


class MapExpr(Expr):
    __slots__ = ("entries",)

    def __init__(self, offset: int, entries: list[Entry]) -> None:
        super().__init__(offset)
        self.entries = entries

    def children(self) -> list[Expr]:
        found: list[Expr] = []
        for entry in self.entries:
            if entry.key is not None:
                found.append(entry.key)
            found.append(entry.value)
        return found


class Struct(Expr):
    __slots__ = ("entries", "name")

    def __init__(self, offset: int, name: str, entries: list[Entry]) -> None:
        super().__init__(offset)
        self.name = name
        self.entries = entries

    def children(self) -> list[Expr]:
        return [entry.value for entry in self.entries]


class Comprehension(Expr):
    """A fold over ``range``: all macros with a loop come down to it. ``kind`` says to which
    shape (``all``, ``exists``, ``exists_one``, ``list``, ``map``, ``bind``), for the compiler.
    """

    __slots__ = ("accu", "condition", "init", "kind", "range", "result", "step", "var", "var2")

    def __init__(
        self,
        offset: int,
        kind: str,
        range_: Expr,
        variables: tuple[str, str],
        accu: str,
        init: Expr,
        condition: Expr,
        step: Expr,
        result: Expr,
    ) -> None:
        super().__init__(offset)
        self.kind = kind
        self.range = range_
        self.var, self.var2 = variables
        self.accu = accu
        self.init = init
        self.condition = condition
        self.step = step
        self.result = result

    def children(self) -> list[Expr]:
        return [self.range, self.init, self.condition, self.step, self.result]


def copy(expr: Expr) -> Expr:
    """A deep copy, not yet checked."""
    offset = expr.offset
    if isinstance(expr, Literal):
        return Literal(offset, expr.value)
    if isinstance(expr, Ident):
        return Ident(offset, expr.name)
    if isinstance(expr, Select):
        return Select(offset, copy(expr.operand), expr.field, expr.test_only)
    if isinstance(expr, Call):
        target = None if expr.target is None else copy(expr.target)
        return Call(offset, expr.function, [copy(arg) for arg in expr.args], target)
    if isinstance(expr, ListExpr):
        return ListExpr(offset, [copy(each) for each in expr.elements], expr.optional)
    if isinstance(expr, MapExpr):
        return MapExpr(offset, [_copy_entry(entry) for entry in expr.entries])
    if isinstance(expr, Struct):
        return Struct(offset, expr.name, [_copy_entry(entry) for entry in expr.entries])
    assert isinstance(expr, Comprehension)
    return Comprehension(
        offset,
        expr.kind,
        copy(expr.range),
        (expr.var, expr.var2),
        expr.accu,
        copy(expr.init),
        copy(expr.condition),
        copy(expr.step),
        copy(expr.result),
    )


def _copy_entry(entry: Entry) -> Entry:
    key = None if entry.key is None else copy(entry.key)
    return Entry(entry.offset, key, entry.name, copy(entry.value), entry.optional)
