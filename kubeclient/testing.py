"""An API server for tests without a server: :class:`FakeClient`.

An object tracker with resourceVersions, conflicts, generations, finalizers, graceful pod
deletion on demand, status sub-resources, selectors, patches and watches, behind the same
``Client`` interface. It defaults and validates nothing. It records every write as an
:class:`Action`, and a reactor can refuse or change one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from random import Random
from typing import TYPE_CHECKING, Any

from pilothouse.apimachinery import errors
from pilothouse.apimachinery.object import Obj, copy_object, get_nested, meta
from pilothouse.apimachinery.schema import GroupVersionResource
from pilothouse.kubeclient import resources
from pilothouse.kubeclient.interfaces import (
    DeleteOptions,
    ListOptions,
    ObjectList,
    PatchType,
    WatchEvent,
)
from pilothouse.kubeclient.testing_parts import (
    FakeWatch,
    check_preconditions,
    discovery_document,
    merge_subresource,
    patched,
    scale_of,
    selection,
    within,
)

if TYPE_CHECKING:
    from pilothouse.apimachinery.clock import Clock

_NAME_ALPHABET = "bcdfghjklmnpqrstvwxz2456789"
_LIST = ListOptions()
_DELETE = DeleteOptions()


@dataclass(frozen=True, slots=True)
class Action:
    """One write as it was asked for. ``object`` is the body: an object, a patch or options."""

    verb: str
    resource: GroupVersionResource
    namespace: str
    name: str
    object: Any = None
    subresource: str = ""

    @property
    def short(self) -> tuple[str, str, str]:
        """(verb, resource[/subresource], name), for comparing in tests."""
        path = f"{self.resource.resource}/{self.subresource}".rstrip("/")
        return self.verb, path, self.name


Reactor = Callable[[Action], Obj | None]
"""May raise a StatusError, or return an object as the answer instead of the tracker's."""


