"""The strategy of one version of a custom kind (registry/customresource)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pilothouse.apimachinery.fieldpath import Path, invalid
from pilothouse.apimachinery.names import is_qualified_name
from pilothouse.apiserver.apiextensions.columns import NAME, PrinterColumns
from pilothouse.apiserver.apiextensions.jsonpath import JSONPathError, compile_path, text_of
from pilothouse.apiserver.registry.strategy import Strategy

if TYPE_CHECKING:
    from datetime import datetime

    from pilothouse.apimachinery.fieldpath import ErrorList
    from pilothouse.apimachinery.object import Obj
    from pilothouse.apiserver.apiextensions.object_schema import ObjectSchema
    from pilothouse.apiserver.registry.context import RegistryContext

_MAX_INT32 = (1 << 31) - 1
_STANDARD_FINALIZERS = ("orphan", "foregroundDeletion", "kubernetes")


class CustomResourceStrategy(Strategy):
    """``version`` is an item of ``spec.versions``."""

    allow_unconditional_update = False
    repeats_errors = True
    repeats_metadata_errors = True

    def __init__(self, version: Obj, schema: ObjectSchema, *, namespaced: bool) -> None:
        subresources = version.get("subresources") or {}
        self.namespaced = namespaced
        self.has_status = subresources.get("status") is not None
        self._scale: Obj | None = subresources.get("scale")
        self._schema = schema
        self._printer = PrinterColumns(version.get("additionalPrinterColumns") or ())
        paths = [field.get("jsonPath") or "" for field in version.get("selectableFields") or ()]
        self.selectable_fields = tuple(path.removeprefix(".") for path in paths)
        self._finders: dict[str, Any] = {}

    @property
    def columns(self) -> Any:  # type: ignore[override]
        return (NAME, *self._printer.columns)

    def row(self, obj: Obj, now: datetime) -> list[Any]:
        return [obj["metadata"].get("name") or "", *self._printer.cells(obj, now)]

    def prepare_for_update(self, context: RegistryContext, obj: Obj, old: Obj) -> None:
        # Without the sub-resource, status is a field as any other.
        if not self.has_status and obj.get("status") != old.get("status"):
            obj["metadata"]["generation"] = (old["metadata"].get("generation") or 0) + 1

    def validate(self, context: RegistryContext, obj: Obj) -> ErrorList:
        return self.validate_after(context, obj, [])

    def validate_after(self, context: RegistryContext, obj: Obj, found: ErrorList) -> ErrorList:
        schema = self._schema
        errors = schema.errors(obj)
        errors += self._scale_errors(obj)
        errors += schema.extension_errors(obj, None)
        return errors + schema.rule_errors(obj, None, found + errors)

    def validate_update(self, context: RegistryContext, obj: Obj, old: Obj) -> ErrorList:
        schema = self._schema
        errors = schema.errors(obj, old)
        errors += self._scale_errors(obj)
        errors += schema.extension_errors(obj, old)
        return errors + schema.rule_errors(obj, old, errors)

    def validate_status_update(self, context: RegistryContext, obj: Obj, old: Obj) -> ErrorList:
        schema = self._schema
        errors = schema.status_errors(obj, old)
        errors += self._scale_errors(obj, spec=False)
        errors += schema.extension_errors(obj, old, status=True)
        return errors + schema.rule_errors(obj, old, errors)

    def _scale_errors(self, obj: Obj, *, spec: bool = True) -> ErrorList:
        scale = self._scale
        if scale is None:
            return []
        errors: ErrorList = []
        for key in ("specReplicasPath", "statusReplicasPath") if spec else ("statusReplicasPath",):
            errors += _replicas_errors(obj, scale.get(key) or "")
        selector = scale.get("labelSelectorPath")
        if selector:
            value, problem = _nested(obj, selector, str, "string")
            if problem:
                errors.append(invalid(Path(selector), value, problem))
        return errors

    def warnings_on_create(self, context: RegistryContext, obj: Obj) -> list[str]:
        return _finalizer_warnings(obj["metadata"].get("finalizers") or (), ())

    def warnings_on_update(self, context: RegistryContext, obj: Obj, old: Obj) -> list[str]:
        before = old["metadata"].get("finalizers") or ()
        return _finalizer_warnings(obj["metadata"].get("finalizers") or (), before)

    def fields(self, obj: Obj) -> dict[str, str]:
        metadata = obj["metadata"]
        fields = {"metadata.name": metadata.get("name") or ""}
        if self.namespaced:
            fields["metadata.namespace"] = metadata.get("namespace") or ""
        for path in self.selectable_fields:
            found = self._find(path, obj)
            fields[path] = text_of(found[0]) if found and found[0] is not None else ""
        return fields

    def _find(self, path: str, obj: Obj) -> list[Any]:
        finder = self._finders.get(path)
        if finder is None:
            try:
                finder = compile_path(path)
            except JSONPathError:
                finder = _nothing
            self._finders[path] = finder
        found: list[Any] = finder(obj)
        return found


def _nothing(value: Any) -> list[Any]:
    return []


def _nested(obj: Obj, path: str, kind: type, name: str) -> tuple[Any, str]:
    """(value, what is wrong): the value's zero when there is none."""
    value: Any = obj
    steps = path.removeprefix(".").split(".")
    for index, step in enumerate(steps):
        if not isinstance(value, dict):
            shown = ".".join(steps[: index + 1])
            return kind(), (
                f".{shown} accessor error: {value} is of the type {_go_type(value)}, expected "
                "map[string]interface{}"
            )
        if step not in value:
            return kind(), ""
        value = value[step]
    if type(value) is not kind:
        text = f"{path} accessor error: {value} is of the type {_go_type(value)}, expected {name}"
        return kind(), text
    return value, ""


def _go_type(value: Any) -> str:
    if isinstance(value, bool):
        return "bool"
    names = {str: "string", int: "int64", float: "float64", list: "[]interface {}"}
    return "<nil>" if value is None else names.get(type(value), "map[string]interface {}")


def _replicas_errors(obj: Obj, path: str) -> ErrorList:
    value, problem = _nested(obj, path, int, "int64")
    if not problem and value < 0:
        problem = "should be a non-negative integer"
    elif not problem and value > _MAX_INT32:
        problem = f"should be less than or equal to {_MAX_INT32}"
    return [invalid(Path(path), value, problem)] if problem else []


def _finalizer_warnings(finalizers: Any, before: Any) -> list[str]:
    warnings: list[str] = []
    for name in sorted(set(finalizers) - set(before)):
        where = f'metadata.finalizers: "{name}"'
        warnings += [f"{where}: {text}" for text in is_qualified_name(name)]
        if "/" not in name and name not in _STANDARD_FINALIZERS:
            path = " including a path (/)" if "." in name else ""
            warnings.append(
                f"{where}: prefer a domain-qualified finalizer name{path} to avoid accidental "
                "conflicts with other finalizer writers"
            )
    return warnings
