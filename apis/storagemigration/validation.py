"""StorageVersionMigrations: which resource to migrate."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pilothouse.apimachinery import names
from pilothouse.apis.meta import validation as check
from pilothouse.apis.meta.conditions import validate_conditions
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


def validate_migration_status(migration: Obj, old: Obj) -> ErrorList:
    """ValidateStorageVersionMigrationStatusUpdate: what is done stays done."""
    errors: ErrorList = []
    status, before = migration.get("status") or {}, old.get("status") or {}
    version, had = status.get("resourceVersion") or "", before.get("resourceVersion") or ""
    if version and not (version.isascii() and version.isdigit() and version[0] != "0"):
        message = f"resource version is not well formed: {version}"
        errors.append(invalid("status.resourceVersion", version, message))
    conditions = status.get("conditions") or []
    path = "status.conditions"
    validate_conditions(errors, conditions, path)
    if had and had != version:
        errors.append(invalid("status.resourceVersion", version, IMMUTABLE))
    succeeded, failed = _is(status, "Succeeded"), _is(status, "Failed")
    if succeeded and failed:
        message = "Both success and failed conditions cannot be true at the same time"
        errors.append(invalid(path, conditions, message))
    if _is(before, "Succeeded") and not succeeded:
        message = "Success condition cannot be set to false once it is true"
        errors.append(invalid(path, conditions, message))
    if _is(before, "Failed") and not failed:
        message = "Failed condition cannot be set to false once it is true"
        errors.append(invalid(path, conditions, message))
    return errors


def _is(status: Obj, kind: str) -> bool:
    return any(
        condition.get("type") == kind and condition.get("status") == "True"
        for condition in status.get("conditions") or ()
    )
