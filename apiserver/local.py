"""The in-process client: ``kubeclient.interfaces.Client`` without HTTP.

Calls enter the handler chain at authorization, as the user that the client was made for. What
comes back is shared with the server's cache and read-only; what is passed in is copied once.
Every call and every batch of watch events that its consumer has not finished counts as
activity, so that ``Cluster.settle()`` knows when all is quiet.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import orjson

from pilothouse.apimachinery.errors import StatusError, from_status
from pilothouse.apimachinery.object import Obj, copy_object
from pilothouse.apiserver.request.context import Request, UserInfo
from pilothouse.apiserver.request.info import RequestInfo, parse_query, parse_request_info
from pilothouse.kubeclient.interfaces import (
    DeleteOptions,
    ListOptions,
    ObjectList,
    PatchType,
    WatchEvent,
)
from pilothouse.kubeclient.parameters import (
    delete_options_body,
    list_parameters,
    watch_parameters,
    write_parameters,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from pilothouse.apimachinery.schema import GroupVersionResource
    from pilothouse.apiserver.endpoints.handler import APIHandler
    from pilothouse.apiserver.endpoints.watch import LocalWatch
    from pilothouse.apiserver.request.context import Query, Response
    from pilothouse.componentbase.activity import ActivityTracker
    from pilothouse.kubeclient.interfaces import Watch

_METHODS = {
    "get": "GET",
    "list": "GET",
    "watch": "GET",
    "create": "POST",
    "update": "PUT",
    "patch": "PATCH",
    "delete": "DELETE",
    "deletecollection": "DELETE",
}
NO_LIST_OPTIONS = ListOptions()
NO_DELETE_OPTIONS = DeleteOptions()


class LocalClient:
    """One user's way into an API server of this process."""

    def __init__(
        self, api: APIHandler, user: UserInfo, activity: ActivityTracker, user_agent: str = ""
    ) -> None:
        self._api = api
        self._user = user
        self._activity = activity
        self._headers = {"user-agent": user_agent or user.name.rpartition(":")[2]}

    def with_user_agent(self, user_agent: str) -> LocalClient:
        """The same user under another name for managedFields."""
        return LocalClient(self._api, self._user, self._activity, user_agent)

    async def _call(
        self,
        verb: str,
        resource: GroupVersionResource,
        namespace: str,
        name: str = "",
        *,
        subresource: str = "",
        query: Query | None = None,
        obj: Any = None,
        content_type: str = "",
        labels: str = "",
        fields: str = "",
    ) -> Response:
        parts = (resource.resource,)
        if name:
            parts += (name, subresource) if subresource else (name,)  # type: ignore[assignment]
        if not namespace and resource.resource == "namespaces" and not resource.group:
            namespace = name
        info = RequestInfo(
            True,
            "",
            verb,
            "apis" if resource.group else "api",
            resource.group,
            resource.version,
            namespace,
            resource.resource,
            subresource,
            name,
            parts,
            labels,
            fields,
        )
        headers = self._headers
        if content_type:
            headers = {**headers, "content-type": content_type}
        request = Request(
            _METHODS[verb],
            "",
            query or {},
            headers,
            info,
            user=self._user,
            obj=obj,
            local=True,
        )
        activity = self._activity
        activity.begin("request")
        try:
            return await self._api.handle(request)
        finally:
            activity.end("request")

    async def get(
        self,
        resource: GroupVersionResource,
        name: str,
        namespace: str = "",
        *,
        subresource: str = "",
    ) -> Obj:
        response = await self._call("get", resource, namespace, name, subresource=subresource)
        return await _object(response)

    async def list(
        self,
        resource: GroupVersionResource,
        namespace: str = "",
        options: ListOptions = NO_LIST_OPTIONS,
    ) -> ObjectList:
        query, name = _query(list_parameters(options)), _named(options.field_selector)
        response = await self._call(
            "list",
            resource,
            namespace,
            name,
            query=query,
            labels=options.label_selector,
            fields=options.field_selector,
        )
        metadata = response.obj["metadata"]
        return ObjectList(
            response.obj["items"], metadata["resourceVersion"], metadata.get("continue", "")
        )

    async def watch(
        self,
        resource: GroupVersionResource,
        namespace: str = "",
        options: ListOptions = NO_LIST_OPTIONS,
        *,
        send_initial_events: bool = False,
        allow_bookmarks: bool = True,
        timeout_seconds: int = 0,
    ) -> Watch:
        name = _named(options.field_selector)
        query = watch_parameters(
            options,
            send_initial_events=send_initial_events,
            allow_bookmarks=allow_bookmarks,
            timeout_seconds=timeout_seconds,
        )
        response = await self._call(
            "watch",
            resource,
            namespace,
            name,
            query=_query(query),
            labels=options.label_selector,
            fields=options.field_selector,
        )
        return ActivityWatch(response.watch, self._activity)

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
        metadata = obj.get("metadata") or {}
        response = await self._call(
            "create",
            resource,
            namespace or metadata.get("namespace") or "",
            (name or metadata.get("name") or "") if subresource else "",
            subresource=subresource,
            query=_query(write_parameters(field_manager, dry_run)),
            obj=copy_object(obj),
        )
        return await _object(response)

    async def update(
        self,
        resource: GroupVersionResource,
        obj: Obj,
        *,
        subresource: str = "",
        field_manager: str = "",
        dry_run: bool = False,
    ) -> Obj:
        metadata = obj.get("metadata") or {}
        response = await self._call(
            "update",
            resource,
            metadata.get("namespace") or "",
            metadata.get("name") or "",
            subresource=subresource,
            query=_query(write_parameters(field_manager, dry_run)),
            obj=copy_object(obj),
        )
        return await _object(response)

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
        query = _query(write_parameters(field_manager, dry_run, force=force))
        response = await self._call(
            "patch",
            resource,
            namespace,
            name,
            subresource=subresource,
            query=query,
            obj=copy_object(patch),
            content_type=patch_type,
        )
        return await _object(response)

    async def delete(
        self,
        resource: GroupVersionResource,
        name: str,
        namespace: str = "",
        options: DeleteOptions = NO_DELETE_OPTIONS,
    ) -> Obj:
        response = await self._call(
            "delete", resource, namespace, name, obj=delete_options_body(options)
        )
        return await _object(response)

    async def delete_collection(
        self,
        resource: GroupVersionResource,
        namespace: str = "",
        options: ListOptions = NO_LIST_OPTIONS,
        delete: DeleteOptions = NO_DELETE_OPTIONS,
    ) -> None:
        await self._call(
            "deletecollection",
            resource,
            namespace,
            query=_query(list_parameters(options)),
            obj=delete_options_body(delete),
            labels=options.label_selector,
            fields=options.field_selector,
        )

    async def request(self, method: str, path: str, body: Any = None) -> Any:
        path, _, raw_query = path.partition("?")
        query = parse_query(raw_query)
        request = Request(
            method,
            path,
            query,
            dict(self._headers),
            parse_request_info(method, path, query),
            user=self._user,
            body=b"" if body is None else orjson.dumps(body),
            raw_query=raw_query,
        )
        with self._activity.work("request"):
            response = await self._api.handle(request)
            data = response.body
            if response.chunks is not None:
                data = b"".join([chunk async for chunk in response.chunks])
        value = orjson.loads(data) if "json" in response.content_type else data.decode()
        if response.status >= 400:
            if isinstance(value, dict) and value.get("kind") == "Status":
                raise from_status(value)
            raise StatusError(response.status, "Unknown", str(value))
        return value

    async def close(self) -> None:
        """Nothing to close: watches are closed one by one."""


