"""Whether a type can stand where another is asked for, with type parameters bound on the way."""

from __future__ import annotations

from pilothouse.cel import types
from pilothouse.cel.types import Type

_NULLABLE = frozenset(("opaque", "object", "any", "duration", "timestamp"))


class Bindings:
    """What the type parameters of one expression stand for so far."""

    __slots__ = ("_bound",)

    def __init__(self) -> None:
        self._bound: dict[str, Type] = {}

    def assignable(self, given: list[Type], wanted: list[Type]) -> bool:
        """Whether each can stand for the other; keeps the bindings only when so."""
        if len(given) != len(wanted):
            return False
        before = self._bound
        self._bound = dict(before)
        for one, other in zip(given, wanted, strict=True):
            if not self._assignable(one, other):
                self._bound = before
                return False
        return True

    def substitute(self, type_: Type, *, to_dyn: bool = False) -> Type:
        """``type_`` with what is bound put in; ``to_dyn``: what is not bound is dyn."""
        while type_.kind == "param":
            bound = self._bound.get(type_.text)
            if bound is None:
                return types.DYN if to_dyn else type_
            type_ = bound
        if not type_.params:
            return type_
        params = tuple(self.substitute(each, to_dyn=to_dyn) for each in type_.params)
        if all(a is b for a, b in zip(params, type_.params, strict=True)):
            return type_
        return Type(type_.kind, type_.name, params, schema=type_.schema)

    def _assignable(self, given: Type, wanted: Type) -> bool:
        if wanted.kind == "param":
            valid, bound = self._bind(given, wanted)
            if valid:
                return True
            if bound:
                return False
        if given.kind == "param":
            return self._bind(wanted, given)[0]
        if given.kind in ("dyn", "any", "error") or wanted.kind in ("dyn", "any", "error"):
            return True
        if given.kind == "null":
            return wanted.kind in _NULLABLE or wanted.kind == "null"
        if wanted.kind == "null":
            return given.kind in _NULLABLE
        if given.kind == "type":
            return wanted.kind == "type"
        if given.kind in ("opaque", "list", "map"):
            return (
                given.kind == wanted.kind
                and given.name == wanted.name
                and len(given.params) == len(wanted.params)
                and all(map(self._assignable, given.params, wanted.params))
            )
        return given == wanted

    def _bind(self, type_: Type, parameter: Type) -> tuple[bool, bool]:
        """Whether ``parameter`` can be ``type_``, and whether it was bound before."""
        if type_ == parameter:
            return True, True
        bound = self._bound.get(parameter.text)
        if bound is not None:
            if type_ == bound:
                return True, True
            if not self._assignable(type_, bound):
                return False, True
            general = most_general(type_, bound)
            if not self._refers(parameter, general):
                self._bound[parameter.text] = general
            return True, True
        if self._refers(parameter, type_):
            return False, False
        self._bound[parameter.text] = type_
        return True, False

    def _refers(self, parameter: Type, within: Type) -> bool:
        if parameter == within:
            return True
        if within.kind == "param":
            bound = self._bound.get(within.text)
            return bound is not None and self._refers(parameter, bound)
        return any(self._refers(parameter, each) for each in within.params)


def most_general(a: Type, b: Type) -> Type:
    return a if _less_specific(a, b) else b


def _less_specific(a: Type, b: Type) -> bool:
    if a.is_dyn or a.kind == "param":
        return True
    if b.is_dyn or b.kind == "param" or a.kind != b.kind:
        return False
    if a.kind in ("opaque", "list", "map"):
        same = a.name == b.name and len(a.params) == len(b.params)
        return same and all(map(_less_specific, a.params, b.params))
    return a.kind == "type" or a == b
