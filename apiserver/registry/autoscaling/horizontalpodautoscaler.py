"""HorizontalPodAutoscalers; stored as autoscaling/v2."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pilothouse.apimachinery.schema import GroupResource
from pilothouse.apis.autoscaling.defaults import set_autoscaler_defaults
from pilothouse.apis.autoscaling.validation import (
    validate_autoscaler,
    validate_autoscaler_status_update,
)
from pilothouse.apiserver.registry.builtin import BuiltInStrategy

if TYPE_CHECKING:
    from pilothouse.apimachinery.fieldpath import ErrorList
    from pilothouse.apimachinery.object import Obj


class HorizontalPodAutoscalerStrategy(BuiltInStrategy):
    resource = GroupResource("autoscaling", "horizontalpodautoscalers")

    def default(self, obj: Obj) -> None:
        set_autoscaler_defaults(obj)

    def check_create(self, obj: Obj) -> ErrorList:
        return validate_autoscaler(obj)

    def check_update(self, obj: Obj, old: Obj) -> ErrorList:
        return validate_autoscaler(obj, old)

    def check_status_update(self, obj: Obj, old: Obj) -> ErrorList:
        return validate_autoscaler_status_update(obj)


STRATEGY = HorizontalPodAutoscalerStrategy()
