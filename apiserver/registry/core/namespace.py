"""Namespaces."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pilothouse.apimachinery.names import is_dns1123_label
from pilothouse.apimachinery.object import meta
from pilothouse.apimachinery.schema import GroupResource
from pilothouse.apis.core.defaults_objects import set_namespace_defaults
from pilothouse.apis.core.validation_namespace import (
    validate_namespace,
    validate_namespace_finalize_update,
    validate_namespace_status_update,
)
from pilothouse.apiserver.registry.builtin import BuiltInStrategy

if TYPE_CHECKING:
    from pilothouse.apimachinery.fieldpath import ErrorList
    from pilothouse.apimachinery.object import Obj
    from pilothouse.apiserver.registry.context import RegistryContext

FINALIZER = "kubernetes"


class NamespaceStrategy(BuiltInStrategy):
    resource = GroupResource("", "namespaces")
    namespaced = False
    has_generation = False
    selectable_fields = ("status.phase",)

    def name_errors(self, name: str, prefix: bool) -> list[str]:
        return is_dns1123_label(name, prefix=prefix)

    def default(self, obj: Obj) -> None:
        set_namespace_defaults(obj)

    def prepare_for_create(self, context: RegistryContext, obj: Obj) -> None:
        obj["status"] = {"phase": "Active"}
        spec = obj.get("spec")
        if spec is None:
            spec = obj["spec"] = {}
        finalizers = spec.get("finalizers") or []
        if FINALIZER not in finalizers:
            spec["finalizers"] = [*finalizers, FINALIZER]

    def prepare_for_update(self, context: RegistryContext, obj: Obj, old: Obj) -> None:
        old_spec = old.get("spec") or {}
        spec = {k: v for k, v in (obj.get("spec") or {}).items() if k != "finalizers"}
        if old_spec.get("finalizers"):
            spec["finalizers"] = old_spec["finalizers"]
        obj["spec"] = spec

    def check_create(self, obj: Obj) -> ErrorList:
        return validate_namespace(obj)

    def check_status_update(self, obj: Obj, old: Obj) -> ErrorList:
        return validate_namespace_status_update(obj)

    def canonicalize(self, obj: Obj) -> None:
        metadata = obj["metadata"]
        labels = metadata.get("labels")
        if labels is None or labels.get("kubernetes.io/metadata.name") != metadata.get("name"):
            metadata["labels"] = {
                **(labels or {}),
                "kubernetes.io/metadata.name": metadata.get("name") or "",
            }

    def fields(self, obj: Obj) -> dict[str, str]:
        fields = super().fields(obj)
        fields["name"] = meta(obj).get("name") or ""
        return fields


class FinalizeStrategy(NamespaceStrategy):
    """The ``finalize`` sub-resource: only spec.finalizers may change."""

    def prepare_for_update(self, context: RegistryContext, obj: Obj, old: Obj) -> None:
        if "status" in old:
            obj["status"] = old["status"]
        else:
            obj.pop("status", None)

    def check_update(self, obj: Obj, old: Obj) -> ErrorList:
        return validate_namespace_finalize_update(obj)


STRATEGY = NamespaceStrategy()
FINALIZE_STRATEGY = FinalizeStrategy()
