"""Kubernetes' quantities; the values are apimachinery's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pilothouse.apimachinery.quantity import DECIMAL_EXPONENT, Quantity, QuantityError
from pilothouse.cel.interfaces import EvaluationError
from pilothouse.cel.operators import no_overload
from pilothouse.cel.values import MAX_INT, MIN_INT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_Q = "kubernetes.Quantity"


def _quantity(text: Any) -> Quantity:
    if type(text) is not str:
        raise no_overload()
    try:
        return Quantity.parse(text)
    except QuantityError as error:
        raise EvaluationError(str(error)) from None


def _is_quantity(text: Any) -> bool:
    if type(text) is not str:
        raise no_overload()
    try:
        Quantity.parse(text)
    except QuantityError:
        return False
    return True


def _integer(quantity: Quantity) -> int | None:
    """Quantity.AsInt64: None when it isn't a whole number in range."""
    if quantity.scale >= 0:
        value = quantity.unscaled * 10 ** min(quantity.scale, 40)
    else:
        value, rest = divmod(quantity.unscaled, 10 ** min(-quantity.scale, 400))
        if rest:
            return None
    return value if MIN_INT <= value <= MAX_INT else None


def _as_integer(quantity: Quantity) -> int:
    value = _integer(quantity)
    if value is None:
        raise EvaluationError("cannot convert value to integer")
    return value


def _of(value: Quantity | int) -> Quantity:
    if isinstance(value, Quantity):
        return value
    if type(value) is not int:
        raise no_overload()
    return Quantity.of(value, DECIMAL_EXPONENT)


def rows() -> Iterator[tuple[str, str, Callable[..., Any]]]:
    yield "string_to_quantity", f"quantity(string) -> {_Q}", _quantity
    yield "is_quantity_string", "isQuantity(string) -> bool", _is_quantity
    # Upstream declares sign() as a function, not as a method.
    yield "quantity_sign", f"sign({_Q}) -> int", lambda q: q.sign()
    yield (
        "quantity_is_greater_than",
        f"{_Q}|isGreaterThan({_Q}) -> bool",
        lambda a, b: a.cmp(b) > 0,
    )
    yield "quantity_is_less_than", f"{_Q}|isLessThan({_Q}) -> bool", lambda a, b: a.cmp(b) < 0
    yield "quantity_compare_to", f"{_Q}|compareTo({_Q}) -> int", lambda a, b: a.cmp(b)
    yield "quantity_get_float", f"{_Q}|asApproximateFloat() -> double", lambda q: q.as_float()
    yield "quantity_get_int", f"{_Q}|asInteger() -> int", _as_integer
    yield "quantity_is_integer", f"{_Q}|isInteger() -> bool", lambda q: _integer(q) is not None
    yield "quantity_add", f"{_Q}|add({_Q}) -> {_Q}", lambda a, b: a + _of(b)
    yield "quantity_add_int", f"{_Q}|add(int) -> {_Q}", lambda a, b: a + _of(b)
    yield "quantity_sub", f"{_Q}|sub({_Q}) -> {_Q}", lambda a, b: a - _of(b)
    yield "quantity_sub_int", f"{_Q}|sub(int) -> {_Q}", lambda a, b: a - _of(b)
