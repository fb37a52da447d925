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
class Reinvocation:
    """Whether the mutating plugins run a second time (upstream's ReinvocationContext)."""

    again: bool = False
    """A plugin sets it when it has changed the object: all mutating plugins run once more."""
    running: bool = False
    """Set by the chain in that second round."""
    values: dict[str, Any] = field(default_factory=dict)
    """What a plugin, by its name, remembers from the first round."""


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
    redecode: Callable[[Obj], Obj] | None = None
    """For plugins that change ``obj`` by a patch: the patched object (the function's own, in the
    version in which ``obj`` was) as a request body of its kind is taken in: fitted to its type,
    unknown fields dropped, defaulted. None: the operation has no object of the resource's kind.
    Raises StatusError (400) when a value has the wrong type."""
    reinvocation: Reinvocation | None = None
    """Set by the first plugin that patches objects as users configure it."""

    def reinvocable(self) -> Reinvocation:
        """For such plugins: what they share with the chain about this change."""
        if self.reinvocation is None:
            self.reinvocation = Reinvocation()
        return self.reinvocation


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
