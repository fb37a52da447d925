"""What the strategies of built-in kinds share: upstream's table, finalizer names, warnings.

A kind's file sets ``resource`` and overrides ``check_create`` and ``check_update`` (pure functions
on objects from ``apis/``) instead of ``validate`` and ``validate_update``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pilothouse.apimachinery.names import is_dns1123_label
from pilothouse.apimachinery.object import meta
from pilothouse.apimachinery.schema import GroupResource
from pilothouse.apis.core.validation_namespace import kube_finalizers
from pilothouse.apis.meta.equality import semantic_equal
from pilothouse.apiserver.registry.printing_table import columns_of, row_of
from pilothouse.apiserver.registry.strategy import Strategy

if TYPE_CHECKING:
    from datetime import datetime

    from pilothouse.apimachinery.fieldpath import ErrorList
    from pilothouse.apimachinery.object import Obj
    from pilothouse.apiserver.registry.context import RegistryContext


class _Columns:
    """Reads the columns when a table is made, not when the module is imported."""

    def __get__(self, instance: Any, owner: type[BuiltInStrategy]) -> Any:
        return columns_of((owner if instance is None else instance).resource)


class BuiltInStrategy(Strategy):
    """A kind with upstream's printer columns; without more, it only checks metadata."""

    resource: GroupResource = GroupResource("", "")
    columns: Any = _Columns()

    def row(self, obj: Obj, now: datetime) -> list[Any]:
        return row_of(self.resource)(obj, now)

    def check_create(self, obj: Obj) -> ErrorList:
        """Errors of a new object, metadata aside."""
        return []

    def check_update(self, obj: Obj, old: Obj) -> ErrorList:
        """Errors of a changed object; by default those of a new one."""
        return self.check_create(obj)

    def check_status_update(self, obj: Obj, old: Obj) -> ErrorList:
        return []

    def validate(self, context: RegistryContext, obj: Obj) -> ErrorList:
        return _with_finalizers(self.check_create(obj), obj)

    def validate_update(self, context: RegistryContext, obj: Obj, old: Obj) -> ErrorList:
        return _with_finalizers(self.check_update(obj, old), obj)

    def validate_status_update(self, context: RegistryContext, obj: Obj, old: Obj) -> ErrorList:
        return _with_finalizers(self.check_status_update(obj, old), obj)


class PlainStrategy(BuiltInStrategy):
    """A built-in kind without rules of its own."""

    def __init__(
        self,
        resource: GroupResource,
        *,
        namespaced: bool,
        has_status: bool,
        has_generation: bool = False,
        allow_unconditional_update: bool = True,
    ) -> None:
        self.resource = resource
        self.namespaced = namespaced
        self.has_status = has_status
        self.has_generation = has_generation
        self.allow_unconditional_update = allow_unconditional_update


def _with_finalizers(errors: ErrorList, obj: Obj) -> ErrorList:
    finalizers = meta(obj).get("finalizers")
    if finalizers:
        kube_finalizers(errors, finalizers)
    return errors


def bump_generation(obj: Obj, old: Obj) -> None:
    """For kinds whose generation counts more than the spec."""
    metadata = obj["metadata"]
    metadata["generation"] = (meta(old).get("generation") or 0) + 1


def annotations_changed(obj: Obj, old: Obj) -> bool:
    return not semantic_equal(meta(obj).get("annotations"), meta(old).get("annotations"))


def pod_name_warning(obj: Obj, what: str) -> list[str]:
    """Names that make pods' host names should be DNS labels."""
    messages = is_dns1123_label(meta(obj).get("name") or "")
    if not messages:
        return []
    return [
        f"metadata.name: this is used in {what}, which can result in surprising behavior; "
        f"a DNS label is recommended: [{' '.join(messages)}]"
    ]


def keep_metadata(obj: Obj, old: Obj, *fields: str) -> None:
    """Takes metadata fields from ``old`` (status updates of some kinds)."""
    metadata, before = obj["metadata"], meta(old)
    for field in fields:
        if field in before:
            metadata[field] = before[field]
        else:
            metadata.pop(field, None)
