"""The compiler's part for folds: what ``all``, ``exists``, ``map`` and their like expand to.

Each shape has a loop of its own; what it adds to the cost is what cel-go counts for the
expanded fold.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pilothouse.cel import ast
from pilothouse.cel.costs import LIST_COST
from pilothouse.cel.interfaces import EvaluationError
from pilothouse.cel.operators import no_overload, shown
from pilothouse.cel.values import Duration, Timestamp, Uint, type_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from pilothouse.cel.compiler import Closure, Frame


class Exceeded(Exception):
    """The limit is reached. No EvaluationError, for nothing may absorb it."""


class FoldCompiler:
    """Mixed into the compiler."""

    constants: dict[int, Any]

    def compile(self, expr: ast.Expr) -> Closure:
        raise AssertionError

    def bind(self, *names: str) -> list[int]:
        raise AssertionError

    def unbind(self) -> None:
        raise AssertionError

    def fold(self, expr: ast.Comprehension) -> Closure:
        if expr.kind == "bind":
            return self._bound(expr)
        values = self.compile(expr.range)
        self.bind(expr.accu)
        slots = self.bind(expr.var, expr.var2) if expr.var2 else self.bind(expr.var)
        step = expr.step
        assert isinstance(step, ast.Call)
        if expr.kind in ("all", "exists"):
            predicate = self.compile(step.args[1])
            exists = expr.kind == "exists"
            step_cost = 3 if exists else 2
            result = _quantified(values, slots, predicate, stop_at=exists, step=step_cost)
        elif expr.kind == "exists_one":
            result = _exists_one(values, slots, self.compile(step.args[0]))
        else:
            result = self._collected(expr, step, values, slots)
        self.unbind()
        self.unbind()
        return result

    def _collected(
        self, expr: ast.Comprehension, step: ast.Call, values: Closure, slots: list[int]
    ) -> Closure:
        condition: Closure | None = None
        if step.function == "_?_:_":
            condition = self.compile(step.args[0])
            inner = step.args[1]
            assert isinstance(inner, ast.Call)
            step = inner
        if expr.kind == "list":
            made = step.args[1]
            assert isinstance(made, ast.ListExpr)
            element = made.elements[0]
            part = self.compile(element)
            # A list of constants is a constant itself, and free.
            cost = 2 if id(element) in self.constants else 2 + LIST_COST
            return _list(values, slots, condition, part, cost)
        parts = [self.compile(each) for each in step.args[1:]]
        return _map(values, slots, condition, parts)

    def _bound(self, expr: ast.Comprehension) -> Closure:
        value = self.compile(expr.init)
        (slot,) = self.bind(expr.accu)
        result = self.compile(expr.result)
        self.unbind()

        def bound(f: Frame) -> Any:
            f[slot] = value(f)
            return result(f)

        return bound


_GO_NAMES = {
    type(None): "types.Null",
    bool: "types.Bool",
    int: "types.Int",
    Uint: "types.Uint",
    float: "types.Double",
    str: "types.String",
    bytes: "types.Bytes",
    Timestamp: "types.Timestamp",
    Duration: "types.Duration",
}


def _items(values: Any, pairs: bool) -> Iterable[Any]:
    if isinstance(values, (list, tuple)):
        return enumerate(values) if pairs else values
    if isinstance(values, dict):
        return list(values.items()) if pairs else list(values)
    shown = _GO_NAMES.get(type(values)) or type_name(values)
    raise EvaluationError(f"got '{shown}', expected iterable type")


def _binder(slots: list[int]) -> Callable[[Frame, Any], None] | None:
    """How an element gets into the frame; None: as it is, into the first slot."""
    if len(slots) == 1:
        return None
    first, second = slots

    def put(f: Frame, item: Any) -> None:
        f[first], f[second] = item

    return put


def _quantified(
    values: Closure, slots: list[int], predicate: Closure, *, stop_at: bool, step: int
) -> Closure:
    """``all`` stops at the first False, ``exists`` at the first True; an element that fails counts
    only when nothing stops. ``step``: what cel-go charges for an element, apart from its value."""
    slot, put = slots[0], _binder(slots)
    go_on = not stop_at

    def check(f: Frame) -> Any:
        error: EvaluationError | None = None
        stopped = False
        for item in _items(values(f), put is not None):
            f[0] += step
            if stopped:
                break
            f[0] += 1
            if put is None:
                f[slot] = item
            else:
                put(f, item)
            try:
                value = predicate(f)
                if value is stop_at:
                    stopped = True
                elif value is not go_on:
                    raise no_overload()
            except EvaluationError as caught:
                error = error or caught
            if f[0] > f[1]:
                raise Exceeded
        f[0] += 1
        if stopped:
            return stop_at
        if error is not None:
            raise error
        return go_on

    return check


def _exists_one(values: Closure, slots: list[int], predicate: Closure) -> Closure:
    slot, put = slots[0], _binder(slots)

    def check(f: Frame) -> Any:
        found = 0
        error: EvaluationError | None = None
        for item in _items(values(f), put is not None):
            if put is None:
                f[slot] = item
            else:
                put(f, item)
            try:
                value = predicate(f)
                if value is True:
                    found += 1
                    f[0] += 2
                elif value is not False:
                    raise no_overload()
            except EvaluationError as caught:
                # The last one is told.
                error = caught
            if f[0] > f[1]:
                raise Exceeded
        f[0] += 2
        if error is not None:
            raise error
        return found == 1

    return check


def _chosen(value: Any) -> bool:
    if value is not True and value is not False:
        raise no_overload()
    return bool(value)


def _list(
    values: Closure, slots: list[int], condition: Closure | None, element: Closure, cost: int
) -> Closure:
    slot, put = slots[0], _binder(slots)

    def collect(f: Frame) -> Any:
        result: list[Any] = []
        error: EvaluationError | None = None
        for item in _items(values(f), put is not None):
            if put is None:
                f[slot] = item
            else:
                put(f, item)
            if f[0] > f[1]:
                raise Exceeded
            if condition is not None:
                try:
                    if not _chosen(condition(f)):
                        continue
                except EvaluationError as caught:
                    error = caught
                    continue
            f[0] += cost
            try:
                result.append(element(f))
            except EvaluationError as caught:
                error = error or caught
        f[0] += 1
        if error is not None:
            raise error
        return result

    return collect


def _map(
    values: Closure, slots: list[int], condition: Closure | None, parts: list[Closure]
) -> Closure:
    slot, put = slots[0], _binder(slots)

    def collect(f: Frame) -> Any:
        result: dict[Any, Any] = {}
        error: EvaluationError | None = None
        for item in _items(values(f), put is not None):
            if put is None:
                f[slot] = item
            else:
                put(f, item)
            if f[0] > f[1]:
                raise Exceeded
            if condition is not None:
                try:
                    if not _chosen(condition(f)):
                        continue
                except EvaluationError as caught:
                    error = caught
                    continue
            f[0] += 2
            try:
                _insert(result, [part(f) for part in parts])
            except EvaluationError as caught:
                error = error or caught
        f[0] += 1
        if error is not None:
            raise error
        return result

    return collect


def _insert(result: dict[Any, Any], entry: list[Any]) -> None:
    if len(entry) == 2:
        entries = [(entry[0], entry[1])]
    else:
        if not isinstance(entry[0], dict):
            raise no_overload()
        entries = list(entry[0].items())
    for key, value in entries:
        if key in result:
            raise EvaluationError(f"insert failed: key {shown(key)} already exists")
        result[key] = value
