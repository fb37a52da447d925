"""Parts of the fake client that know nothing of the tracker: watches, selectors, patches."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Container, Mapping
from typing import TYPE_CHECKING, Any

from pilothouse.apimachinery import errors
from pilothouse.apimachinery.object import Obj, copy_object, get_nested, meta, namespace_of
from pilothouse.kubeclient import resources
from pilothouse.kubeclient.interfaces import DeleteOptions, ListOptions, PatchType, WatchEvent

if TYPE_CHECKING:
    from pilothouse.apimachinery.schema import GroupVersionResource

_NO_STATUS = {
    resources.CONFIG_MAPS, resources.ENDPOINTS, resources.EVENTS, resources.EVENTS_V1,
    resources.SECRETS, resources.SERVICE_ACCOUNTS, resources.ENDPOINT_SLICES, resources.LEASES,
    resources.CLUSTER_ROLES, resources.ROLES, resources.CONTROLLER_REVISIONS,
}  # fmt: skip


class FakeWatch:
    """A watch of the tracker; ``pending`` tells informers' activity probe of unread events."""

    def __init__(
        self, forget: Callable[[FakeWatch], object], select: Callable[[Obj], bool]
    ) -> None:
        self._forget = forget
        self._select = select
        self._buffer: list[WatchEvent] = []
        self._wake: asyncio.Event = asyncio.Event()
        self._error: Exception | None = None
        self._ended = False

    @property
    def pending(self) -> bool:
        return bool(self._buffer)

    def push(self, event: WatchEvent, old: Obj | None) -> None:
        """Adds a change as this watch's selection sees it."""
        if event.type != "BOOKMARK":
            was = old is not None and self._select(old)
            now = event.type != "DELETED" and self._select(event.object)
            if not was and not now:
                return
            kind = "MODIFIED" if was and now else "ADDED" if now else "DELETED"
            event = WatchEvent(kind, event.object)
        self._buffer.append(event)
        self._wake.set()

    def end(self, error: Exception | None = None) -> None:
        """Ends the stream, after what is in the buffer, as a server would."""
        self._error = error
        self._ended = True
        self._forget(self)
        self._wake.set()

    async def __aiter__(self) -> AsyncIterator[list[WatchEvent]]:
        while True:
            while not self._buffer and not self._ended:
                self._wake.clear()
                await self._wake.wait()
            if self._buffer:
                batch, self._buffer = self._buffer, []
                yield batch
            elif self._error is not None:
                raise self._error
            else:
                return

    async def close(self) -> None:
        self._ended = True
        self._forget(self)
        self._wake.set()


def within(obj: Obj, namespace: str) -> bool:
    return not namespace or namespace_of(obj) == namespace


def scale_of(obj: Obj) -> Obj:
    return {
        "kind": "Scale",
        "apiVersion": "autoscaling/v1",
        "metadata": {k: v for k, v in meta(obj).items() if k in ("name", "namespace", "uid")},
        "spec": {"replicas": get_nested(obj, "spec", "replicas", default=0)},
        "status": {"replicas": get_nested(obj, "status", "replicas", default=0)},
    }


def group(group: str, versions: list[str]) -> Obj:
    listed = [{"groupVersion": f"{group}/{v}", "version": v} for v in versions]
    return {"name": group, "versions": listed, "preferredVersion": listed[0]}


def selection(options: ListOptions) -> Callable[[Obj], bool]:
    if not options.label_selector and not options.field_selector:
        return lambda obj: True
    from pilothouse.apimachinery.fields import parse_field_selector
    from pilothouse.apimachinery.labels import parse_selector

    labels = parse_selector(options.label_selector)
    fields = parse_field_selector(options.field_selector)

    def select(obj: Obj) -> bool:
        values = {
            field: str(get_nested(obj, *field.split("."), default=""))
            for field, _, _ in fields.requirements
        }
        return labels.matches(meta(obj).get("labels")) and fields.matches(values)

    return select


def patched(old: Obj, patch: Any, patch_type: PatchType) -> Obj:
    if patch_type == "application/json-patch+json":
        from pilothouse.apimachinery.patch import json_patch

        return json_patch.apply(old, patch)  # type: ignore[no-any-return]
    if patch_type == "application/strategic-merge-patch+json":
        from pilothouse.apimachinery.patch import strategic
        from pilothouse.apimachinery.schema import gvk_of
        from pilothouse.apis.schemas import for_gvk

        schema = for_gvk(gvk_of(old))
        if schema is None:
            raise errors.new_unsupported_media_type(["application/merge-patch+json"])
        return strategic.apply(old, patch, schema)
    merged: Obj = _merge(old, patch)
    return merged


def _merge(old: Any, patch: Any) -> Any:
    """RFC 7386 (an applied configuration is merged like it: enough for one applier)."""
    if not isinstance(patch, dict):
        return copy_object(patch)
    result = copy_object(old) if isinstance(old, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = _merge(result.get(key), value)
    return result


_VERBS = ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"]


def discovery_document(
    path: str,
    kinds: Mapping[GroupVersionResource, str],
    namespaced: Container[GroupVersionResource],
) -> Obj:
    """The answer to /api, /apis, /api/v1 or /apis/<group>/<version>."""
    parts = path.strip("/").split("/")
    if parts == ["apis"]:
        groups: dict[str, list[str]] = {}
        for resource in kinds:
            if resource.group and resource.version not in groups.setdefault(resource.group, []):
                groups[resource.group].append(resource.version)
        return {"kind": "APIGroupList", "groups": [group(g, v) for g, v in groups.items()]}
    if parts == ["api"]:
        return {"kind": "APIVersions", "versions": ["v1"]}
    api_version = "/".join(parts[1:])
    found = [r for r in kinds if r.api_version == api_version]
    if not found:
        raise errors.new_generic_not_found()
    return {
        "kind": "APIResourceList",
        "groupVersion": api_version,
        "resources": [
            {
                "name": resource.resource,
                "kind": kinds[resource],
                "namespaced": resource in namespaced,
                "verbs": _VERBS,
            }
            for resource in found
        ],
    }


def check_preconditions(
    resource: GroupVersionResource, metadata: Obj, options: DeleteOptions
) -> None:
    """:raises StatusError: 409, uid or resourceVersion are not what they should be."""
    for wanted, field, label in (
        (options.precondition_uid, "uid", "UID"),
        (options.precondition_resource_version, "resourceVersion", "ResourceVersion"),
    ):
        if wanted and wanted != metadata[field]:
            reason = (
                f"Precondition failed: {label} in precondition: {wanted}, {label} in object "
                f"meta: {metadata[field]}"
            )
            raise errors.new_conflict(resource.group_resource, metadata["name"], reason)


def merge_subresource(resource: GroupVersionResource, old: Obj, body: Obj, subresource: str) -> Obj:
    if subresource in ("status", "approval"):
        new: Obj = copy_object(old)
        if "status" in body:
            new["status"] = body["status"]
        if resource == resources.DEPLOYMENTS:  # whose status strategy lets them through
            new["metadata"]["annotations"] = body["metadata"].get("annotations") or {}
        return new
    if subresource == "finalize":
        finalizers = get_nested(body, "spec", "finalizers", default=[])
        return copy_object(old) | {"spec": {"finalizers": finalizers}}  # type: ignore[no-any-return]
    if subresource == "scale":
        new = copy_object(old)
        new["spec"]["replicas"] = get_nested(body, "spec", "replicas", default=0)
        return new
    if resource not in _NO_STATUS:
        body.pop("status", None)
        if "status" in old:
            body["status"] = copy_object(old["status"])
    return body
