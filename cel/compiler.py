"""From a checked tree to Python closures.

A closure takes the frame, a list: what has been spent, the limit, the variables, and what folds
bind. Closures for what rules do most (a field of a variable, comparisons) are made specially;
each adds to the cost what cel-go would count.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pilothouse.cel import ast, costs
from pilothouse.cel.calls import CallCompiler, is_attribute
from pilothouse.cel.folds import FoldCompiler
from pilothouse.cel.interfaces import EvaluationError, InstantiationError
from pilothouse.cel.operators import no_overload
from pilothouse.cel.types import unwrapped
from pilothouse.cel.values import NONE, Optional, TypedObject

Frame = list[Any]
Closure = Callable[[Frame], Any]

MISSING = object()
"""A variable that the activation does not have."""
SPENT, LIMIT, FIRST = 0, 1, 2
_KEY_TYPES = frozenset(("str", "int", "bool", "Uint"))


class Compiler(CallCompiler, FoldCompiler):
    """Compiles one expression; ``variables`` are the used ones, in the frame's order."""

    def __init__(self) -> None:
        self.variables: list[str] = []
        self.constants: dict[int, Any] = {}
        """Values of expressions, by identity, that are always the same."""
        self._slots: dict[str, int] = {}
        self._locals: list[dict[str, int]] = []
        self.size = 0

    def compile_root(self, expr: ast.Expr) -> Closure:
        self._collect(expr, ())
        self._slots = {name: FIRST + at for at, name in enumerate(self.variables)}
        self.size = FIRST + len(self.variables)
        return self.compile(expr)

    def _collect(self, expr: ast.Expr, bound: tuple[str, ...]) -> None:
        """The variables that ``expr`` uses."""
        if isinstance(expr, ast.Select) and expr.resolved is not None:
            expr = expr.resolved
        if isinstance(expr, ast.Ident):
            if expr.constant is None and expr.name not in bound:
                if expr.name not in self.variables:
                    self.variables.append(expr.name)
            return
        if isinstance(expr, ast.Comprehension):
            self._collect(expr.range, bound)
            self._collect(expr.init, bound)
            inner = (*bound, expr.accu)
            self._collect(expr.result, inner)
            inner = (*inner, expr.var, expr.var2)
            self._collect(expr.condition, inner)
            self._collect(expr.step, inner)
            return
        for child in expr.children():
            self._collect(child, bound)

    def compile(self, expr: ast.Expr) -> Closure:
        if isinstance(expr, ast.Call):
            return self.call(expr)
        if isinstance(expr, ast.Ident):
            return self._ident(expr)
        if isinstance(expr, ast.Select):
            return self._select(expr)
        if isinstance(expr, ast.Literal):
            return self.constant(expr, expr.value)
        if isinstance(expr, ast.ListExpr):
            return self._list(expr)
        if isinstance(expr, ast.MapExpr):
            return self._map(expr)
        if isinstance(expr, ast.Struct):
            return self._struct(expr)
        assert isinstance(expr, ast.Comprehension)
        return self.fold(expr)

    def constant(self, expr: ast.Expr, value: Any) -> Closure:
        self.constants[id(expr)] = value
        return lambda f: value

    # Names.

    def bind(self, *names: str) -> list[int]:
        """Slots of their own for names that an expression binds; ``unbind`` ends their scope."""
        scope: dict[str, int] = {}
        slots: list[int] = []
        for name in names:
            scope[name] = self.size
            slots.append(self.size)
            self.size += 1
        self._locals.append(scope)
        return slots

    def unbind(self) -> None:
        self._locals.pop()

    def local(self, name: str) -> int | None:
        for scope in reversed(self._locals):
            if name in scope:
                return scope[name]
        return None

    def _ident(self, expr: ast.Ident) -> Closure:
        if expr.constant is not None:
            return self.constant(expr, expr.constant)
        slot = self.local(expr.name)
        if slot is not None:
            return _local(slot)
        return _variable(self._slots[expr.name], expr.name)

    def _select(self, expr: ast.Select) -> Closure:
        if expr.resolved is not None:
            return self._ident(expr.resolved)
        operand, key = expr.operand, expr.field
        type_, is_optional = unwrapped(operand.type)
        known = type_.field(key)
        if known is not None:
            key = known.name
        inner = self.compile(operand)
        # What has a schema has no nulls: they are as good as missing.
        nulls = type_.schema is None or type_.kind != "object"
        if expr.test_only:
            return _has(inner, key, nulls, 0 if is_attribute(operand) else 1)
        if is_optional:
            return _select_of_optional(inner, key, nulls)
        extra = 0 if is_attribute(operand) else 1
        select = _select(inner, key, extra + 1) if nulls else _select_field(inner, key, extra + 1)
        if isinstance(operand, ast.Ident) and operand.constant is None:
            slot = self.local(operand.name)
            if slot is None:
                slot = self._slots[operand.name]
            return _select_of_variable(slot, key, select)
        return select

    # Literals with parts.

    def _list(self, expr: ast.ListExpr) -> Closure:
        parts = [self.compile(each) for each in expr.elements]
        constants = self.constants
        if not expr.optional and all(id(each) in constants for each in expr.elements):
            return self.constant(expr, [constants[id(each)] for each in expr.elements])
        if expr.optional:
            return _list_with_optionals(parts, expr.optional)

        def make(f: Frame) -> Any:
            f[0] += costs.LIST_COST
            return [part(f) for part in parts]

        return make

    def _map(self, expr: ast.MapExpr) -> Closure:
        entries: list[tuple[Closure, Closure, bool]] = []
        for entry in expr.entries:
            assert entry.key is not None
            entries.append((self.compile(entry.key), self.compile(entry.value), entry.optional))

        def make(f: Frame) -> Any:
            f[0] += costs.MAP_COST
            result: dict[Any, Any] = {}
            for key_of, value_of, optional in entries:
                key, value = key_of(f), value_of(f)
                if optional:
                    if not isinstance(value, Optional):
                        text = f"cannot initialize optional entry '{key}' from non-optional"
                        raise EvaluationError(text)
                    if not value.has_value:
                        continue
                    value = value.value
                if type(key).__name__ not in _KEY_TYPES:
                    raise EvaluationError("unsupported key type")
                result[key] = value
            return result

        if all(id(each) in self.constants for each in expr.children()):
            try:
                return self.constant(expr, make([0, 0]))
            except EvaluationError as error:
                raise InstantiationError(str(error)) from None
        return make

    def _struct(self, expr: ast.Struct) -> Closure:
        name = expr.name
        fields: list[tuple[str, Closure, bool]] = []
        for entry in expr.entries:
            known = expr.type.field(entry.name)
            key = entry.name if known is None else known.name
            fields.append((key, self.compile(entry.value), entry.optional))

        def make(f: Frame) -> Any:
            f[0] += costs.STRUCT_COST
            result: dict[str, Any] = {}
            for key, value_of, optional in fields:
                value = value_of(f)
                if optional:
                    if not isinstance(value, Optional):
                        text = f"cannot initialize optional entry '{key}' from non-optional"
                        raise EvaluationError(text)
                    if not value.has_value:
                        continue
                    value = value.value
                result[key] = value
            return TypedObject(name, result)

        return make


