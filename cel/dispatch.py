"""Which overload of a function a call means, when only the values tell."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pilothouse.cel.interfaces import EvaluationError
from pilothouse.cel.values import type_name

if TYPE_CHECKING:
    from collections.abc import Callable

    from pilothouse.cel import ast
    from pilothouse.cel.declarations import Overload
    from pilothouse.cel.types import Type

_CLASSES: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "bytes": (bytes,),
    "bool": (bool,),
    "double": (float,),
    "map": (dict,),
}


def fits(type_: Type, value: Any) -> bool:
    """Whether a value may be of a type, as far as its own class tells."""
    kind = type_.kind
    if kind == "list":
        inner = type_.params[0]
        if not isinstance(value, (list, tuple)):
            return False
        return inner.kind in ("param", "dyn") or all(fits(inner, each) for each in value)
    classes = _CLASSES.get(kind)
    if classes is not None:
        return isinstance(value, classes)
    if kind in ("dyn", "any", "param"):
        return True
    return type_name(value) == type_.name or type_name(value) == kind


def guarded(overload: Overload, operands: list[ast.Expr]) -> bool:
    return any(
        each.type.is_dyn and not wanted.is_dyn and wanted.kind != "param"
        for each, wanted in zip(operands, overload.args, strict=True)
    ) and not overload.id.startswith(_SELF_CHECKING)


_SELF_CHECKING = (
    "size_", "string_size", "list_size", "map_size", "bytes_size", "starts_with", "ends_with",
    "contains_string", "matches", "list_flatten",
)  # fmt: skip
"""These find out themselves, and say only ``no such overload``."""


def dispatcher(function: str, overloads: tuple[Overload, ...]) -> Callable[..., Any]:
    def dispatch(*args: Any) -> Any:
        for overload in overloads:
            pairs = zip(overload.args, args, strict=True)
            if all(fits(wanted, value) for wanted, value in pairs):
                return overload.call(*args)
        kinds = ", ".join(type_name(arg) for arg in args)
        raise EvaluationError(f"no such overload: {function}({kinds})")

    return dispatch
