"""ReplicationControllers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pilothouse.apimachinery.schema import GroupResource
from pilothouse.apis.core.defaults_objects import set_replication_controller_defaults
from pilothouse.apis.core.validation_template import (
    validate_replicas_status,
    validate_replication_controller,
)
from pilothouse.apis.core.warnings_pod import pod_template_warnings
from pilothouse.apiserver.registry.builtin import BuiltInStrategy, pod_name_warning

if TYPE_CHECKING:
    from pilothouse.apimachinery.fieldpath import ErrorList
    from pilothouse.apimachinery.object import Obj
    from pilothouse.apiserver.registry.context import RegistryContext


class ReplicationControllerStrategy(BuiltInStrategy):
    resource = GroupResource("", "replicationcontrollers")
    selectable_fields = ("status.replicas",)

    def default(self, obj: Obj) -> None:
        set_replication_controller_defaults(obj)

    def prepare_for_create(self, context: RegistryContext, obj: Obj) -> None:
        obj["status"] = {"replicas": 0}

    def check_create(self, obj: Obj) -> ErrorList:
        return validate_replication_controller(obj)

    def check_update(self, obj: Obj, old: Obj) -> ErrorList:
        return validate_replication_controller(obj, old)

    def check_status_update(self, obj: Obj, old: Obj) -> ErrorList:
        errors: ErrorList = []
        validate_replicas_status(errors, obj.get("status") or {})
        return errors

    def warnings_on_create(self, context: RegistryContext, obj: Obj) -> list[str]:
        return pod_name_warning(obj, "Pod names and hostnames") + pod_template_warnings(obj)

    def default_propagation(self, obj: Obj) -> str:
        return "orphan"

    def fields(self, obj: Obj) -> dict[str, str]:
        fields = super().fields(obj)
        fields["status.replicas"] = str((obj.get("status") or {}).get("replicas") or 0)
        return fields


STRATEGY = ReplicationControllerStrategy()
