"""``<workload>/scale``: replicas of a workload as an autoscaling/v1 Scale.

A Scale is a view: it is made of the parent for reads, and a write sets the parent's replicas
through the parent's own update. Custom resources name the paths in ``Resource.extra["scale"]``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pilothouse.apimachinery.errors import (
    new_bad_request,
    new_internal_error,
    new_invalid,
    new_not_found,
)
from pilothouse.apimachinery.labels import parse_selector, selector_from_label_selector
from pilothouse.apimachinery.managedfields import manager as field_manager
from pilothouse.apimachinery.object import copy_object, get_nested, set_nested
from pilothouse.apimachinery.patch.errors import PatchError
from pilothouse.apimachinery.schema import GroupKind, GroupResource, GroupVersionKind
from pilothouse.apimachinery.timefmt import format_time
from pilothouse.apis.meta.errors import invalid
from pilothouse.apiserver.codec.decode import CoercionError, coerce
from pilothouse.apiserver.codec.zero_values import with_structs
from pilothouse.apiserver.endpoints.body import decode_kind
from pilothouse.apiserver.endpoints.options import parse_write_options
from pilothouse.apiserver.endpoints.patch import (
    APPLY_PATCH,
    JSON_PATCH,
    MERGE_PATCH,
    load_patch,
    patch_type_of,
)
from pilothouse.apiserver.endpoints.responses import object_response
from pilothouse.apiserver.endpoints.table import shared
from pilothouse.apiserver.endpoints.update import check_name, new_write
from pilothouse.apiserver.registry.before import ensure_namespace

if TYPE_CHECKING:
    from collections.abc import Callable

    from pilothouse.apimachinery.object import Obj
    from pilothouse.apimachinery.typeschema import TypeSchema
    from pilothouse.apiserver.endpoints.handler import Server
    from pilothouse.apiserver.endpoints.options import WriteOptions
    from pilothouse.apiserver.registry.resources import ServedResource
    from pilothouse.apiserver.request.context import Request, Response

KIND = GroupVersionKind("autoscaling", "v1", "Scale")
_BUILT_IN: dict[str, Any] = {
    "specReplicasPath": ".spec.replicas",
    "statusReplicasPath": ".status.replicas",
}


def _schema() -> TypeSchema:
    from pilothouse.apis.schemas import definition

    return definition("io.k8s.api.autoscaling.v1.Scale")


def _path(paths: dict[str, Any], key: str) -> tuple[str, ...]:
    return tuple(str(paths.get(key) or "").strip(".").split("."))


def _paths(served: ServedResource) -> dict[str, Any]:
    paths = served.resource.extra.get("scale")
    return paths if isinstance(paths, dict) else _BUILT_IN


def scale_of(parent: Obj, served: ServedResource) -> Obj:
    """The Scale of a workload."""
    paths = _paths(served)
    metadata = parent["metadata"]
    keys = ("name", "namespace", "uid", "resourceVersion", "creationTimestamp")
    scale: Obj = {
        "kind": KIND.kind,
        "apiVersion": KIND.api_version,
        "metadata": {key: metadata[key] for key in keys if key in metadata},
        "spec": {},
        "status": {"replicas": get_nested(parent, *_path(paths, "statusReplicasPath"), default=0)},
    }
    replicas = get_nested(parent, *_path(paths, "specReplicasPath"))
    if replicas is not None:
        scale["spec"]["replicas"] = replicas
    selector = _selector_text(parent, paths, served)
    if selector:
        scale["status"]["selector"] = selector
    return scale


def _selector_text(parent: Obj, paths: dict[str, Any], served: ServedResource) -> str:
    if served.resource.custom:
        where = paths.get("labelSelectorPath")
        return (
            str(get_nested(parent, *_path(paths, "labelSelectorPath"), default="")) if where else ""
        )
    selector = get_nested(parent, "spec", "selector")
    if served.resource.kind == "ReplicationController":
        pairs = ",".join(f"{k}={v}" for k, v in sorted((selector or {}).items()))
        return str(parse_selector(pairs)) if pairs else ""
    return str(selector_from_label_selector(selector))


async def handle(server: Server, request: Request, served: ServedResource) -> Response:
    info = request.info
    if info.verb == "get":
        entry = await served.store.get(info.namespace, info.name)
        scale = scale_of(shared(served, entry), served)
        if served.resource.custom and "replicas" not in scale["spec"]:
            path = _paths(served)["specReplicasPath"]
            raise new_internal_error(f'the spec replicas field "{path}" does not exist')
        return object_response(request, scale)
    if info.verb == "patch":
        return await _patch(server, request, served)
    options = parse_write_options(request.query, "UpdateOptions")
    scale = decode_kind(server, request, KIND, _schema(), options.field_validation)
    _check(scale, request, served)
    return await _write(server, request, served, options, lambda live: scale, "UpdateOptions")


async def _patch(server: Server, request: Request, served: ServedResource) -> Response:
    kind = patch_type_of(request, custom=served.resource.custom)
    options = parse_write_options(request.query, "PatchOptions", apply=kind == APPLY_PATCH)
    patch = load_patch(request, kind, options)

    def wanted(live: Obj) -> Obj:
        try:
            if kind == JSON_PATCH:
                from pilothouse.apimachinery.patch import json_patch

                scale = json_patch.apply(copy_object(live), patch)
            elif kind in (MERGE_PATCH, APPLY_PATCH):
                from pilothouse.apimachinery.patch import merge_patch

                scale = merge_patch.apply(copy_object(live), patch)
            else:
                from pilothouse.apimachinery.patch import strategic

                scale = strategic.apply(copy_object(live), patch, _schema())
            scale = coerce(scale, _schema())
        except PatchError as error:
            raise error.to_status_error() from error
        except CoercionError as error:
            detail = invalid("patch", str(patch), error.message)
            raise new_invalid(GroupKind("", ""), "", [detail]) from error
        scale.setdefault("metadata", {})
        _check(scale, request, served)
        return scale

    apply = kind == APPLY_PATCH
    scaled = _applying(server, request, served, options, patch) if apply else wanted
    return await _write(server, request, served, options, scaled, "PatchOptions", managed=apply)


def _applying(
    server: Server, request: Request, served: ServedResource, options: WriteOptions, patch: Obj
) -> Callable[[Obj], Obj]:
    """Server-side apply: who manages the workload's replicas manages the Scale's."""

    def wanted(live: Obj) -> Obj:
        try:
            scale = field_manager.apply(
                live,
                copy_object(patch),
                _schema(),
                manager=options.field_manager,
                api_version=KIND.api_version,
                time=format_time(server.clock.now()),
                force=bool(options.force),
                subresource="scale",
            )
        except field_manager.ApplyConflict as error:
            raise error.to_status_error() from error
        scale = coerce(copy_object(scale), _schema())
        _check(scale, request, served)
        return scale

    return wanted


class _ScaleView:
    """What admission sees of a workload when its scale is written."""

    def __init__(self, served: ServedResource) -> None:
        self._served = served
        self._given: list[Obj] = []

    def give(self, scale: Obj, before: Obj) -> None:
        """Mutating admission, which asks first, sees what the client wants, with its managers."""
        self._given = [with_structs(copy_object(scale), _schema()), before]

    def show(self, parent: Obj) -> Obj:
        return self._given.pop(0) if self._given else scale_of(parent, self._served)

    def take(self, parent: Obj, shown: Obj) -> Obj:
        replicas = (shown.get("spec") or {}).get("replicas") or 0
        path = _path(_paths(self._served), "specReplicasPath")
        if get_nested(parent, *path) != replicas:
            set_nested(parent, *path, value=replicas)
        return parent


def _check(scale: Obj, request: Request, served: ServedResource) -> None:
    ensure_namespace(scale["metadata"], request.info.namespace)
    check_name(scale, request.info.name)
    replicas = (scale.get("spec") or {}).get("replicas") or 0
    if replicas >= 0:
        return
    kind, path, detail = KIND.group_kind, "spec.replicas", "must be greater than or equal to 0"
    if served.resource.custom:
        kind, path = served.gvk.group_kind, str(_paths(served).get("specReplicasPath"))
        detail = "should be a non-negative integer"
    raise new_invalid(kind, request.info.name, [invalid(path, replicas, detail)])


async def _write(
    server: Server,
    request: Request,
    served: ServedResource,
    options: WriteOptions,
    wanted: Callable[[Obj], Obj],
    kind: str,
    *,
    managed: bool = False,
) -> Response:
    """``managed``: ``wanted`` says who manages the Scale it gives."""
    from pilothouse.apiserver.registry.subresources.scale_fields import managers_of_scale, take_over

    write = new_write(server, request, served, options, kind)
    view = _ScaleView(served)
    write.kind, write.view = KIND, view
    # The store takes what says itself who manages it for an apply: only those may conflict.
    write.force = write.force or not managed
    path = _path(_paths(served), "specReplicasPath")

    def mutate(live: Obj | None) -> Obj:
        if live is None:
            resource = GroupResource(served.gvr.group, f"{served.gvr.resource}/scale")
            raise new_not_found(resource, request.info.name)
        entries = live["metadata"].get("managedFields") or []
        before = scale_of(live, served)
        before["metadata"]["managedFields"] = managers_of_scale(entries, path)
        scale = wanted(before)
        if not managed:
            scale = {**scale, "metadata": dict(scale["metadata"])}
            field_manager.update(
                before,
                scale,
                _schema(),
                manager=write.manager,
                api_version=KIND.api_version,
                time=format_time(server.clock.now()),
                subresource="scale",
            )
        view.give(scale, before)
        parent = _scaled(live, scale, served)
        owners = scale["metadata"].get("managedFields") or []
        entries = take_over(entries, owners, served.api_version, path)
        parent["metadata"].pop("managedFields", None)
        if entries:
            parent["metadata"]["managedFields"] = entries
        return parent

    entry, _ = await served.store.update(write, mutate, managed=True)
    return object_response(request, scale_of(shared(served, entry), served))


def _scaled(live: Obj, scale: Obj, served: ServedResource) -> Obj:
    """The workload with the replicas that ``scale`` wants. :raises StatusError: 400, it is meant
    for another one."""
    given = scale["metadata"].get("uid")
    if given and given != live["metadata"].get("uid"):
        raise new_bad_request(
            f"Precondition failed: UID in precondition: {given}, UID in object meta: "
            f"{live['metadata'].get('uid')}"
        )
    parent: Obj = copy_object(live)
    replicas = (scale.get("spec") or {}).get("replicas") or 0
    set_nested(parent, *_path(_paths(served), "specReplicasPath"), value=replicas)
    revision = scale["metadata"].get("resourceVersion") or ""
    # Custom resources have no unconditional updates of their own, but their scales do.
    if revision or not served.resource.custom:
        parent["metadata"]["resourceVersion"] = revision
    return parent
