"""StatefulSets."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pilothouse.apimachinery.names import is_dns1123_label
from pilothouse.apimachinery.schema import GroupResource
from pilothouse.apis.apps.defaults import set_stateful_set_defaults
from pilothouse.apis.apps.validation_sets import (
    validate_stateful_set,
    validate_stateful_set_status_update,
    validate_stateful_set_update,
)
from pilothouse.apis.core.warnings_pod import pod_template_warnings
from pilothouse.apiserver.registry.builtin import BuiltInStrategy

if TYPE_CHECKING:
    from pilothouse.apimachinery.fieldpath import ErrorList
    from pilothouse.apimachinery.object import Obj
    from pilothouse.apiserver.registry.context import RegistryContext


class StatefulSetStrategy(BuiltInStrategy):
    resource = GroupResource("apps", "statefulsets")

    def name_errors(self, name: str, prefix: bool) -> list[str]:
        return is_dns1123_label(name, prefix=prefix)

    def default(self, obj: Obj) -> None:
        set_stateful_set_defaults(obj)

    def prepare_for_create(self, context: RegistryContext, obj: Obj) -> None:
        obj["status"] = {"replicas": 0, "availableReplicas": 0}

    def check_create(self, obj: Obj) -> ErrorList:
        return validate_stateful_set(obj)

    def check_update(self, obj: Obj, old: Obj) -> ErrorList:
        return validate_stateful_set_update(obj, old)

    def check_status_update(self, obj: Obj, old: Obj) -> ErrorList:
        return validate_stateful_set_status_update(obj, old)

    def warnings_on_create(self, context: RegistryContext, obj: Obj) -> list[str]:
        warnings = pod_template_warnings(obj)
        if ((obj.get("spec") or {}).get("revisionHistoryLimit") or 0) < 0:
            message = "spec.revisionHistoryLimit: a negative value retains all historical revisions"
            warnings.append(f"{message}; a value >= 0 is recommended")
        return warnings


STRATEGY = StatefulSetStrategy()
