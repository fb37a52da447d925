"""Volume mounts and block devices of a container."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pilothouse.apis.core.validation_paths import local_descending_path
from pilothouse.apis.meta.errors import (
    duplicate,
    forbidden,
    invalid,
    not_found,
    not_supported,
    required,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pilothouse.apimachinery.fieldpath import ErrorList
    from pilothouse.apimachinery.object import Obj

_PROPAGATIONS = ("Bidirectional", "HostToContainer", "None")
_BIND_OPTIONS = ("nodev", "noexec", "nosuid")


def validate_mounts(
    errors: ErrorList,
    container: Obj,
    mounts: Sequence[Obj],
    devices: Sequence[Obj],
    volumes: Mapping[str, Obj],
    path: str,
) -> None:
    at = f"{path}.volumeMounts"
    device_names = {d.get("name") or "" for d in devices}
    device_paths = {d.get("devicePath") or "" for d in devices}
    seen: set[str] = set()
    for i, mount in enumerate(mounts):
        name, target = mount.get("name") or "", mount.get("mountPath") or ""
        if not name:
            errors.append(required(f"{at}[{i}].name"))
        if name not in volumes:
            errors.append(not_found(f"{at}[{i}].name", name))
        if not target:
            errors.append(required(f"{at}[{i}].mountPath"))
        if target in seen:
            errors.append(invalid(f"{at}[{i}].mountPath", target, "must be unique"))
        seen.add(target)
        if name in device_names:
            message = "must not already exist in volumeDevices"
            errors.append(invalid(f"{at}[{i}].name", name, message))
        if target in device_paths:
            message = "must not already exist as a path in volumeDevices"
            errors.append(invalid(f"{at}[{i}].mountPath", target, message))
        _sub_paths(errors, mount, at, i)
        _mount_options(errors, container, mount, volumes, at, i)


def _sub_paths(errors: ErrorList, mount: Obj, path: str, i: int) -> None:
    sub_path, expression = mount.get("subPath"), mount.get("subPathExpr")
    if sub_path:
        local_descending_path(errors, sub_path, f"{path}.subPath")
    if expression:
        if sub_path:
            message = "subPathExpr and subPath are mutually exclusive"
            errors.append(invalid(f"{path}[{i}].subPathExpr", expression, message))
        local_descending_path(errors, expression, f"{path}.subPathExpr")


def _mount_options(
    errors: ErrorList, container: Obj, mount: Obj, volumes: Mapping[str, Obj], path: str, i: int
) -> None:
    propagation = mount.get("mountPropagation")
    if propagation is not None:
        if propagation not in _PROPAGATIONS:
            errors.append(not_supported(f"{path}.mountPropagation", propagation, _PROPAGATIONS))
        privileged = (container.get("securityContext") or {}).get("privileged")
        if propagation == "Bidirectional" and not privileged:
            message = "Bidirectional mount propagation is available only to privileged containers"
            errors.append(forbidden(f"{path}.mountPropagation", message))
    recursive = mount.get("recursiveReadOnly")
    if recursive is not None:
        _recursive_read_only(errors, mount, recursive, f"{path}.recursiveReadOnly")
    options = mount.get("bindMountOptions")
    if options:
        _bind_options(errors, options, f"{path}[{i}].bindMountOptions")
        if (volumes.get(mount.get("name") or "") or {}).get("image") is not None:
            message = "bindMountOptions may not be used with image volumes"
            errors.append(invalid(f"{path}[{i}].bindMountOptions", options, message))


def _recursive_read_only(errors: ErrorList, mount: Obj, mode: str, path: str) -> None:
    if mode in ("Enabled", "IfPossible"):
        if not mount.get("readOnly"):
            errors.append(forbidden(path, "may only be specified when readOnly is true"))
        if mount.get("mountPropagation") not in (None, "None"):
            message = "may only be specified when mountPropagation is None or not specified"
            errors.append(forbidden(path, message))
    elif mode != "Disabled":
        errors.append(not_supported(path, mode, ("Disabled", "Enabled", "IfPossible")))


def _bind_options(errors: ErrorList, options: Sequence[str], path: str) -> None:
    seen: set[str] = set()
    for i, option in enumerate(options):
        if option not in _BIND_OPTIONS:
            errors.append(not_supported(f"{path}[{i}]", option, _BIND_OPTIONS))
        if option in seen:
            errors.append(duplicate(f"{path}[{i}]", option))
        seen.add(option)


def validate_devices(
    errors: ErrorList,
    devices: Sequence[Obj],
    mounts: Sequence[Obj],
    volumes: Mapping[str, Obj],
    path: str,
) -> None:
    at = f"{path}.volumeDevices"
    mount_names = {m.get("name") or "" for m in mounts}
    mount_paths = {m.get("mountPath") or "" for m in mounts}
    names: set[str] = set()
    paths: set[str] = set()
    for i, device in enumerate(devices):
        name, target = device.get("name") or "", device.get("devicePath") or ""
        name_at, path_at = f"{at}[{i}].name", f"{at}[{i}].devicePath"
        volume = volumes.get(name)
        if not name:
            errors.append(required(name_at))
        if name in names:
            errors.append(invalid(name_at, name, "must be unique"))
        if volume is None:
            errors.append(not_found(name_at, name))
        elif volume.get("persistentVolumeClaim") is None and volume.get("ephemeral") is None:
            message = (
                "can only use volume source type of PersistentVolumeClaim or Ephemeral for block "
                "mode"
            )
            errors.append(invalid(name_at, name, message))
        if not target:
            errors.append(required(path_at))
        if target in paths:
            errors.append(invalid(path_at, target, "must be unique"))
        if ".." in target.split("/"):
            errors.append(invalid(path_at, target, "can not contain backsteps ('..')"))
        else:
            paths.add(target)
        if name in mount_names:
            errors.append(invalid(name_at, name, "must not already exist in volumeMounts"))
        if target in mount_paths:
            message = "must not already exist as a path in volumeMounts"
            errors.append(invalid(path_at, target, message))
        if name:
            names.add(name)
