"""Admission: may this change be made, and with which additions? (apiserver pkg/admission)"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from pilothouse.apimachinery.object import Obj
    from pilothouse.apimachinery.schema import GroupResource, GroupVersionKind, GroupVersionResource
    from pilothouse.apiserver.request.context import UserInfo

Operation = Literal["CREATE", "UPDATE", "DELETE", "CONNECT"]


@dataclass(slots=True)
class Attributes:
    """One change. ``obj`` is mutable in ``admit`` and must not change in ``validate``."""

    operation: Operation
    kind: GroupVersionKind
    resource: GroupVersionResource
    subresource: str
    namespace: str
    name: str
    obj: Obj | None
    old_obj: Obj | None
    user: UserInfo
    dry_run: bool = False
    options: Obj = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    audit_annotations: dict[str, str] = field(default_factory=dict)


class Listers(Protocol):
    """Synchronous reads of the API server's own watch caches; results are shared, read-only."""

    def get(self, resource: GroupResource, namespace: str, name: str) -> Obj | None: ...

    def list(self, resource: GroupResource, namespace: str = "") -> Iterable[Obj]: ...

    def subscribe(
        self, resource: GroupResource, handler: Callable[[str, Obj, Obj | None], Any]
    ) -> None:
        """``handler(event_type, obj, old)`` with ADDED, MODIFIED or DELETED for each change from
        now on, after an ADDED for each object that exists; called synchronously, in order.
        The objects may lack their resourceVersion."""
        ...


class AdmissionPlugin(Protocol):
    """A plugin does one thing, knows no other plugin, and does no I/O it can avoid."""

    name: str

    def interested(self, operation: Operation, resource: GroupResource, subresource: str) -> bool:
        """Asked once per (operation, resource, subresource); the chain remembers the answer."""
        ...

    async def admit(self, attributes: Attributes) -> None:
        """May change ``attributes.obj``.

        :raises StatusError: to refuse (403 with upstream's text).
        """
        ...

    async def validate(self, attributes: Attributes) -> None:
        """Must not change anything. :raises StatusError: to refuse."""
        ...
