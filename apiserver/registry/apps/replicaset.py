"""ReplicaSets."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pilothouse.apimachinery.schema import GroupResource
from pilothouse.apis.apps.defaults import set_replica_set_defaults
from pilothouse.apis.apps.validation import (
    validate_replica_set,
    validate_replica_set_status_update,
    validate_replica_set_update,
)
from pilothouse.apis.core.warnings_pod import pod_template_warnings
from pilothouse.apiserver.registry.builtin import BuiltInStrategy, pod_name_warning

if TYPE_CHECKING:
    from pilothouse.apimachinery.fieldpath import ErrorList
    from pilothouse.apimachinery.object import Obj
    from pilothouse.apiserver.registry.context import RegistryContext


class ReplicaSetStrategy(BuiltInStrategy):
    resource = GroupResource("apps", "replicasets")

    def default(self, obj: Obj) -> None:
        set_replica_set_defaults(obj)

    def prepare_for_create(self, context: RegistryContext, obj: Obj) -> None:
        obj["status"] = {"replicas": 0}

    def check_create(self, obj: Obj) -> ErrorList:
        return validate_replica_set(obj)

    def check_update(self, obj: Obj, old: Obj) -> ErrorList:
        return validate_replica_set_update(obj, old)

    def check_status_update(self, obj: Obj, old: Obj) -> ErrorList:
        return validate_replica_set_status_update(obj)

    def warnings_on_create(self, context: RegistryContext, obj: Obj) -> list[str]:
        return pod_name_warning(obj, "Pod names and hostnames") + pod_template_warnings(obj)

    def warnings_on_update(self, context: RegistryContext, obj: Obj, old: Obj) -> list[str]:
        same = obj["metadata"].get("generation") == old["metadata"].get("generation")
        return [] if same else pod_template_warnings(obj)

    def fields(self, obj: Obj) -> dict[str, str]:
        fields = super().fields(obj)
        fields["status.replicas"] = str((obj.get("status") or {}).get("replicas") or 0)
        return fields


STRATEGY = ReplicaSetStrategy()
