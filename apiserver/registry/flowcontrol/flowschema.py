"""FlowSchemas."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pilothouse.apimachinery.schema import GroupResource
from pilothouse.apis.flowcontrol.defaults import set_flow_schema_defaults
from pilothouse.apis.flowcontrol.validation import validate_conditions, validate_flow_schema
from pilothouse.apiserver.registry.builtin import BuiltInStrategy

if TYPE_CHECKING:
    from pilothouse.apimachinery.fieldpath import ErrorList
    from pilothouse.apimachinery.object import Obj


class FlowSchemaStrategy(BuiltInStrategy):
    resource = GroupResource("flowcontrol.apiserver.k8s.io", "flowschemas")
    namespaced = False

    def default(self, obj: Obj) -> None:
        set_flow_schema_defaults(obj)

    def check_create(self, obj: Obj) -> ErrorList:
        return validate_flow_schema(obj) + validate_conditions(obj)

    def check_status_update(self, obj: Obj, old: Obj) -> ErrorList:
        return validate_conditions(obj)


STRATEGY = FlowSchemaStrategy()
