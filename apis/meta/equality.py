"""Equality of API values as Go's apiequality.Semantic sees it.

Absent, null, empty text, empty list and empty map are one value; quantities are compared by
amount. Used for immutable fields and for "did the spec change".
"""

from __future__ import annotations

from typing import Any

from pilothouse.apimachinery.quantity import Quantity

_QUANTITY_MAPS = frozenset(
    ("limits", "requests", "capacity", "allocatable", "overhead", "hard", "used", "max", "min")
)
_QUANTITY_FIELDS = frozenset(("sizeLimit", "divisor", "quantity", "storage"))


def semantic_equal(left: Any, right: Any) -> bool:
    """Whether the two values mean the same."""
    return left == right or _equal(left, right, "", in_quantities=False)


def _equal(left: Any, right: Any, key: str, *, in_quantities: bool) -> bool:
    if _is_empty(left) and _is_empty(right):
        return True
    if isinstance(left, dict) and isinstance(right, dict):
        quantities = key in _QUANTITY_MAPS
        return all(
            left.get(k) == right.get(k)
            or _equal(left.get(k), right.get(k), k, in_quantities=quantities)
            for k in left.keys() | right.keys()
        )
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(
            a == b or _equal(a, b, key, in_quantities=False)
            for a, b in zip(left, right, strict=True)
        )
    if in_quantities or key in _QUANTITY_FIELDS:
        return _same_amount(left, right)
    if isinstance(left, bool) or isinstance(right, bool):
        return left is right
    return bool(left == right)


def _is_empty(value: Any) -> bool:
    return value is None or value == "" or value == [] or value == {}


def _same_amount(left: Any, right: Any) -> bool:
    try:
        return Quantity.parse(left) == Quantity.parse(right)
    except (ValueError, TypeError):
        return bool(left == right)
