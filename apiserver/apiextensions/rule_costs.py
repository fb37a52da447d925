"""What the rules of a CRD version may cost in all (apiextensions' cel_validation.go).

A :class:`RuleContext` is a node of the schema: the type that its rules see, and how many values
of it an object may hold. All nodes of a version count into one :class:`TotalCost`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pilothouse.apimachinery.fieldpath import forbidden

if TYPE_CHECKING:
    from pilothouse.apimachinery.fieldpath import ErrorList, Path
    from pilothouse.cel.schema_types import Declared

RULE_LIMIT = 10_000_000
"""StaticEstimatedCostLimit: one expression."""
TOTAL_LIMIT = 100_000_000
"""StaticEstimatedCRDCostLimit: all expressions of a version."""
_MAX_REQUEST = 3 * 1024 * 1024
_MAX = (1 << 64) - 1
_Schema = dict[str, Any]
_UNKNOWN = object()


class TotalCost:
    """The sum, and the rules that contributed most."""

    def __init__(self) -> None:
        self.total = 0
        self._expensive: list[tuple[int, Path]] = []

    def add(self, path: Path, cost: int) -> None:
        self.total = min(self.total + cost, _MAX)
        if cost >= TOTAL_LIMIT // 100:
            self._expensive.append((cost, path))

    def errors(self, path: Path) -> ErrorList:
        """``path`` is the schema's."""
        if self.total <= TOTAL_LIMIT:
            return []
        detail = (
            "contributed to estimated rule cost total exceeding cost limit for entire OpenAPIv3 "
            "schema"
        )
        ordered = sorted(self._expensive, key=lambda each: -each[0])[:4]
        errors = [forbidden(where, detail) for _, where in ordered]
        what = "x-kubernetes-validations estimated rule cost total for entire OpenAPIv3 schema"
        return [*errors, forbidden(path, exceeded(what, self.total, TOTAL_LIMIT))]


class RuleContext:
    """``cardinality`` None: there may be any number of values."""

    __slots__ = ("_declared", "_parent", "_schema", "_step", "cardinality", "total")

    def __init__(
        self,
        schema: _Schema,
        total: TotalCost,
        parent: RuleContext | None = None,
        step: str = "",
    ) -> None:
        self._schema = schema
        self.total = total
        self._parent = parent
        self._step = step
        self._declared: Any = _UNKNOWN
        self.cardinality: int | None = 1
        if parent is not None:
            around = _most(parent._schema)
            if parent.cardinality is None or around is None:
                self.cardinality = None
            else:
                self.cardinality = min(parent.cardinality * around, _MAX)

    def child(self, schema: _Schema, step: str) -> RuleContext:
        """``step``: a property's name, or ``@element`` of a list or map."""
        return RuleContext(schema, self.total, self, step)

    def declared(self) -> Declared | None:
        """The type of this node's values."""
        if self._declared is _UNKNOWN:
            self._declared = self._find()
        found: Declared | None = self._declared
        return found

    def _find(self) -> Declared | None:
        from pilothouse.cel import schema_types

        parent = self._parent
        around = None if parent is None or parent._declared is _UNKNOWN else parent._declared
        if around is not None:
            if self._step == "@element":
                found: Declared | None = around.element
            else:
                found = around.fields.get(schema_types.escape(self._step) or "")
            if found is not None:
                return found
        root = parent is None or bool(self._schema.get("x-kubernetes-embedded-resource"))
        return schema_types.declared(self._schema, root=root)

    def expression_cost(self, cost: int) -> int:
        """Of one rule for all values of this node."""
        count = self.cardinality
        if count is None:
            declared = self.declared()
            size = 0 if declared is None else declared.min_size
            count = _MAX_REQUEST // (size + 1)
        return min(cost * count, _MAX)


def _most(schema: _Schema) -> int | None:
    """How many values there are below one of ``schema``."""
    kind = schema.get("type")
    if kind == "array":
        limit = schema.get("maxItems")
    elif kind == "object" and schema.get("additionalProperties"):
        limit = schema.get("maxProperties")
    else:
        return 1
    return None if limit is None else max(limit, 0)


def exceeded(what: str, cost: int, limit: int) -> str:
    """getCostErrorMessage"""
    factor = cost / limit
    if factor > 100.0:
        shown = "more than 100x"
    else:
        shown = f"{factor:f}x" if factor < 1.5 else f"{factor:.1f}x"
    return (
        f"{what} exceeds budget by factor of {shown} (try simplifying the rule, or adding "
        "maxItems, maxProperties, and maxLength where arrays, maps, and strings are declared)"
    )
