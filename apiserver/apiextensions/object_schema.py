"""One version's schema at work: pruning, defaults and validation of custom objects.

All of it is compiled when it is first needed and kept as closures; the schema itself is read
again (``load``) for what is rare: objects that are refused or have something to prune.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pilothouse.apimachinery.fieldpath import BAD_VALUE_OMITTED, FieldError, Path
from pilothouse.apiserver.apiextensions.cel import compile_rules
from pilothouse.apiserver.apiextensions.defaulting import compile_default
from pilothouse.apiserver.apiextensions.embedded import embedded_errors, has_embedded
from pilothouse.apiserver.apiextensions.list_types import compile_unique, unique_errors
from pilothouse.apiserver.apiextensions.pruning import META_FIELDS, Pruner, compile_clean
from pilothouse.apiserver.apiextensions.type_schema import root_node
from pilothouse.apiserver.apiextensions.value_checks import compile_check
from pilothouse.apiserver.apiextensions.value_errors import Correlation, explain
from pilothouse.apiserver.codec.coercion import (
    MAX_DEPTH_TEXT,
    CoercionError,
    CustomType,
    coerce_metadata,
)
from pilothouse.apiserver.codec.go_values import wrong_type

if TYPE_CHECKING:
    from collections.abc import Callable

    from pilothouse.apimachinery.fieldpath import ErrorList
    from pilothouse.apimachinery.object import Obj
    from pilothouse.apimachinery.typeschema import TypeSchema
    from pilothouse.apiserver.apiextensions.cel import RuleNode

ROOT = Path()
_BLOCKING = frozenset(
    (
        "FieldValueNotSupported",
        "FieldValueRequired",
        "FieldValueTooLong",
        "FieldValueTooMany",
        "FieldValueTypeInvalid",
    )
)
_NOT_CHECKED = FieldError(
    "FieldValueInvalid",
    "<nil>",
    None,
    "some validation rules were not checked because the object was invalid; correct the existing "
    "errors to complete validation",
)


class _Parts:
    """What is compiled of a schema on first use."""

    __slots__ = (
        "check", "clean", "default", "embedded", "fills_status", "raw", "rules", "status", "unique",
    )  # fmt: skip

    def __init__(self, schema: dict[str, Any]) -> None:
        self.clean = compile_clean(schema, root=True)
        self.default = compile_default(schema)
        self.check = compile_check(schema)
        status = (schema.get("properties") or {}).get("status")
        self.status = compile_check(status) if isinstance(status, dict) else None
        self.fills_status = isinstance(status, dict) and status.get("default") is not None
        self.unique = compile_unique(schema)
        self.embedded = has_embedded(schema)
        self.rules: RuleNode | None = compile_rules(schema, root=True)
        self.raw = schema if self.embedded else None


class ObjectSchema(CustomType):
    """``load`` gives ``openAPIV3Schema``, or None when there is none."""

    def __init__(self, load: Callable[[], dict[str, Any] | None]) -> None:
        self._load = load
        self._parts: _Parts | None = None
        self._node: TypeSchema | None = None

    @property
    def parts(self) -> _Parts:
        if self._parts is None:
            self._parts = _Parts(self.raw)
        return self._parts

    @property
    def raw(self) -> dict[str, Any]:
        kept = None if self._parts is None else self._parts.raw
        return kept if kept is not None else self._load() or {}

    @property
    def node(self) -> TypeSchema:
        if self._node is None:
            self._node = root_node(self._load(), self)
        return self._node

    # decoding

    def coerce(self, obj: Any, strict_errors: list[str] | None) -> Obj:
        if not isinstance(obj, dict):
            raise CoercionError(str(wrong_type(obj, "map[string]interface {}")))
        for key in ("apiVersion", "kind"):
            if key in obj and not isinstance(obj[key], str):
                raise CoercionError(
                    f".{key} accessor error: {obj[key]} is of the type {_go_type(obj[key])}, "
                    "expected string"
                )
        try:
            return self._coerced(obj, strict_errors)
        except RecursionError:
            raise CoercionError(MAX_DEPTH_TEXT) from None

    def _coerced(self, obj: Obj, strict_errors: list[str] | None) -> Obj:
        clean = self.parts.clean(obj)
        pruner = None
        if not clean:
            pruner = Pruner()
            obj = pruner.object(obj, self.raw)
            if strict_errors is not None:
                strict_errors += [f'duplicate field "{path}"' for path in pruner.duplicates]
        if "metadata" in obj:
            if obj["metadata"] is None:
                del obj["metadata"]
            else:
                obj["metadata"] = coerce_metadata(obj["metadata"], "metadata", strict_errors)
        if pruner is not None and strict_errors is not None:
            strict_errors += [f'unknown field "{path}"' for path in pruner.unknown]
        return obj

    @property
    def fills_status(self) -> bool:
        """Whether an object without a status gets one by default."""
        return self.parts.fills_status

    def default(self, obj: Any) -> None:
        default = self.parts.default
        if default is not None:
            default(obj)

    # validation

    def errors(self, obj: Obj, old: Obj | None = None) -> ErrorList:
        """Of a new object, or of a changed one (then unchanged parts are forgiven)."""
        parts = self.parts
        errors: ErrorList = []
        if parts.check is not None and not parts.check(obj):
            schema = self.raw
            correlation = None if old is None else Correlation(obj, old, schema)
            errors += explain(schema, obj, correlation=correlation)
        return errors

    def status_errors(self, obj: Obj, old: Obj) -> ErrorList:
        """Of ``status`` alone."""
        parts = self.parts
        if parts.status is None or "status" not in obj or parts.status(obj["status"]):
            return []
        schema = self.raw
        correlation = Correlation(obj, old, schema).key("status")
        status = schema["properties"]["status"]
        return explain(status, obj["status"], "status", correlation=correlation)

    def extension_errors(self, obj: Obj, old: Obj | None, *, status: bool = False) -> ErrorList:
        """Embedded resources and lists that are sets or maps."""
        parts = self.parts
        errors: ErrorList = []
        if parts.embedded and not status:
            errors += embedded_errors(self.raw, obj, ROOT)
        unique = parts.unique
        if unique is not None and not unique(obj):
            found = unique_errors(self.raw, obj, ROOT)
            if old is None or unique(old):
                errors += found
        return errors

    def rule_errors(self, obj: Obj, old: Obj | None, before: ErrorList) -> ErrorList:
        """x-kubernetes-validations, unless ``before`` says that the object's shape is wrong."""
        rules = self.parts.rules
        if rules is None:
            return []
        if any(error.reason in _BLOCKING for error in before):
            return [_NOT_CHECKED]
        return rules.errors(obj, old, lambda: self.raw)


def _go_type(value: Any) -> str:
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int):
        return "int64"
    if isinstance(value, float):
        return "float64"
    if value is None:
        return "<nil>"
    return "[]interface {}" if isinstance(value, list) else "map[string]interface {}"


__all__ = ["BAD_VALUE_OMITTED", "META_FIELDS", "ObjectSchema"]
