"""Checks of paths, modes and users that volumes and mounts share."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pilothouse.apimachinery import names
from pilothouse.apis.meta.errors import add_all, invalid

if TYPE_CHECKING:
    from pilothouse.apimachinery.fieldpath import ErrorList
    from pilothouse.apimachinery.object import Obj

FILE_MODE = "must be a number between 0 and 0777 (octal), both inclusive"


def no_backsteps(errors: ErrorList, value: str, path: str) -> None:
    if ".." in value and ".." in value.split("/"):
        errors.append(invalid(path, value, "must not contain '..'"))


def local_descending_path(errors: ErrorList, value: str, path: str) -> None:
    if value.startswith("/"):
        errors.append(invalid(path, value, "must be a relative path"))
    no_backsteps(errors, value, path)


def local_non_reserved_path(errors: ErrorList, value: str, path: str) -> None:
    local_descending_path(errors, value, path)
    if value.startswith("..") and not value.startswith("../"):
        errors.append(invalid(path, value, "must not start with '..'"))


def file_mode(errors: ErrorList, obj: Obj, key: str, path: str) -> None:
    mode = obj.get(key)
    if mode is not None and not 0 <= mode <= 0o777:
        errors.append(invalid(f"{path}.{key}", mode, FILE_MODE))


def user_id(errors: ErrorList, obj: Obj, key: str, path: str) -> None:
    """A user or group id, if set."""
    value = obj.get(key)
    if value is not None and not 0 <= value <= 2147483647:
        add_all(errors, f"{path}.{key}", value, names.is_valid_user_id(value))
