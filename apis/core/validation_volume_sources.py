"""Volume sources other than those that hold cluster objects, of pods and PersistentVolumes.

One function a source: ``(errors, source, path, *, in_volume)`` where ``in_volume`` tells a
PersistentVolume's form (secret references with a namespace) from a pod's.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from pilothouse.apimachinery import names
from pilothouse.apis.core.validation_paths import local_descending_path, no_backsteps
from pilothouse.apis.meta import validation as check
from pilothouse.apis.meta.errors import (
    add_all,
    inclusive_range,
    invalid,
    not_supported,
    required,
    too_long,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from pilothouse.apimachinery.fieldpath import ErrorList
    from pilothouse.apimachinery.object import Obj

_HOST_PATH_TYPES = (
    "",
    "BlockDevice",
    "CharDevice",
    "Directory",
    "DirectoryOrCreate",
    "File",
    "FileOrCreate",
    "Socket",
)
_IQN = re.compile(r"iqn\.\d{4}-\d{2}\.[a-zA-Z0-9\-.]+:[^,;*&$|\s]+", re.ASCII)
_EUI = re.compile(r"eui.[a-zA-Z0-9]{16}")
_NAA = re.compile(r"naa.[a-zA-Z0-9]{32}")


def need(errors: ErrorList, source: Obj, path: str, *fields: str) -> None:
    for field in fields:
        if not source.get(field):
            errors.append(required(f"{path}.{field}"))


def host_path(errors: ErrorList, source: Obj, path: str, in_volume: bool) -> None:
    value = source.get("path") or ""
    if not value:
        errors.append(required(f"{path}.path"))
        return
    no_backsteps(errors, value, f"{path}.path")
    kind = source.get("type")
    if kind is not None and kind not in _HOST_PATH_TYPES:
        errors.append(not_supported(f"{path}.type", kind, _HOST_PATH_TYPES))


def git_repo(errors: ErrorList, source: Obj, path: str, in_volume: bool) -> None:
    need(errors, source, path, "repository")
    local_descending_path(errors, source.get("directory") or "", f"{path}.directory")


def disk_with_partition(key: str, path_name: str = "") -> Callable[..., None]:
    def check_disk(errors: ErrorList, source: Obj, path: str, in_volume: bool) -> None:
        if path_name:
            path = f"{path.rpartition('.')[0]}.{path_name}"
        need(errors, source, path, key)
        partition = source.get("partition") or 0
        if not 0 <= partition <= 255:
            message = inclusive_range(1, 255)
            errors.append(invalid(f"{path}.partition", partition, message))

    return check_disk


def nfs(errors: ErrorList, source: Obj, path: str, in_volume: bool) -> None:
    need(errors, source, path, "server", "path")
    value = source.get("path") or ""
    if not value.startswith("/"):
        errors.append(invalid(f"{path}.path", value, "must be an absolute path"))


def _iscsi_name(errors: ErrorList, value: str, path: str, *, in_volume: bool) -> None:
    if not value.startswith(("iqn", "eui", "naa")):
        message = "must be valid format" + ("" if in_volume else " starting with iqn, eui, or naa")
        errors.append(invalid(path, value, message))
        return
    pattern = {"iqn": _IQN, "eui": _EUI, "naa": _NAA}[value[:3]]
    if not pattern.fullmatch(value):
        errors.append(invalid(path, value, "must be valid format"))


def iscsi(errors: ErrorList, source: Obj, path: str, in_volume: bool) -> None:
    need(errors, source, path, "targetPortal")
    iqn = source.get("iqn") or ""
    if not iqn:
        errors.append(required(f"{path}.iqn"))
    else:
        _iscsi_name(errors, iqn, f"{path}.iqn", in_volume=in_volume)
    lun = source.get("lun") or 0
    if not 0 <= lun <= 255:
        errors.append(invalid(f"{path}.lun", lun, inclusive_range(0, 255)))
    secret = source.get("secretRef")
    if (source.get("chapAuthDiscovery") or source.get("chapAuthSession")) and secret is None:
        errors.append(required(f"{path}.secretRef"))
    if in_volume and secret is not None and not secret.get("name"):
        errors.append(required(f"{path}.secretRef.name"))
    initiator = source.get("initiatorName")
    if initiator is not None:
        _iscsi_name(errors, initiator, f"{path}.initiatorname", in_volume=in_volume)


def fc(errors: ErrorList, source: Obj, path: str, in_volume: bool) -> None:
    wwns, wwids, lun = source.get("targetWWNs"), source.get("wwids"), source.get("lun")
    if not wwns and not wwids:
        message = "must specify either targetWWNs or wwids, but not both"
        errors.append(required(f"{path}.targetWWNs", message))
    if wwns and wwids:
        message = "targetWWNs and wwids can not be specified simultaneously"
        errors.append(invalid(f"{path}.targetWWNs", wwns, message))
    if wwns:
        if lun is None:
            message = "lun is required if targetWWNs is specified"
            errors.append(required(f"{path}.lun", message))
        elif not 0 <= lun <= 255:
            errors.append(invalid(f"{path}.lun", lun, inclusive_range(0, 255)))


def quobyte(errors: ErrorList, source: Obj, path: str, in_volume: bool) -> None:
    registry = source.get("registry") or ""
    message = "must be a host:port pair or multiple pairs separated by commas"
    if not registry:
        errors.append(required(f"{path}.registry", message))
    elif len(source.get("tenant") or "") >= 65:
        tenant_message = "must be a UUID and may not exceed a length of 64 characters"
        errors.append(required(f"{path}.tenant", tenant_message))
    else:
        for pair in registry.split(","):
            if pair.count(":") != 1 and not re.fullmatch(r"\[[^\]]*\]:[^:]*", pair):
                errors.append(invalid(f"{path}.registry", registry, message))
    need(errors, source, path, "volume")


def glusterfs(errors: ErrorList, source: Obj, path: str, in_volume: bool) -> None:
    need(errors, source, path, "endpoints", "path")
    namespace = source.get("endpointsNamespace") if in_volume else None
    if namespace is None:
        return
    if not namespace:
        message = "if the endpointnamespace is set, it must be a valid namespace name"
        errors.append(invalid(f"{path}.endpointsNamespace", namespace, message))
    else:
        check.dns_label(errors, namespace, f"{path}.endpointsNamespace")


def flocker(errors: ErrorList, source: Obj, path: str, in_volume: bool) -> None:
    name, uuid = source.get("datasetName") or "", source.get("datasetUUID") or ""
    if not name and not uuid:
        errors.append(required(path, "one of datasetName and datasetUUID is required"))
    if name and uuid:
        message = "datasetName and datasetUUID can not be specified simultaneously"
        errors.append(invalid(path, "resource", message))
    if "/" in name:
        errors.append(invalid(f"{path}.datasetName", name, "must not contain '/'"))


def fields_needed(*fields: str) -> Callable[..., None]:
    def check_fields(errors: ErrorList, source: Obj, path: str, in_volume: bool) -> None:
        need(errors, source, path, *fields)

    return check_fields


def _secret_reference(errors: ErrorList, source: Obj, path: str, *, with_namespace: bool) -> None:
    secret = source.get("secretRef")
    if secret is not None:
        fields = ("name", "namespace") if with_namespace else ("name",)
        need(errors, secret, f"{path}.secretRef", *fields)


def cinder(errors: ErrorList, source: Obj, path: str, in_volume: bool) -> None:
    need(errors, source, path, "volumeID")
    _secret_reference(errors, source, path, with_namespace=in_volume)


def flex_volume(errors: ErrorList, source: Obj, path: str, in_volume: bool) -> None:
    need(errors, source, path, "driver")
    for key in source.get("options") or ():
        normalized = "." + key.partition("/")[0].lower()
        if normalized.endswith((".kubernetes.io", ".k8s.io")):
            message = "kubernetes.io and k8s.io namespaces are reserved"
            errors.append(invalid(f"{path}.options[{key}]", key, message))


def azure_file(errors: ErrorList, source: Obj, path: str, in_volume: bool) -> None:
    need(errors, source, path, "secretName", "shareName")
    if in_volume and source.get("secretNamespace") == "":
        errors.append(required(f"{path}.secretNamespace"))


def azure_disk(errors: ErrorList, source: Obj, path: str, in_volume: bool) -> None:
    need(errors, source, path, "diskName", "diskURI")
    caching, kind = source.get("cachingMode"), source.get("kind")
    modes, kinds = ("None", "ReadOnly", "ReadWrite"), ("Dedicated", "Managed", "Shared")
    if caching is not None and caching not in modes:
        errors.append(not_supported(f"{path}.cachingMode", caching, modes))
    if kind is not None and kind not in kinds:
        errors.append(not_supported(f"{path}.kind", kind, kinds))
    uri = source.get("diskURI") or ""
    managed = (
        "/subscriptions/{sub-id}/resourcegroups/{group-name}/providers/microsoft.compute/disks/"
        "{disk-id}"
    )
    blob = "https://{account-name}.blob.core.windows.net/{container-name}/{disk-name}.vhd"
    if kind == "Managed" and not uri.startswith("/subscriptions/"):
        errors.append(not_supported(f"{path}.diskURI", uri, (managed,)))
    if kind is not None and kind != "Managed" and not uri.startswith("https://"):
        errors.append(not_supported(f"{path}.diskURI", uri, (blob,)))


def storage_os(errors: ErrorList, source: Obj, path: str, in_volume: bool) -> None:
    name, namespace = source.get("volumeName") or "", source.get("volumeNamespace")
    if not name:
        errors.append(required(f"{path}.volumeName"))
    else:
        check.dns_label(errors, name, f"{path}.volumeName")
    if namespace:
        check.dns_label(errors, namespace, f"{path}.volumeNamespace")
    _secret_reference(errors, source, path, with_namespace=in_volume)


def local(errors: ErrorList, source: Obj, path: str, in_volume: bool) -> None:
    value = source.get("path") or ""
    if not value:
        errors.append(required(f"{path}.path"))
    else:
        no_backsteps(errors, value, f"{path}.path")


def csi_driver_name(errors: ErrorList, name: str, path: str) -> None:
    """ValidateCSIDriverName."""
    if not name:
        errors.append(required(path))
        return
    if len(name) > 63:
        errors.append(too_long(path, 63))
    add_all(errors, path, name, names.is_dns1123_subdomain(name.lower()))


def csi(errors: ErrorList, source: Obj, path: str, in_volume: bool) -> None:
    csi_driver_name(errors, source.get("driver") or "", f"{path}.driver")
    if in_volume:
        need(errors, source, path, "volumeHandle")
        for field in (
            "controllerPublishSecretRef",
            "controllerExpandSecretRef",
            "nodePublishSecretRef",
            "nodeExpandSecretRef",
        ):
            if source.get(field) is not None:
                _volume_secret(errors, source[field], f"{path}.{field}")
        return
    secret = source.get("nodePublishSecretRef")
    if secret is not None:
        name = secret.get("name") or ""
        if not name:
            errors.append(required(f"{path}.nodePublishSecretRef.name"))
        else:
            add_all(errors, f"{path}.name", name, names.is_dns1123_subdomain(name))


def _volume_secret(errors: ErrorList, secret: Obj, path: str) -> None:
    name, namespace = secret.get("name") or "", secret.get("namespace") or ""
    if not name:
        errors.append(required(f"{path}.name"))
    else:
        check.dns_subdomain(errors, name, f"{path}.name")
    if not namespace:
        errors.append(required(f"{path}.namespace"))
    else:
        check.dns_label(errors, namespace, f"{path}.namespace")


SOURCES: dict[str, Callable[..., None]] = {
    "hostPath": host_path,
    "gitRepo": git_repo,
    "gcePersistentDisk": disk_with_partition("pdName", "persistentDisk"),
    "awsElasticBlockStore": disk_with_partition("volumeID"),
    "nfs": nfs,
    "iscsi": iscsi,
    "glusterfs": glusterfs,
    "flocker": flocker,
    "rbd": fields_needed("monitors", "image"),
    "cinder": cinder,
    "cephfs": fields_needed("monitors"),
    "quobyte": quobyte,
    "fc": fc,
    "flexVolume": flex_volume,
    "azureFile": azure_file,
    "vsphereVolume": fields_needed("volumePath"),
    "photonPersistentDisk": fields_needed("pdID"),
    "portworxVolume": fields_needed("volumeID"),
    "azureDisk": azure_disk,
    "storageos": storage_os,
    "scaleIO": fields_needed("gateway", "system", "volumeName"),
    "local": local,
    "csi": csi,
}