class FakeClient:
    """Implements ``interfaces.Client`` over a dict. ``seed`` fills it without an action."""

    def __init__(self, *objects: Obj, clock: Clock | None = None, graceful_pods: bool = False):
        self.actions: list[Action] = []
        self.reactors: list[tuple[str, str, Reactor]] = []
        self.watch_list_supported = True
        self.graceful_pods = graceful_pods
        self.kinds = dict(resources.KIND_OF)
        self.namespaced = set(resources.NAMESPACED)
        self._clock = clock
        self._random = Random(0)
        self._revision = 1
        self._compacted = 0
        self._objects: dict[GroupVersionResource, dict[tuple[str, str], Obj]] = {}
        self._log: list[tuple[int, GroupVersionResource, WatchEvent, Obj | None]] = []
        self._watches: dict[FakeWatch, tuple[GroupVersionResource, str]] = {}
        for obj in objects:
            self.seed(obj)

    # What tests do besides the interface.

    def add_kind(
        self, resource: GroupVersionResource, kind: str, *, namespaced: bool = True
    ) -> None:
        """Serves one more resource."""
        self.kinds[resource] = kind
        if namespaced:
            self.namespaced.add(resource)

    def seed(self, obj: Obj) -> Obj:
        """Puts the object there as it is, whatever was there before; watchers see it."""
        obj = copy_object(obj)
        resource = self.resource_of(obj)
        self._fill(resource, obj)
        return self._put(resource, obj)

    def current(self, resource: GroupVersionResource, name: str, namespace: str = "") -> Obj | None:
        """The stored object, without waiting."""
        return self._objects.get(resource, {}).get((namespace, name))

    def objects(self, resource: GroupVersionResource, namespace: str = "") -> list[Obj]:
        return [
            obj
            for (owner, _), obj in sorted(self._objects.get(resource, {}).items())
            if not namespace or owner == namespace
        ]

    def remove(self, resource: GroupVersionResource, name: str, namespace: str = "") -> None:
        """The object is gone at once, finalizers or not."""
        self._drop(resource, self._find(resource, name, namespace))

    def react(self, verb: str, resource: str, reactor: Reactor) -> None:
        """Asks ``reactor`` first; ``*`` is any verb or resource (``pods``, ``pods/status``)."""
        self.reactors.append((verb, resource, reactor))

    def writes(self) -> list[tuple[str, str, str]]:
        """All actions so far but those on events, in short form."""
        return [a.short for a in self.actions if a.resource.resource != "events"]

    def events(self) -> list[tuple[str, str, str]]:
        """(type, reason, message) of the stored core Events in the order of creation."""
        stored = sorted(
            self._objects.get(resources.EVENTS, {}).values(),
            key=lambda e: int(e["metadata"]["resourceVersion"]),
        )
        return [(e["type"], e["reason"], e["message"]) for e in stored]

    def compact(self) -> None:
        """Watches from any revision up to now get 410 Expired."""
        self._compacted = self._revision
        self._log.clear()

    def end_watches(self, error: Exception | None = None) -> None:
        for watch in list(self._watches):
            watch.end(error)

    def bookmark(self) -> None:
        """Sends every watch a bookmark at the current revision."""
        for watch, (resource, _) in self._watches.items():
            watch.push(WatchEvent("BOOKMARK", self._bookmark(resource)), None)

    def resource_of(self, obj: Obj) -> GroupVersionResource:
        for resource, kind in self.kinds.items():
            if kind == obj.get("kind") and resource.api_version == obj.get("apiVersion"):
                return resource
        raise KeyError(f"{obj.get('apiVersion')}, Kind={obj.get('kind')}")

    def forget_watch(self, watch: FakeWatch) -> None:
        self._watches.pop(watch, None)

    # The interface.

    async def get(
        self,
        resource: GroupVersionResource,
        name: str,
        namespace: str = "",
        *,
        subresource: str = "",
    ) -> Obj:
        obj = self._find(resource, name, namespace)
        if subresource == "scale":
            return scale_of(obj)
        return obj

    async def list(
        self,
        resource: GroupVersionResource,
        namespace: str = "",
        options: ListOptions = _LIST,
    ) -> ObjectList:
        select = selection(options)
        self._served(resource)
        found = [obj for obj in self.objects(resource, namespace) if select(obj)]
        if not options.limit:
            return ObjectList(found, str(self._revision))
        start = int(options.continue_token or 0)
        end = start + options.limit
        token = str(end) if end < len(found) else ""
        return ObjectList(found[start:end], str(self._revision), token)

    async def watch(
        self,
        resource: GroupVersionResource,
        namespace: str = "",
        options: ListOptions = _LIST,
        *,
        send_initial_events: bool = False,
        allow_bookmarks: bool = True,
        timeout_seconds: int = 0,
    ) -> FakeWatch:
        self._served(resource)
        if send_initial_events and not self.watch_list_supported:
            message = (
                "sendInitialEvents is forbidden for watch unless the WatchList feature gate is "
                "enabled"
            )
            raise errors.StatusError(422, "Invalid", message)
        watch = FakeWatch(self.forget_watch, selection(options))
        since = int(options.resource_version or 0)
        if send_initial_events or not since:
            for obj in self.objects(resource, namespace):
                watch.push(WatchEvent("ADDED", obj), None)
            if send_initial_events:
                bookmark = self._bookmark(resource)
                bookmark["metadata"]["annotations"] = {"k8s.io/initial-events-end": "true"}
                watch.push(WatchEvent("BOOKMARK", bookmark), None)
        elif since < self._compacted:
            raise errors.new_resource_expired(f"too old resource version: {since}")
        else:
            for revision, of, event, old in self._log:
                if revision > since and of == resource and within(event.object, namespace):
                    watch.push(event, old)
        self._watches[watch] = (resource, namespace)
        return watch

    async def create(
        self,
        resource: GroupVersionResource,
        obj: Obj,
        namespace: str = "",
        *,
        name: str = "",
        subresource: str = "",
        field_manager: str = "",
        dry_run: bool = False,
    ) -> Obj:
        body = copy_object(obj)
        metadata = body.setdefault("metadata", {})
        if not name and not metadata.get("name") and metadata.get("generateName"):
            suffix = "".join(self._random.choices(_NAME_ALPHABET, k=5))
            metadata["name"] = metadata["generateName"] + suffix
        name = name or metadata.get("name") or ""
        namespace = namespace or metadata.get("namespace") or ""
        answer = self._act(Action("create", resource, namespace, name, body, subresource))
        if answer is not None:
            return answer
        if subresource:
            return await self._create_subresource(resource, body, namespace, name, subresource)
        self._served(resource)
        if resource in self.namespaced:
            metadata["namespace"] = namespace
        if self.current(resource, name, namespace if resource in self.namespaced else ""):
            raise errors.new_already_exists(resource.group_resource, name)
        metadata.pop("resourceVersion", None)
        metadata.pop("uid", None)
        self._fill(resource, body)
        return body if dry_run else self._put(resource, body)

    async def update(
        self,
        resource: GroupVersionResource,
        obj: Obj,
        *,
        subresource: str = "",
        field_manager: str = "",
        dry_run: bool = False,
    ) -> Obj:
        body = copy_object(obj)
        metadata = meta(body)
        name, namespace = metadata.get("name") or "", metadata.get("namespace") or ""
        answer = self._act(Action("update", resource, namespace, name, body, subresource))
        if answer is not None:
            return answer
        old = self._find(resource, name, namespace)
        return self._replace(resource, old, body, subresource, dry_run)

    async def patch(
        self,
        resource: GroupVersionResource,
        name: str,
        patch: Any,
        patch_type: PatchType,
        namespace: str = "",
        *,
        subresource: str = "",
        field_manager: str = "",
        force: bool = False,
        dry_run: bool = False,
    ) -> Obj:
        answer = self._act(
            Action("patch", resource, namespace, name, copy_object(patch), subresource)
        )
        if answer is not None:
            return answer
        old = self.current(resource, name, namespace)
        if old is None and patch_type == "application/apply-patch+yaml":
            body = copy_object(patch)
            self._fill(resource, body)
            return self._put(resource, body)
        old = self._find(resource, name, namespace)
        body = patched(old, patch, patch_type)
        return self._replace(resource, old, body, subresource, dry_run)

    async def delete(
        self,
        resource: GroupVersionResource,
        name: str,
        namespace: str = "",
        options: DeleteOptions = _DELETE,
    ) -> Obj:
        answer = self._act(Action("delete", resource, namespace, name, options))
        if answer is not None:
            return answer
        return self._delete(resource, self._find(resource, name, namespace), options)

    async def delete_collection(
        self,
        resource: GroupVersionResource,
        namespace: str = "",
        options: ListOptions = _LIST,
        delete: DeleteOptions = _DELETE,
    ) -> None:
        self._act(Action("deletecollection", resource, namespace, "", delete))
        select = selection(options)
        for obj in self.objects(resource, namespace):
            if select(obj):
                self._delete(resource, obj, delete)

    async def request(self, method: str, path: str, body: Any = None) -> Any:
        """Discovery only: /api, /apis, /api/v1, /apis/<group>/<version>."""
        return discovery_document(path, self.kinds, self.namespaced)

    async def close(self) -> None:
        self.end_watches()

    # The tracker.

    def _act(self, action: Action) -> Obj | None:
        self.actions.append(action)
        path = action.short[1]
        for verb, resource, reactor in self.reactors:
            if verb in ("*", action.verb) and resource in ("*", path):
                answer = reactor(action)
                if answer is not None:
                    return answer
        return None

    def _served(self, resource: GroupVersionResource) -> None:
        if resource not in self.kinds:
            raise errors.new_generic_not_found()

    def _find(self, resource: GroupVersionResource, name: str, namespace: str) -> Obj:
        self._served(resource)
        obj = self.current(resource, name, namespace)
        if obj is None:
            raise errors.new_not_found(resource.group_resource, name)
        return obj

    def now(self) -> str:
        now = self._clock.now() if self._clock else datetime(2026, 1, 1, tzinfo=UTC)
        return now.strftime("%Y-%m-%dT%H:%M:%SZ")

    def _fill(self, resource: GroupVersionResource, obj: Obj) -> None:
        obj.setdefault("apiVersion", resource.api_version)
        obj.setdefault("kind", self.kinds[resource])
        metadata = obj.setdefault("metadata", {})
        metadata.setdefault("uid", f"uid-{self._revision + 1}")
        metadata.setdefault("creationTimestamp", self.now())
        if "spec" in obj:
            metadata.setdefault("generation", 1)
        if resource == resources.NAMESPACES:
            obj.setdefault("spec", {}).setdefault("finalizers", ["kubernetes"])
            obj.setdefault("status", {}).setdefault("phase", "Active")

    def _put(self, resource: GroupVersionResource, obj: Obj) -> Obj:
        metadata = meta(obj)
        key = (metadata.get("namespace") or "", metadata["name"])
        stored = self._objects.setdefault(resource, {})
        old = stored.get(key)
        self._revision += 1
        metadata["resourceVersion"] = str(self._revision)
        stored[key] = obj
        self._announce(resource, WatchEvent("MODIFIED" if old else "ADDED", obj), old)
        return obj

    def _drop(self, resource: GroupVersionResource, obj: Obj) -> Obj:
        metadata = meta(obj)
        del self._objects[resource][(metadata.get("namespace") or "", metadata["name"])]
        self._revision += 1
        last = {**obj, "metadata": {**metadata, "resourceVersion": str(self._revision)}}
        self._announce(resource, WatchEvent("DELETED", last), obj)
        return last

    def _announce(self, resource: GroupVersionResource, event: WatchEvent, old: Obj | None) -> None:
        self._log.append((self._revision, resource, event, old))
        for watch, (watched, namespace) in list(self._watches.items()):
            if watched == resource and within(event.object, namespace):
                watch.push(event, old)

    def _replace(
        self, resource: GroupVersionResource, old: Obj, body: Obj, subresource: str, dry_run: bool
    ) -> Obj:
        metadata = body["metadata"]
        current = meta(old)
        wanted = metadata.get("resourceVersion")
        if wanted and wanted != current["resourceVersion"]:
            reason = (
                "the object has been modified; please apply your changes to the latest version "
                "and try again"
            )
            raise errors.new_conflict(resource.group_resource, metadata["name"], reason)
        if metadata.get("uid") and metadata["uid"] != current["uid"]:
            reason = (
                f"Precondition failed: UID in precondition: {metadata['uid']}, UID in object "
                f"meta: {current['uid']}"
            )
            raise errors.new_conflict(resource.group_resource, metadata["name"], reason)
        new = merge_subresource(resource, old, body, subresource)
        for field in ("uid", "creationTimestamp", "deletionTimestamp", "generation"):
            new["metadata"].pop(field, None)
            if field in current:
                new["metadata"][field] = current[field]
        new["metadata"]["resourceVersion"] = current["resourceVersion"]
        if new.get("spec") != old.get("spec") and "generation" in current:
            new["metadata"]["generation"] = current["generation"] + 1
        if dry_run or new == old:
            return new
        if self._finished(resource, new):
            return self._drop(resource, new)
        return self._put(resource, new)

    def _finished(self, resource: GroupVersionResource, obj: Obj) -> bool:
        """Whether nothing holds back an object that is being deleted."""
        metadata = meta(obj)
        if not metadata.get("deletionTimestamp") or metadata.get("finalizers"):
            return False
        if metadata.get("deletionGracePeriodSeconds"):
            return False
        return not (resource == resources.NAMESPACES and obj["spec"].get("finalizers"))

    def _delete(self, resource: GroupVersionResource, obj: Obj, options: DeleteOptions) -> Obj:
        metadata = meta(obj)
        check_preconditions(resource, metadata, options)
        new = copy_object(obj)
        finalizers = list(metadata.get("finalizers") or ())
        policy = options.propagation_policy
        for name, when in (("foregroundDeletion", "Foreground"), ("orphan", "Orphan")):
            if policy == when and name not in finalizers:
                finalizers.append(name)
            elif policy and policy != when and name in finalizers:
                finalizers.remove(name)
        new["metadata"]["finalizers"] = finalizers
        if not finalizers:
            del new["metadata"]["finalizers"]
        grace = self._grace(resource, obj, options)
        if not grace:
            new["metadata"].pop("deletionGracePeriodSeconds", None)
        else:
            new["metadata"]["deletionGracePeriodSeconds"] = grace
        new["metadata"].setdefault("deletionTimestamp", self.now())
        if resource == resources.NAMESPACES:
            new["status"]["phase"] = "Terminating"
        if self._finished(resource, new):
            return self._drop(resource, obj)
        return self._put(resource, new) if new != obj else obj

    def _grace(self, resource: GroupVersionResource, obj: Obj, options: DeleteOptions) -> int:
        if not self.graceful_pods or resource != resources.PODS:
            return 0
        if not get_nested(obj, "spec", "nodeName"):
            return 0
        if options.grace_period_seconds is not None:
            return options.grace_period_seconds
        return int(get_nested(obj, "spec", "terminationGracePeriodSeconds", default=30))

    async def _create_subresource(
        self, resource: GroupVersionResource, body: Obj, namespace: str, name: str, subresource: str
    ) -> Obj:
        obj = self._find(resource, name, namespace)
        if subresource == "binding":
            new = copy_object(obj)
            new["spec"]["nodeName"] = body["target"]["name"]
            self._put(resource, new)
        elif subresource == "eviction":
            self._delete(resource, obj, DeleteOptions())
        return {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"}

    def _bookmark(self, resource: GroupVersionResource) -> Obj:
        return {
            "kind": self.kinds[resource],
            "apiVersion": resource.api_version,
            "metadata": {"resourceVersion": str(self._revision)},
        }
