"""Nodes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pilothouse.apimachinery.schema import GroupResource
from pilothouse.apis.core.defaults_objects import set_node_defaults
from pilothouse.apis.core.validation_node import (
    node_warnings,
    validate_node,
    validate_node_update,
)
from pilothouse.apiserver.registry.builtin import BuiltInStrategy

if TYPE_CHECKING:
    from pilothouse.apimachinery.fieldpath import ErrorList
    from pilothouse.apimachinery.object import Obj
    from pilothouse.apiserver.registry.context import RegistryContext


class NodeStrategy(BuiltInStrategy):
    """A kubelet creates its Node with a status; so status is only fixed on updates."""

    resource = GroupResource("", "nodes")
    namespaced = False
    has_generation = False
    has_status = False
    status_apart = True
    selectable_fields = ("spec.unschedulable",)
    unmanaged_fields = ("status",)

    def default(self, obj: Obj) -> None:
        set_node_defaults(obj)

    def prepare_for_create(self, context: RegistryContext, obj: Obj) -> None:
        if isinstance(obj.get("spec"), dict):
            obj["spec"].pop("configSource", None)
        if isinstance(obj.get("status"), dict):
            obj["status"].pop("config", None)

    def prepare_for_update(self, context: RegistryContext, obj: Obj, old: Obj) -> None:
        if "status" in old:
            obj["status"] = old["status"]
        else:
            obj.pop("status", None)
        if isinstance(obj.get("spec"), dict) and not (old.get("spec") or {}).get("configSource"):
            obj["spec"].pop("configSource", None)

    def prepare_status_update(self, context: RegistryContext, obj: Obj, old: Obj) -> None:
        status = obj.get("status")
        if status and status.get("config") and not (old.get("status") or {}).get("config"):
            obj["status"] = {k: v for k, v in status.items() if k != "config"}

    def check_create(self, obj: Obj) -> ErrorList:
        return validate_node(obj)

    def check_update(self, obj: Obj, old: Obj) -> ErrorList:
        return validate_node(obj) + validate_node_update(obj, old)

    def check_status_update(self, obj: Obj, old: Obj) -> ErrorList:
        return validate_node_update(obj, old)

    def warnings_on_create(self, context: RegistryContext, obj: Obj) -> list[str]:
        return node_warnings(obj)

    def warnings_on_update(self, context: RegistryContext, obj: Obj, old: Obj) -> list[str]:
        return node_warnings(obj)

    def fields(self, obj: Obj) -> dict[str, str]:
        fields = super().fields(obj)
        unschedulable = bool((obj.get("spec") or {}).get("unschedulable"))
        fields["spec.unschedulable"] = "true" if unschedulable else "false"
        return fields


STRATEGY = NodeStrategy()
