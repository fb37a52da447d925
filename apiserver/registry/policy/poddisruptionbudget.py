"""PodDisruptionBudgets."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pilothouse.apimachinery.names import is_path_segment_name
from pilothouse.apimachinery.schema import GroupResource
from pilothouse.apis.policy.validation import (
    validate_pod_disruption_budget,
    validate_pod_disruption_budget_status,
)
from pilothouse.apiserver.registry.builtin import BuiltInStrategy

if TYPE_CHECKING:
    from pilothouse.apimachinery.fieldpath import ErrorList
    from pilothouse.apimachinery.object import Obj
    from pilothouse.apiserver.registry.context import RegistryContext

_COUNTS = ("disruptionsAllowed", "currentHealthy", "desiredHealthy", "expectedPods")


class PodDisruptionBudgetStrategy(BuiltInStrategy):
    resource = GroupResource("policy", "poddisruptionbudgets")
    allow_unconditional_update = False

    def name_errors(self, name: str, prefix: bool) -> list[str]:
        return is_path_segment_name(name, prefix=prefix)

    def prepare_for_create(self, context: RegistryContext, obj: Obj) -> None:
        obj["status"] = dict.fromkeys(_COUNTS, 0)

    def check_create(self, obj: Obj) -> ErrorList:
        return validate_pod_disruption_budget(obj)

    def check_update(self, obj: Obj, old: Obj) -> ErrorList:
        return validate_pod_disruption_budget(obj, old)

    def check_status_update(self, obj: Obj, old: Obj) -> ErrorList:
        return validate_pod_disruption_budget_status(obj)


STRATEGY = PodDisruptionBudgetStrategy()
