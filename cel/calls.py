"""The compiler's part for calls: operators, logic with absorbed errors, functions."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from pilothouse.cel import ast, operators
from pilothouse.cel.costs import call_cost, size, tenth
from pilothouse.cel.dispatch import dispatcher, guarded
from pilothouse.cel.interfaces import EvaluationError, InstantiationError
from pilothouse.cel.operators import no_overload
from pilothouse.cel.schema_equality import addition_of, equality_of
from pilothouse.cel.types import unwrapped
from pilothouse.cel.values import Optional, Uint, contains, equals

if TYPE_CHECKING:
    from pilothouse.cel.compiler import Closure, Frame
    from pilothouse.cel.costs import CallCost

_ORDERS = frozenset(("_<_", "_<=_", "_>_", "_>=_"))
_SCALARS = frozenset(("int", "uint", "double", "bool", "timestamp", "duration"))
_WRONG_TYPE = (TypeError, AttributeError)
CONVERSIONS = frozenset("bool bytes double duration dyn int string timestamp type uint".split())


class CallCompiler:
    """Mixed into the compiler."""

    constants: dict[int, Any]

    def compile(self, expr: ast.Expr) -> Closure:
        raise AssertionError

    def constant(self, expr: ast.Expr, value: Any) -> Closure:
        raise AssertionError

    def call(self, expr: ast.Call) -> Closure:
        function = expr.function
        if function == "_?._":
            return self._optional_select(expr)
        parts = [self.compile(each) for each in expr.operands()]
        folded = self._folded(expr, parts)
        if folded is not None:
            return folded
        if function == "_&&_":
            return _and(parts)
        if function == "_||_":
            return _or(parts)
        if function == "_?_:_":
            branches = [_free(part, each) for part, each in zip(parts, expr.args, strict=True)]
            return _conditional(parts[0], branches[1], branches[2])
        if function in ("or", "orValue") and expr.target is not None:
            return _lazy_or(parts[0], parts[1], function == "orValue")
        if function in ("_==_", "_!=_"):
            return _equality(expr, parts, function == "_!=_")
        if function in _ORDERS and _same_order(expr.args):
            return _order(function, expr.args, parts)
        if function in ("_[_]", "_[?_]"):
            key = _free(parts[1], expr.args[1])
            extra = 0 if is_attribute(expr.args[0]) else 1
            if function == "_[?_]":
                return _optional_index(parts[0], key, extra)
            return _index(parts[0], key, extra + 1)
        return self._function(expr, parts)

    def _folded(self, expr: ast.Call, parts: list[Closure]) -> Closure | None:
        """A conversion of a constant, and ``in`` for a list of constants, as constants.

        :raises InstantiationError: the conversion fails.
        """
        constants = self.constants
        if expr.function in CONVERSIONS and len(parts) == 1 and expr.target is None:
            if id(expr.args[0]) not in constants:
                return None
            try:
                value = expr.overloads[0].call(constants[id(expr.args[0])])
            except EvaluationError as error:
                raise InstantiationError(str(error)) from None
            return self.constant(expr, value)
        if expr.function == "@in" and isinstance(constants.get(id(expr.args[1])), list):
            return _membership(parts[0], constants[id(expr.args[1])])
        return None

    def _optional_select(self, expr: ast.Call) -> Closure:
        from pilothouse.cel.compiler import optional_selected

        operand, field = expr.args
        assert isinstance(field, ast.Literal)
        type_ = unwrapped(operand.type)[0]
        known = type_.field(field.value)
        key = field.value if known is None else known.name
        inner = self.compile(operand)
        extra = 0 if is_attribute(operand) else 1
        nulls = type_.schema is None

        def select(f: Frame) -> Any:
            f[0] += extra
            found = optional_selected(inner(f), key, nulls)
            if found.has_value:
                f[0] += 1
            return found

        return select

    def _function(self, expr: ast.Call, parts: list[Closure]) -> Closure:
        overloads = expr.overloads
        chosen = overloads[0]
        cost = call_cost(expr.function, chosen.id if len(overloads) == 1 else "")
        call = chosen.call
        if any(other.call is not call for other in overloads):
            call = dispatcher(expr.function, overloads)
        elif expr.function[0].isalpha() and guarded(chosen, expr.operands()):
            call = dispatcher(expr.function, overloads)
        if expr.function == "_+_":
            call = addition_of(expr.args[0].type) or call
        if len(overloads) == 1 and chosen.id in _AFFIXES:
            return _affix(parts[0], parts[1], _AFFIXES[chosen.id])
        if cost is not None:
            return _costly(parts, call, cost)
        if len(parts) == 1:
            return _unary(parts[0], call)
        if len(parts) == 2:
            return _binary(parts[0], parts[1], call)

        def many(f: Frame) -> Any:
            f[0] += 1
            args = [part(f) for part in parts]
            try:
                return call(*args)
            except _WRONG_TYPE:
                raise no_overload() from None

        return many


def _unary(operand: Closure, call: Callable[..., Any]) -> Closure:
    def unary(f: Frame) -> Any:
        f[0] += 1
        value = operand(f)
        try:
            return call(value)
        except _WRONG_TYPE:
            raise no_overload() from None

    return unary


def _binary(left: Closure, right: Closure, call: Callable[..., Any]) -> Closure:
    def binary(f: Frame) -> Any:
        f[0] += 1
        a, b = left(f), right(f)
        try:
            return call(a, b)
        except _WRONG_TYPE:
            raise no_overload() from None

    return binary


_AFFIXES: dict[str, Callable[[str, str], bool]] = {
    "starts_with_string": str.startswith,
    "ends_with_string": str.endswith,
}


def _affix(left: Closure, right: Closure, call: Callable[[str, str], bool]) -> Closure:
    """What rules do most with texts."""

    def affix(f: Frame) -> bool:
        try:
            text, part = left(f), right(f)
        except EvaluationError:
            f[0] += 1
            raise
        if type(text) is not str or type(part) is not str:
            f[0] += 1
            raise no_overload()
        f[0] += (len(part) + 9) // 10
        return call(text, part)

    return affix


def _costly(parts: list[Closure], call: Callable[..., Any], cost: CallCost) -> Closure:
    def costly(f: Frame) -> Any:
        try:
            args = tuple([part(f) for part in parts])
        except EvaluationError:
            f[0] += 1
            raise
        try:
            result = call(*args)
            f[0] += cost(args, result)
        except _WRONG_TYPE:
            raise no_overload() from None
        return result

    return costly


# Logic.


def _and(parts: list[Closure]) -> Closure:
    if len(parts) == 2:
        return _and_two(*parts)

    def conjunction(f: Frame) -> Any:
        error: EvaluationError | None = None
        for part in parts:
            try:
                value = part(f)
            except EvaluationError as caught:
                error = error or caught
                continue
            if value is False:
                return False
            if value is not True:
                error = error or no_overload()
        if error is not None:
            raise error
        return True

    return conjunction


def _and_two(left: Closure, right: Closure) -> Closure:
    def conjunction(f: Frame) -> Any:
        try:
            value = left(f)
        except EvaluationError as error:
            if _absorbed(right, f, False):
                return False
            raise error from None
        if value is False:
            return False
        other = right(f)
        if other is False:
            return False
        if other is True and value is True:
            return True
        raise no_overload()

    return conjunction


def _absorbed(part: Closure, f: Frame, decisive: bool) -> bool:
    """Whether the other side decides, whatever the error was."""
    try:
        return part(f) is decisive
    except EvaluationError:
        return False


def _or(parts: list[Closure]) -> Closure:
    def disjunction(f: Frame) -> Any:
        error: EvaluationError | None = None
        for part in parts:
            try:
                value = part(f)
            except EvaluationError as caught:
                error = error or caught
                continue
            if value is True:
                return True
            if value is not False:
                error = error or no_overload()
        if error is not None:
            raise error
        return False

    return disjunction


def _conditional(condition: Closure, then: Closure, otherwise: Closure) -> Closure:
    def conditional(f: Frame) -> Any:
        value = condition(f)
        if value is True:
            return then(f)
        if value is False:
            return otherwise(f)
        raise no_overload()

    return conditional


def _lazy_or(left: Closure, right: Closure, unwrap: bool) -> Closure:
    def either(f: Frame) -> Any:
        value = left(f)
        if not isinstance(value, Optional):
            raise no_overload()
        if value.has_value:
            return value.value if unwrap else value
        return right(f)

    return either


# Comparisons.


def _equality(expr: ast.Call, parts: list[Closure], negated: bool) -> Closure:
    left, right = parts
    first, second = expr.args
    if first.type.kind in _SCALARS and first.type == second.type:
        return _scalar_equality(left, right, negated)
    same = equality_of(first.type) or equals

    def equal(f: Frame) -> bool:
        try:
            a, b = left(f), right(f)
        except EvaluationError:
            f[0] += 1
            raise
        if type(a) is str and type(b) is str:
            f[0] += (min(len(a), len(b)) + 9) // 10
            return (a == b) is not negated
        f[0] += tenth(min(size(a), size(b)))
        return same(a, b) is not negated

    return equal


def _scalar_equality(left: Closure, right: Closure, negated: bool) -> Closure:
    def equal(f: Frame) -> bool:
        f[0] += 1
        a, b = left(f), right(f)
        if type(a) is type(b):
            return (a == b) is not negated
        return equals(a, b) is not negated

    return equal


_SAME = frozenset(("int", "string", "bytes", "timestamp", "duration"))


def _same_order(args: list[ast.Expr]) -> bool:
    return args[0].type.kind in _SAME and args[0].type == args[1].type


def _order(function: str, args: list[ast.Expr], parts: list[Closure]) -> Closure:
    left, right = parts
    if args[0].type.kind in ("string", "bytes"):
        return _costly(parts, operators.BINARY[function], _shorter)
    slow = operators.BINARY[function]
    if function == "_<_":

        def less(f: Frame) -> Any:
            f[0] += 1
            a, b = left(f), right(f)
            return a < b if type(a) is int and type(b) is int else slow(a, b)

        return less
    if function == "_<=_":

        def less_equals(f: Frame) -> Any:
            f[0] += 1
            a, b = left(f), right(f)
            return a <= b if type(a) is int and type(b) is int else slow(a, b)

        return less_equals
    if function == "_>_":

        def greater(f: Frame) -> Any:
            f[0] += 1
            a, b = left(f), right(f)
            return a > b if type(a) is int and type(b) is int else slow(a, b)

        return greater

    def greater_equals(f: Frame) -> Any:
        f[0] += 1
        a, b = left(f), right(f)
        return a >= b if type(a) is int and type(b) is int else slow(a, b)

    return greater_equals


def _shorter(args: tuple[Any, ...], _: Any) -> int:
    return tenth(min(size(args[0]), size(args[1])))


def is_attribute(expr: ast.Expr) -> bool:
    """What cel-go resolves as one path: of which only the start and the steps cost."""
    if isinstance(expr, ast.Ident):
        return expr.constant is None
    if isinstance(expr, ast.Select):
        return not expr.test_only
    return isinstance(expr, ast.Call) and expr.function in _ATTRIBUTES


_ATTRIBUTES = frozenset(("_[_]", "_[?_]", "_?._", "_?_:_"))


def _free(part: Closure, expr: ast.Expr) -> Closure:
    """A path within another path: its start costs nothing."""
    if not is_attribute(expr) or (isinstance(expr, ast.Call) and expr.function == "_?_:_"):
        return part

    def free(f: Frame) -> Any:
        f[0] -= 1
        return part(f)

    return free


def _membership(value: Closure, values: list[Any]) -> Closure:
    """``in`` for constants, which costs nothing."""
    kinds = {type(each) for each in values}
    if kinds == {str}:
        texts = frozenset(values)

        def among(f: Frame) -> bool:
            found = value(f)
            return type(found) is str and found in texts

        return among
    plain = kinds <= {str, int, float, bool, Uint}

    def is_in(f: Frame) -> bool:
        found = value(f)
        if not plain:
            f[0] += len(values)
        return contains(values, found)

    return is_in


def _optional_index(values: Closure, key: Closure, extra: int) -> Closure:
    def index(f: Frame) -> Any:
        f[0] += extra
        found = operators.optional_index(values(f), key(f))
        if found.has_value:
            f[0] += 1
        return found

    return index


def _index(values: Closure, key: Closure, cost: int) -> Closure:
    def index(f: Frame) -> Any:
        f[0] += cost
        container, at = values(f), key(f)
        if type(container) is dict and type(at) is str and at in container:
            return container[at]
        return operators.index(container, at)

    return index
