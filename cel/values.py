"""CEL's values that Python has no class for, and what all values have in common.

Bool, int, double, string, bytes, null, list and map are Python's own. Equality is CEL's: numbers
compare across types, a bool is no number.
"""

from __future__ import annotations

from typing import Any

from pilothouse.apimachinery.quantity import Quantity
from pilothouse.cel.interfaces import EvaluationError

MAX_INT = (1 << 63) - 1
MIN_INT = -(1 << 63)
MAX_UINT = (1 << 64) - 1


class Uint(int):
    """An unsigned integer."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"{int(self)}u"


class _Nanoseconds:
    """A count of nanoseconds."""

    __slots__ = ("ns",)

    def __init__(self, ns: int) -> None:
        self.ns = ns

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and other.ns == self.ns

    def __lt__(self, other: _Nanoseconds) -> bool:
        return self.ns < other.ns

    def __le__(self, other: _Nanoseconds) -> bool:
        return self.ns <= other.ns

    def __hash__(self) -> int:
        return hash((type(self), self.ns))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.ns})"


class Timestamp(_Nanoseconds):
    """A point in time: nanoseconds since 1970 in UTC. ``offset`` (in minutes) is that of the
    zone it was written for; only its text shows it."""

    __slots__ = ("offset",)

    def __init__(self, ns: int, offset: int = 0) -> None:
        super().__init__(ns)
        self.offset = offset


class Duration(_Nanoseconds):
    """A signed length of time."""

    __slots__ = ()


_NOTHING = object()


class Optional:
    """A value that may be missing; :data:`NONE` is the one without."""

    __slots__ = ("_value",)

    def __init__(self, value: Any = _NOTHING) -> None:
        self._value = value

    @property
    def has_value(self) -> bool:
        return self._value is not _NOTHING

    @property
    def value(self) -> Any:
        if self._value is _NOTHING:
            raise EvaluationError("optional.none() dereference")
        return self._value

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Optional):
            return False
        if self.has_value and other.has_value:
            return equals(self._value, other._value)
        return self.has_value == other.has_value

    def __hash__(self) -> int:
        return hash(self.has_value)

    def __repr__(self) -> str:
        return f"optional({self._value!r})" if self.has_value else "optional.none()"


NONE = Optional()


class TypeValue:
    """What ``type(x)`` gives: compared by name."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name

    def __eq__(self, other: object) -> bool:
        return isinstance(other, TypeValue) and other.name == self.name

    def __hash__(self) -> int:
        return hash(self.name)

    def __repr__(self) -> str:
        return self.name


class TypedObject(dict[str, Any]):
    """An object that an expression made (``Object{...}``), with its type's name."""

    __slots__ = ("type_name",)

    def __init__(self, type_name: str, fields: dict[str, Any]) -> None:
        super().__init__(fields)
        self.type_name = type_name


_TYPE_NAMES: dict[type, str] = {
    bool: "bool",
    int: "int",
    Uint: "uint",
    float: "double",
    str: "string",
    bytes: "bytes",
    type(None): "null_type",
    list: "list",
    tuple: "list",
    dict: "map",
    Timestamp: "google.protobuf.Timestamp",
    Duration: "google.protobuf.Duration",
    Optional: "optional_type",
    TypeValue: "type",
    Quantity: "kubernetes.Quantity",
}


def type_name(value: Any) -> str:
    """The name of a value's type at run time."""
    name = _TYPE_NAMES.get(type(value))
    if name is not None:
        return name
    found = getattr(value, "type_name", None)
    if isinstance(found, str):
        return found
    for class_, name in _TYPE_NAMES.items():
        if isinstance(value, class_):
            return name
    return type(value).__name__


_SCALARS = frozenset((int, float, str, bytes, Uint, type(None)))


def equals(a: Any, b: Any) -> bool:
    """CEL's ``==``."""
    kind = type(a)
    if kind is type(b):
        if kind is list:
            return len(a) == len(b) and all(map(equals, a, b))
        if kind is dict:
            return _equal_maps(a, b)
        return bool(a == b)
    if kind is bool or type(b) is bool:
        return False
    if isinstance(a, dict):
        return isinstance(b, dict) and _equal_maps(a, b)
    if isinstance(a, (list, tuple)):
        return isinstance(b, (list, tuple)) and len(a) == len(b) and all(map(equals, a, b))
    return bool(a == b)


_ABSENT = object()


def _equal_maps(a: dict[Any, Any], b: dict[Any, Any]) -> bool:
    if len(a) != len(b):
        return False
    for key, value in a.items():
        other = b.get(key, _ABSENT)
        if other is _ABSENT or not equals(value, other):
            return False
    return True


def contains(values: Any, value: Any) -> bool:
    """CEL's ``in`` for lists."""
    if type(value) in _SCALARS and type(value) is not bool:
        if value not in values:
            return False
        # True == 1 to Python.
        if value not in (0, 1):
            return True
    return any(equals(value, each) for each in values)
