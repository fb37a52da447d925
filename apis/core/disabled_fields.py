"""Fields of a pod's spec that v1.37 knows but has off (alpha feature gates): they are dropped
before an object is checked, unless the stored one has them already (dropDisabledFields)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pilothouse.apimachinery.object import Obj


_CONTAINERS = ("containers", "initContainers", "ephemeralContainers")
_PROBES = ("livenessProbe", "readinessProbe", "startupProbe")
_HOOKS = ("postStart", "preStop")
_ITEMS = ("secret", "configMap", "downwardAPI")
_TEMPLATE = ("spec", "template", "spec")
POD_SPECS: dict[str, tuple[str, ...]] = {
    "Pod": ("spec",),
    "PodTemplate": ("template", "spec"),
    "ReplicationController": _TEMPLATE,
    "ReplicaSet": _TEMPLATE,
    "Deployment": _TEMPLATE,
    "StatefulSet": _TEMPLATE,
    "DaemonSet": _TEMPLATE,
    "Job": _TEMPLATE,
    "CronJob": ("spec", "jobTemplate", *_TEMPLATE),
}
"""Where a kind has a pod's spec."""


def drop_disabled_fields(kind: str, obj: Obj, old: Obj | None = None) -> None:
    """Changes ``obj`` in place."""
    path = POD_SPECS.get(kind)
    if path is None:
        return
    spec, before = _at(obj, path), _at(old, path)
    if not isinstance(spec, dict) or spec is before:
        return
    for feature in _FEATURES:
        for holder, key in list(feature(spec)):
            if before is None or next(feature(before), None) is None:
                del holder[key]


def _at(obj: Any, path: tuple[str, ...]) -> Any:
    for key in path:
        obj = obj.get(key) if isinstance(obj, dict) else None
    return obj


def _top(key: str) -> Callable[[Obj], Iterator[tuple[Obj, str]]]:
    def found(spec: Obj) -> Iterator[tuple[Obj, str]]:
        if key in spec:
            yield spec, key

    return found


def _containers(spec: Obj) -> Iterator[Obj]:
    for key in _CONTAINERS:
        yield from spec.get(key) or ()


def _empty_dir_modes(spec: Obj) -> Iterator[tuple[Obj, str]]:
    for volume in spec.get("volumes") or ():
        source = volume.get("emptyDir")
        if source and "mode" in source:
            yield source, "mode"


def _bind_mount_options(spec: Obj) -> Iterator[tuple[Obj, str]]:
    for container in _containers(spec):
        for mount in container.get("volumeMounts") or ():
            if "bindMountOptions" in mount:
                yield mount, "bindMountOptions"


def _probe_fields(spec: Obj, handler: str, key: str) -> Iterator[tuple[Obj, str]]:
    for container in _containers(spec):
        holders = [container.get(probe) for probe in _PROBES]
        lifecycle = container.get("lifecycle") or {}
        holders += [lifecycle.get(hook) for hook in _HOOKS]
        for holder in holders:
            action = (holder or {}).get(handler)
            if action and key in action:
                yield action, key


def _http_protocols(spec: Obj) -> Iterator[tuple[Obj, str]]:
    return _probe_fields(spec, "httpGet", "protocol")


def _grpc_modes(spec: Obj) -> Iterator[tuple[Obj, str]]:
    return _probe_fields(spec, "grpc", "mode")


def _users(spec: Obj) -> Iterator[tuple[Obj, str]]:
    for volume in spec.get("volumes") or ():
        for key in (*_ITEMS, "projected"):
            source = volume.get(key)
            if source:
                if "defaultUser" in source:
                    yield source, "defaultUser"
                yield from _item_users(source)
                for projection in source.get("sources") or ():
                    for part in projection.values():
                        yield from _item_users(part or {})


def _item_users(source: Obj) -> Iterator[tuple[Obj, str]]:
    for item in (source, *(source.get("items") or ())):
        if isinstance(item, dict) and "user" in item:
            yield item, "user"


_FEATURES = (
    _top("schedulingGroup"),  # GenericWorkload
    _top("evictionResponders"),  # EvictionRequestAPI
    _empty_dir_modes,  # EmptyDirVolumeMode
    _bind_mount_options,  # VolumeBindMountOptions
    _http_protocols,  # H2CContainerProbe
    _grpc_modes,  # GRPCContainerProbeTLS
    _users,  # AtomicWriteVolumeUserFields
)