def _local(slot: int) -> Closure:
    def get(f: Frame) -> Any:
        f[0] += 1
        return f[slot]

    return get


def _variable(slot: int, name: str) -> Closure:
    def get(f: Frame) -> Any:
        f[0] += 1
        value = f[slot]
        if value is MISSING:
            raise EvaluationError(f"no such attribute(s): {name}")
        return value

    return get


def _select_of_variable(slot: int, key: str, slow: Closure) -> Closure:
    def select(f: Frame) -> Any:
        value = f[slot]
        if type(value) is dict:
            found = value.get(key)
            if found is not None:
                f[0] += 2
                return found
        return slow(f)

    return select


def _select(inner: Closure, key: str, cost: int) -> Closure:
    def select(f: Frame) -> Any:
        f[0] += cost
        value = inner(f)
        if type(value) is dict and key in value:
            return value[key]
        return selected(value, key)

    return select


def _select_field(inner: Closure, key: str, cost: int) -> Closure:
    def select(f: Frame) -> Any:
        f[0] += cost
        value = selected(inner(f), key)
        if value is None:
            raise EvaluationError(f"no such key: {key}")
        return value

    return select


def _select_of_optional(inner: Closure, key: str, nulls: bool) -> Closure:
    def select(f: Frame) -> Any:
        found = optional_selected(inner(f), key, nulls)
        if found.has_value:
            f[0] += 1
        return found

    return select


def selected(value: Any, key: str) -> Any:
    """``value.key``: what is not the usual case.

    :raises EvaluationError:
    """
    if isinstance(value, dict):
        try:
            return value[key]
        except KeyError:
            raise EvaluationError(f"no such key: {key}") from None
    if isinstance(value, Optional):
        return optional_selected(value, key, True)
    if isinstance(value, (list, tuple)):
        raise EvaluationError("unsupported index type 'string' in list")
    raise EvaluationError(f"no such key: {key}")


def optional_selected(value: Any, key: str, nulls: bool) -> Optional:
    """``value.?key``; without ``nulls`` what is null is missing."""
    if isinstance(value, Optional):
        if not value.has_value:
            return NONE
        value = value.value
    if isinstance(value, dict):
        if key not in value or (not nulls and value[key] is None):
            return NONE
        return Optional(value[key])
    if value is None or isinstance(value, (bool, int, float, str, bytes, list, tuple)):
        raise no_overload()
    return NONE


def _has(inner: Closure, key: str, nulls: bool, cost: int) -> Closure:
    def has(f: Frame) -> bool:
        f[0] += cost
        value = inner(f)
        if isinstance(value, dict):
            return key in value and (nulls or value[key] is not None)
        if isinstance(value, Optional):
            return optional_selected(value, key, nulls).has_value
        if isinstance(value, (list, tuple)):
            raise EvaluationError("unsupported index type 'string' in list")
        return False

    return has


def _list_with_optionals(parts: list[Closure], optional: frozenset[int]) -> Closure:
    def make(f: Frame) -> Any:
        f[0] += costs.LIST_COST
        result: list[Any] = []
        for at, part in enumerate(parts):
            value = part(f)
            if at in optional:
                if not isinstance(value, Optional):
                    text = "cannot initialize optional list element from non-optional value"
                    raise EvaluationError(f"{text} {value}")
                if not value.has_value:
                    continue
                value = value.value
            result.append(value)
        return result

    return make
