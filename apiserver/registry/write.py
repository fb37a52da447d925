"""The circumstances of one write, from the endpoint through admission to the store."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from pilothouse.apiserver.admission.interfaces import Attributes

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from pilothouse.apimachinery.object import Obj
    from pilothouse.apimachinery.schema import GroupVersionKind
    from pilothouse.apiserver.admission.interfaces import Operation
    from pilothouse.apiserver.registry.resources import ServedResource
    from pilothouse.apiserver.request.context import UserInfo


class View(Protocol):
    """A sub-resource's own form of its parent (a Scale)."""

    def show(self, parent: Obj) -> Obj: ...

    def take(self, parent: Obj, shown: Obj) -> Obj:
        """``parent`` with what admission has made of its form."""
        ...


@dataclass(slots=True)
class Write:
    """``served`` is the version that the client speaks; ``manager`` the field manager."""

    served: ServedResource
    namespace: str
    name: str
    user: UserInfo
    subresource: str = ""
    dry_run: bool = False
    manager: str = "unknown"
    options: Obj = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    audit_annotations: dict[str, str] = field(default_factory=dict)
    authorize_create: Callable[[], Awaitable[None]] | None = None
    """Asked before an update or apply creates. :raises StatusError: 403."""
    kind: GroupVersionKind | None = None
    """What admission is told when a sub-resource's kind is not the resource's."""
    force: bool = False
    """Of an apply: fields of other managers may be taken."""
    collection: bool = False
    """Of a collection: admission is told no name, as upstream."""
    view: View | None = None
    """As what admission sees the objects of such a sub-resource."""

    def attributes(self, operation: Operation, obj: Obj | None, old: Obj | None) -> Attributes:
        name = "" if self.collection else self.name
        if not name and obj is not None:
            name = obj["metadata"].get("name") or ""
        options = self.options
        if operation == "CREATE" and options.get("kind") == "UpdateOptions":
            options = {**options, "kind": "CreateOptions"}
        return Attributes(
            operation,
            self.kind or self.served.gvk,
            self.served.gvr,
            self.subresource,
            self.namespace,
            name,
            obj,
            old,
            self.user,
            self.dry_run,
            options,
            self.warnings,
            self.audit_annotations,
        )
