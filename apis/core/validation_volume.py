"""Volumes of a pod: names, and sources that hold cluster objects (config, secrets, tokens)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pilothouse.apimachinery import names
from pilothouse.apis.core.resource_names import parse_quantity
from pilothouse.apis.core.validation_env import (
    VOLUME_FIELD_PATHS,
    object_field_selector,
    resource_field_selector,
)
from pilothouse.apis.core.validation_paths import file_mode, local_non_reserved_path, user_id
from pilothouse.apis.core.validation_projected import validate_projected
from pilothouse.apis.core.validation_volume_sources import SOURCES
from pilothouse.apis.meta.errors import (
    add_all,
    duplicate,
    forbidden,
    invalid,
    not_supported,
    required,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from pilothouse.apimachinery.fieldpath import ErrorList
    from pilothouse.apimachinery.object import Obj

_ORDER = (
    "emptyDir", "hostPath", "gitRepo", "gcePersistentDisk", "awsElasticBlockStore", "secret", "nfs",
    "iscsi", "glusterfs", "flocker", "persistentVolumeClaim", "rbd", "cinder", "cephfs", "quobyte",
    "downwardAPI", "fc", "flexVolume", "configMap", "azureFile", "vsphereVolume",
    "photonPersistentDisk", "portworxVolume", "azureDisk", "storageos", "projected", "scaleIO",
    "csi", "ephemeral", "image",
)  # fmt: skip
VOLUME_SOURCES = frozenset(_ORDER)
_POSITION = {kind: i for i, kind in enumerate(_ORDER)}
_SECOND_SOURCE_NAMES = {"cephfs": "cephFS", "downwardAPI": "downwarAPI"}
"""Upstream's spelling in the error about a second source."""


def validate_volumes(
    errors: ErrorList,
    volumes: Iterable[Obj],
    path: str,
    *,
    pod_name: str | None,
    allow_non_local_token_path: bool = False,
) -> dict[str, Obj]:
    """Checks all; the result maps the names of the good ones to them."""
    volumes = list(volumes)
    created_claims = {
        f"{pod_name}-{v.get('name') or ''}"
        for v in volumes
        if pod_name and v.get("ephemeral") is not None
    }
    good: dict[str, Obj] = {}
    for i, volume in enumerate(volumes):
        at = f"{path}[{i}]"
        before = len(errors)
        _source(errors, volume, at, pod_name, allow_non_local_token_path)
        name = volume.get("name") or ""
        if not name:
            errors.append(required(f"{at}.name"))
        else:
            messages = names.is_dns1123_label(name)
            if messages:
                add_all(errors, f"{at}.name", name, messages)
        if name in good:
            errors.append(duplicate(f"{at}.name", name))
        if len(errors) == before:
            good[name] = volume
        claim = (volume.get("persistentVolumeClaim") or {}).get("claimName")
        if claim and claim in created_claims:
            message = "must not reference a PVC that gets created for an ephemeral volume"
            errors.append(invalid(f"{at}.persistentVolumeClaim.claimName", claim, message))
    return good


def _source(
    errors: ErrorList, volume: Obj, path: str, pod_name: str | None, allow_token_path: bool
) -> None:
    kinds = [k for k, v in volume.items() if k in VOLUME_SOURCES and v is not None]
    if not kinds:
        errors.append(required(path, "must specify a volume type"))
        return
    if len(kinds) > 1:
        kinds.sort(key=_POSITION.__getitem__)
        for kind in kinds[1:]:
            shown = _SECOND_SOURCE_NAMES.get(kind, kind)
            message = "may not specify more than 1 volume type"
            errors.append(forbidden(f"{path}.{shown}", message))
    kind = kinds[0]
    source = volume[kind]
    if kind == "projected":
        validate_projected(errors, source, f"{path}.projected", allow_token_path)
    elif kind in _OBJECT_SOURCES:
        _OBJECT_SOURCES[kind](errors, source, f"{path}.{kind}")
    else:
        SOURCES[kind](errors, source, f"{path}.{kind}", False)
    _names_made_from(errors, volume, kind, path, pod_name)