class ActivityWatch:
    """Batches of a cache watcher. While one is waiting or being worked on, the cluster is busy:
    the count is taken when the buffer fills and given back when the consumer asks for more."""

    def __init__(self, watch: LocalWatch, activity: ActivityTracker) -> None:
        self._watch = watch
        self._watcher = watch.watcher
        self._activity = activity
        self._busy = False
        self._closed = False
        self._watcher.wake(self._filled)

    def _filled(self) -> None:
        if self._watcher.pending and not self._busy and not self._closed:
            self._busy = True
            self._activity.begin("watch")

    def _quiet(self) -> None:
        if self._busy:
            self._busy = False
            self._activity.end("watch")

    def __aiter__(self) -> AsyncIterator[list[WatchEvent]]:
        return self._batches()

    async def _batches(self) -> AsyncIterator[list[WatchEvent]]:
        watcher = self._watcher
        try:
            while not self._closed:
                if not watcher.pending:
                    self._quiet()
                    await self._wait()
                batch = watcher.take()
                if not batch:
                    if watcher.closed:
                        break
                    continue
                self._filled_by_us()
                yield [WatchEvent(kind, obj) for kind, obj in self._watch.events(batch)]
        finally:
            self._quiet()
        if watcher.error is not None:
            raise watcher.error

    def _filled_by_us(self) -> None:
        if not self._busy:
            self._busy = True
            self._activity.begin("watch")

    async def _wait(self) -> None:
        import asyncio

        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def woken() -> None:
            self._filled()
            if not future.done():
                future.set_result(None)

        self._watcher.wake(woken)
        try:
            await future
        finally:
            self._watcher.wake(None)

    async def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._watcher.close()
            self._quiet()


async def _object(response: Response) -> Obj:
    if response.obj is not None:
        return cast("Obj", response.obj)
    data = response.body
    if response.chunks is not None:
        data = b"".join([chunk async for chunk in response.chunks])
    if "json" in response.content_type:
        return cast("Obj", orjson.loads(data))
    return cast("Obj", data.decode("utf-8", "replace"))


def _named(field_selector: str) -> str:
    """The name that a selector of exactly ``metadata.name=x`` gives, for authorization."""
    prefix, _, name = field_selector.partition("=")
    if prefix == "metadata.name" and name and "," not in name and "=" not in name:
        return name
    return ""


def _query(parameters: dict[str, str]) -> Query:
    """As :func:`parse_query` gives it."""
    return {key: [value] for key, value in parameters.items()}
