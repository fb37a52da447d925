"""ControllerRevisions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pilothouse.apimachinery.schema import GroupResource
from pilothouse.apis.apps.validation_sets import (
    validate_controller_revision,
    validate_controller_revision_update,
)
from pilothouse.apiserver.registry.builtin import BuiltInStrategy

if TYPE_CHECKING:
    from pilothouse.apimachinery.fieldpath import ErrorList
    from pilothouse.apimachinery.object import Obj


class ControllerRevisionStrategy(BuiltInStrategy):
    resource = GroupResource("apps", "controllerrevisions")
    has_status = False
    has_generation = False

    def check_create(self, obj: Obj) -> ErrorList:
        return validate_controller_revision(obj, new=True)

    def check_update(self, obj: Obj, old: Obj) -> ErrorList:
        return validate_controller_revision_update(obj, old)


STRATEGY = ControllerRevisionStrategy()
