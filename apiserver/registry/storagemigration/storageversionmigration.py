"""StorageVersionMigrations."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pilothouse.apimachinery.schema import GroupResource
from pilothouse.apis.storagemigration.validation import (
    validate_migration,
    validate_migration_status,
)
from pilothouse.apiserver.registry.builtin import BuiltInStrategy

if TYPE_CHECKING:
    from pilothouse.apimachinery.fieldpath import ErrorList
    from pilothouse.apimachinery.object import Obj
    from pilothouse.apiserver.registry.context import RegistryContext


class StorageVersionMigrationStrategy(BuiltInStrategy):
    resource = GroupResource("storagemigration.k8s.io", "storageversionmigrations")
    namespaced = False
    has_generation = False
    allow_unconditional_update = False

    def prepare_for_create(self, context: RegistryContext, obj: Obj) -> None:
        obj["status"] = {}

    def check_create(self, obj: Obj) -> ErrorList:
        return validate_migration(obj)

    def check_update(self, obj: Obj, old: Obj) -> ErrorList:
        return validate_migration(obj, old)

    def check_status_update(self, obj: Obj, old: Obj) -> ErrorList:
        return validate_migration_status(obj, old)


STRATEGY = StorageVersionMigrationStrategy()
