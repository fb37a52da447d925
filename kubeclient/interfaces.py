"""The one way that components talk to an API server, over two transports.

``kubeclient.https`` speaks HTTPS with a kubeconfig; ``apiserver.local`` calls the handler
chain of an API server in the same process. Objects that come back from either are read-only
(the in-process transport shares them with the server's cache): copy before you change.
Errors are ``apimachinery.errors.StatusError``; a lost connection is ``ConnectionError``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from random import Random

    from pilothouse.apimachinery.clock import Clock
    from pilothouse.apimachinery.object import Obj
    from pilothouse.apimachinery.schema import GroupVersionResource
    from pilothouse.componentbase.activity import ActivityTracker
    from pilothouse.kubeclient.cache.factory import SharedInformerFactory

PatchType = Literal[
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
    "application/apply-patch+yaml",
]


class WatchEvent(NamedTuple):
    """``type`` is ADDED, MODIFIED, DELETED or BOOKMARK; an ERROR is raised as StatusError."""

    type: str
    object: Obj


class ObjectList(NamedTuple):
    items: list[Obj]
    resource_version: str
    continue_token: str = ""


@dataclass(frozen=True, slots=True)
class ListOptions:
    label_selector: str = ""
    field_selector: str = ""
    resource_version: str = ""
    resource_version_match: str = ""
    limit: int = 0
    continue_token: str = ""


@dataclass(frozen=True, slots=True)
class DeleteOptions:
    grace_period_seconds: int | None = None
    propagation_policy: str = ""
    precondition_uid: str = ""
    precondition_resource_version: str = ""
    dry_run: bool = False


class Watch(Protocol):
    """An open watch. Iterating gives batches of events; it ends when the server closes it."""

    def __aiter__(self) -> AsyncIterator[list[WatchEvent]]: ...

    async def close(self) -> None: ...


class Client(Protocol):
    """``namespace=""`` means cluster-scoped, or all namespaces for list and watch."""

    async def get(
        self,
        resource: GroupVersionResource,
        name: str,
        namespace: str = "",
        *,
        subresource: str = "",
    ) -> Obj: ...

    async def list(
        self,
        resource: GroupVersionResource,
        namespace: str = "",
        options: ListOptions = ListOptions(),
    ) -> ObjectList: ...

    async def watch(
        self,
        resource: GroupVersionResource,
        namespace: str = "",
        options: ListOptions = ListOptions(),
        *,
        send_initial_events: bool = False,
        allow_bookmarks: bool = True,
        timeout_seconds: int = 0,
    ) -> Watch: ...

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
        """``name`` is only for a sub-resource (``pods/x/binding``)."""
        ...

    async def update(
        self,
        resource: GroupVersionResource,
        obj: Obj,
        *,
        subresource: str = "",
        field_manager: str = "",
        dry_run: bool = False,
    ) -> Obj:
        """Name and namespace are the object's own."""
        ...

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
    ) -> Obj: ...

    async def delete(
        self,
        resource: GroupVersionResource,
        name: str,
        namespace: str = "",
        options: DeleteOptions = DeleteOptions(),
    ) -> Obj: ...

    async def delete_collection(
        self,
        resource: GroupVersionResource,
        namespace: str = "",
        options: ListOptions = ListOptions(),
        delete: DeleteOptions = DeleteOptions(),
    ) -> None: ...

    async def request(self, method: str, path: str, body: Any = None) -> Any:
        """Any other path (discovery, /version): decoded JSON, or text when it is not JSON."""
        ...

    async def close(self) -> None: ...


@dataclass(slots=True)
class Environment:
    """What every component of one cluster is given; nothing else is shared."""

    client: Client
    informers: SharedInformerFactory
    clock: Clock
    random: Random
    activity: ActivityTracker
    extra: dict[str, Any] = field(default_factory=dict)


class Component(Protocol):
    """A part of the cluster with a life of its own (scheduler, controller manager, kubelet…)."""

    name: str

    async def start(self) -> None:
        """Returns when it works (informers synced, loops running)."""
        ...

    async def stop(self) -> None:
        """Ends all its tasks; may be called after a failed start."""
        ...

    def health(self) -> str | None:
        """None when healthy, else what is wrong in one line."""
        ...