def _names_made_from(
    errors: ErrorList, volume: Obj, kind: str, path: str, pod_name: str | None
) -> None:
    name = volume.get("name") or ""
    if kind == "iscsi":
        portal = volume["iscsi"].get("targetPortal") or ""
        if volume["iscsi"].get("initiatorName") is not None and len(f"{name}:{portal}") > 64:
            message = (
                "Total length of <volume name>:<iscsi.targetPortal> must be under 64 characters "
                "if iscsi.initiatorName is specified."
            )
            errors.append(invalid(f"{path}.name", name, message))
    elif kind == "ephemeral" and pod_name and name:
        claim = f"{pod_name}-{name}"
        for message in names.is_dns1123_subdomain(claim):
            errors.append(invalid(f"{path}.name", name, f'PVC name "{claim}": {message}'))


def _empty_dir(errors: ErrorList, source: Obj, path: str) -> None:
    limit = source.get("sizeLimit")
    if limit is not None and parse_quantity(limit) < parse_quantity("0"):
        message = "SizeLimit field must be a valid resource quantity"
        errors.append(forbidden(f"{path}.sizeLimit", message))
    mode = source.get("mode")
    if mode is not None and not 0 <= mode <= 0o1777:
        message = "must be a number between 0 and 01777 (octal), both inclusive"
        errors.append(invalid(f"{path}.mode", mode, message))


def key_to_path(errors: ErrorList, item: Obj, path: str) -> None:
    if not item.get("key"):
        errors.append(required(f"{path}.key"))
    target = item.get("path") or ""
    if not target:
        errors.append(required(f"{path}.path"))
    local_non_reserved_path(errors, target, f"{path}.path")
    file_mode(errors, item, "mode", path)
    user_id(errors, item, "user", path)


def _keyed(name_field: str) -> Callable[[ErrorList, Obj, str], None]:
    def check_source(errors: ErrorList, source: Obj, path: str) -> None:
        if not source.get(name_field):
            errors.append(required(f"{path}.{name_field}"))
        file_mode(errors, source, "defaultMode", path)
        user_id(errors, source, "defaultUser", path)
        for i, item in enumerate(source.get("items") or ()):
            key_to_path(errors, item, f"{path}.items[{i}]")

    return check_source


def _claim(errors: ErrorList, source: Obj, path: str) -> None:
    if not source.get("claimName"):
        errors.append(required(f"{path}.claimName"))


def _downward_api(errors: ErrorList, source: Obj, path: str) -> None:
    file_mode(errors, source, "defaultMode", path)
    user_id(errors, source, "defaultUser", path)
    for file in source.get("items") or ():
        downward_api_file(errors, file, path)


def downward_api_file(errors: ErrorList, file: Obj, path: str) -> None:
    target = file.get("path") or ""
    if not target:
        errors.append(required(f"{path}.path"))
    local_non_reserved_path(errors, target, f"{path}.path")
    field, resource = file.get("fieldRef"), file.get("resourceFieldRef")
    if field is not None:
        object_field_selector(errors, field, f"{path}.fieldRef", VOLUME_FIELD_PATHS)
        if resource is not None:
            message = "fieldRef and resourceFieldRef can not be specified simultaneously"
            errors.append(invalid(path, "resource", message))
    elif resource is not None:
        resource_field_selector(errors, resource, f"{path}.resourceFieldRef", in_volume=True)
    else:
        errors.append(required(path, "one of fieldRef and resourceFieldRef is required"))
    file_mode(errors, file, "mode", path)
    user_id(errors, file, "user", path)


def _ephemeral(errors: ErrorList, source: Obj, path: str) -> None:
    from pilothouse.apis.core.validation_pvc import validate_claim_template

    template = source.get("volumeClaimTemplate")
    if template is None:
        errors.append(required(f"{path}.volumeClaimTemplate"))
    else:
        validate_claim_template(errors, template, f"{path}.volumeClaimTemplate")


def _image(errors: ErrorList, source: Obj, path: str) -> None:
    if not source.get("reference"):
        errors.append(required(f"{path}.reference"))
    policy = source.get("pullPolicy") or ""
    valid = ("Always", "IfNotPresent", "Never")
    if not policy:
        errors.append(required(f"{path}.pullPolicy"))
    elif policy not in valid:
        errors.append(not_supported(f"{path}.pullPolicy", policy, valid))


_OBJECT_SOURCES: dict[str, Callable[[ErrorList, Obj, str], None]] = {
    "emptyDir": _empty_dir,
    "secret": _keyed("secretName"),
    "configMap": _keyed("name"),
    "persistentVolumeClaim": _claim,
    "downwardAPI": _downward_api,
    "ephemeral": _ephemeral,
    "image": _image,
}
