"""StorageVersionMigrations: which resource to migrate."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pilothouse.apimachinery import names
from pilothouse.apis.meta import validation as check
from pilothouse.apis.meta.equality import semantic_equal
from pilothouse.apis.meta.errors import IMMUTABLE, add_all, invalid, required

if TYPE_CHECKING:
    from pilothouse.apimachinery.fieldpath import ErrorList
    from pilothouse.apimachinery.object import Obj


def validate_migration(migration: Obj, old: Obj | None = None) -> ErrorList:
    errors: ErrorList = []
    resource = (migration.get("spec") or {}).get("resource") or {}
    group, name = resource.get("group") or "", resource.get("resource") or ""
    if group:
        check.dns_subdomain(errors, group, "spec.resource.group")
    if not name:
        errors.append(required("spec.resource.resource", "resource is required to be set"))
    else:
        add_all(errors, "spec.resource.resource", name, names.is_dns1035_label(name))
    if old is not None and not semantic_equal(migration.get("spec"), old.get("spec")):
        errors.append(invalid("spec", migration.get("spec"), IMMUTABLE))
    return errors
