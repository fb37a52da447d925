"""What is special about one kind (apiserver pkg/registry/rest, RESTCreateStrategy & co.).

A kind's file subclasses :class:`Strategy`, overrides what differs and exports ``STRATEGY``.
All methods are pure functions of their arguments and of ``context`` (clock, random, listers,
allocators): no I/O. The registry's store calls them in upstream's order:

create: default → (mutating admission) → prepare_for_create → validate → warnings →
canonicalize → begin_create → (validating admission) → write;
update: the same with the ``_update`` forms, ``old`` being read-only.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pilothouse.apimachinery.object import Obj, meta

if TYPE_CHECKING:
    from datetime import datetime

    from pilothouse.apimachinery.fieldpath import ErrorList
    from pilothouse.apiserver.registry.context import RegistryContext
    from pilothouse.apiserver.request.context import UserInfo


@dataclass(frozen=True, slots=True)
class Column:
    """A printer column (metav1.TableColumnDefinition)."""

    name: str
    type: str = "string"
    format: str = ""
    description: str = ""
    priority: int = 0


NAME_COLUMN = Column("Name", format="name", description="Name must be unique within a namespace.")
AGE_COLUMN = Column("Age", description="CreationTimestamp is a timestamp.")

UNSUPPORTED = "unsupported"
Rollback = Callable[[], None]


class Strategy:
    """Defaults fit a kind with a spec and a status; override the rest."""

    namespaced: bool = True
    has_status: bool = True
    """``status`` is dropped on create and kept from ``old`` on a main-resource update."""
    repeats_errors: bool = False
    """Whether the same error may be told twice, as upstream does of kinds without declarative
    validation."""
    repeats_metadata_errors: bool = False
    """Whether an update's errors in metadata are always told twice."""
    has_generation: bool = True
    """``metadata.generation`` is 1 on create and grows when anything but metadata and status
    changes."""
    allow_create_on_update: bool = False
    allow_unconditional_update: bool = True
    graceful: bool = False
    """DELETE may leave the object with a deletionTimestamp and a grace period (Pods)."""
    columns: tuple[Column, ...] = (NAME_COLUMN, AGE_COLUMN)
    selectable_fields: tuple[str, ...] = ()
    """Field paths beyond metadata.name and metadata.namespace, e.g. ``spec.nodeName``."""
    ttl_seconds: int = 0
    """Objects are deleted after this long (Events)."""
    unmanaged_fields: tuple[str, ...] = ()
    """Field paths that clients of the main resource can't set and so never manage."""
    unmanaged_status_fields: tuple[str, ...] = ()
    """The same of ``/status``, beyond what it ignores of any kind."""
    collapsed_zero_fields: tuple[str, ...] = ()
    status_apart: bool = False
    """``default`` looks at nothing else for the status, and does without a spec."""

    def name_errors(self, name: str, prefix: bool) -> list[str]:
        """Messages when ``name`` is not allowed for this kind (``prefix``: generateName)."""
        from pilothouse.apimachinery.names import is_dns1123_subdomain

        return is_dns1123_subdomain(name, prefix=prefix)

    def default(self, obj: Obj) -> None:
        """Sets defaults that the type schema does not hold (SetDefaults_* of upstream)."""

    def record_requester(self, obj: Obj, user: UserInfo) -> None:
        """Before ``prepare_for_create``: for kinds that hold who created them (CSRs)."""

    def prepare_for_create(self, context: RegistryContext, obj: Obj) -> None: ...

    def prepare_for_update(self, context: RegistryContext, obj: Obj, old: Obj) -> None: ...

    def validate(self, context: RegistryContext, obj: Obj) -> ErrorList:
        return []

    def validate_after(self, context: RegistryContext, obj: Obj, found: ErrorList) -> ErrorList:
        """``validate`` for who must know what is wrong with the metadata already."""
        return self.validate(context, obj)

    def validate_update(self, context: RegistryContext, obj: Obj, old: Obj) -> ErrorList:
        return []

    def prepare_status_update(self, context: RegistryContext, obj: Obj, old: Obj) -> None:
        """``obj`` already holds ``old`` with the new status (and allowed metadata)."""

    def validate_status_update(self, context: RegistryContext, obj: Obj, old: Obj) -> ErrorList:
        return []

    def warnings_on_create(self, context: RegistryContext, obj: Obj) -> list[str]:
        return []

    def warnings_on_update(self, context: RegistryContext, obj: Obj, old: Obj) -> list[str]:
        return []

    def canonicalize(self, obj: Obj) -> None: ...

    def begin_create(self, context: RegistryContext, obj: Obj, dry_run: bool) -> Rollback | None:
        """Last step before the write; may allocate (ClusterIPs). The result undoes it."""
        return None

    def begin_update(
        self, context: RegistryContext, obj: Obj, old: Obj, dry_run: bool
    ) -> Rollback | None:
        return None

    def after_delete(self, context: RegistryContext, obj: Obj) -> None:
        """The object is gone from the store: release what ``begin_create`` took."""

    def grace_period(self, context: RegistryContext, obj: Obj, requested: int | None) -> int:
        """Seconds of grace for a delete; 0 deletes at once. Only asked when ``graceful``."""
        return 0

    def mark_for_deletion(self, context: RegistryContext, obj: Obj) -> Obj | None:
        """A changed copy of the live object when its first DELETE only marks it, whatever the
        request's options say (CustomResourceDefinitions)."""
        return None

    def warnings_on_delete(self, options: Obj) -> list[str]:
        """For any delete, whether or not there is such an object."""
        return []

    def default_propagation(self, obj: Obj) -> str:
        """``orphan`` or ``background``: what a delete without a policy does to dependents;
        ``UNSUPPORTED``: there is nothing to collect, whatever a delete says."""
        return "background"

    def fields(self, obj: Obj) -> dict[str, str]:
        """Values for field selectors; must cover ``selectable_fields`` and metadata."""
        metadata = meta(obj)
        fields = {"metadata.name": metadata.get("name") or ""}
        if self.namespaced:
            fields["metadata.namespace"] = metadata.get("namespace") or ""
        for path in self.selectable_fields:
            value: Any = obj
            for step in path.split("."):
                value = value.get(step) if isinstance(value, dict) else None
            fields[path] = _field_text(value)
        return fields

    def row(self, obj: Obj, now: datetime) -> list[Any]:
        """Table cells for ``columns``."""
        from pilothouse.apiserver.registry.printing import age

        return [meta(obj).get("name") or "", age(obj, now)]


def _field_text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)
