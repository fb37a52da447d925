"""CustomResourceDefinition: defaults, rules, status and what a first DELETE does.

What a CRD stands for is served by ``apiserver/apiextensions``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pilothouse.apimachinery.object import copy_object
from pilothouse.apimachinery.schema import GroupResource
from pilothouse.apimachinery.timefmt import format_time
from pilothouse.apiserver.apiextensions import conditions
from pilothouse.apiserver.apiextensions.columns import NAME
from pilothouse.apiserver.registry.strategy import Column, Strategy

if TYPE_CHECKING:
    from datetime import datetime

    from pilothouse.apimachinery.fieldpath import ErrorList
    from pilothouse.apimachinery.object import Obj
    from pilothouse.apiserver.registry.context import RegistryContext

RESOURCE = GroupResource("apiextensions.k8s.io", "customresourcedefinitions")
_CREATED = Column(
    "Created At",
    "date",
    description=(
        "CreationTimestamp is a timestamp representing the server time when this object was "
        "created. It is not guaranteed to be set in happens-before order across separate "
        "operations. Clients may not set this value. It is represented in RFC3339 form and is in "
        "UTC.\n\nPopulated by the system. Read-only. Null for lists. More info: "
        "https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md"
        "#metadata"
    ),
)


class CustomResourceDefinitionStrategy(Strategy):
    namespaced = False
    repeats_errors = True
    allow_unconditional_update = False
    columns = (
        NAME,
        Column("Scope", description="Cluster/Namespaced"),
        Column("Versions", description="Served versions"),
        _CREATED,
        Column("Group", priority=1, description="API group"),
        Column("Kind", priority=1, description="CustomResource kind"),
        Column("ShortNames", priority=1, description="Short names"),
        Column("Established", "boolean", priority=1, description="Established status"),
    )

    def default(self, obj: Obj) -> None:
        spec = obj.setdefault("spec", {})
        names = spec.setdefault("names", {})
        kind = names.get("kind") or ""
        if not names.get("singular"):
            names["singular"] = kind.lower()
        if not names.get("listKind") and kind:
            names["listKind"] = f"{kind}List"
        conversion = spec.setdefault("conversion", {"strategy": "None"})
        webhook = conversion.get("webhook") or {}
        if not webhook:
            conversion.pop("webhook", None)
        service = (webhook.get("clientConfig") or {}).get("service")
        if service is not None and service.get("port") is None:
            service["port"] = 443
        storage = conditions.storage_version(obj)
        if storage and not conditions.stored_versions(obj):
            status = obj["status"] = dict(obj.get("status") or {})
            status["storedVersions"] = [storage]

    def prepare_for_create(self, context: RegistryContext, obj: Obj) -> None:
        obj["status"] = {}
        _remember_storage_version(obj)
        _fill_status(obj)

    def prepare_for_update(self, context: RegistryContext, obj: Obj, old: Obj) -> None:
        obj["status"] = dict(old.get("status") or {})
        _remember_storage_version(obj)
        _fill_status(obj)

    def prepare_status_update(self, context: RegistryContext, obj: Obj, old: Obj) -> None:
        _fill_status(obj)

    def validate(self, context: RegistryContext, obj: Obj) -> ErrorList:
        from pilothouse.apimachinery.fieldpath import Path, invalid
        from pilothouse.apiserver.apiextensions.crd_validation import validate

        spec, name = obj["spec"], obj["metadata"].get("name") or ""
        errors: ErrorList = []
        plural = (spec.get("names") or {}).get("plural") or ""
        if name != f"{plural}.{spec.get('group') or ''}":
            detail = 'must be spec.names.plural+"."+spec.group'
            errors.append(invalid(Path("metadata.name"), name, detail))
        return errors + validate(obj)

    def validate_update(self, context: RegistryContext, obj: Obj, old: Obj) -> ErrorList:
        from pilothouse.apiserver.apiextensions.crd_validation import validate_update

        return validate_update(obj, old)

    def validate_status_update(self, context: RegistryContext, obj: Obj, old: Obj) -> ErrorList:
        from pilothouse.apiserver.apiextensions.crd_validation import validate_status_update

        return validate_status_update(obj)

    def warnings_on_create(self, context: RegistryContext, obj: Obj) -> list[str]:
        from pilothouse.apiserver.apiextensions.crd_warnings import warnings

        return warnings(obj, None)

    def warnings_on_update(self, context: RegistryContext, obj: Obj, old: Obj) -> list[str]:
        from pilothouse.apiserver.apiextensions.crd_warnings import warnings

        return warnings(obj, old)

    def mark_for_deletion(self, context: RegistryContext, obj: Obj) -> Obj | None:
        """Adds the finalizer that holds a CRD until its objects are gone."""
        if obj["metadata"].get("deletionTimestamp"):
            return None
        marked: Obj = copy_object(obj)
        now = format_time(context.clock.now())
        metadata = marked["metadata"]
        metadata["deletionTimestamp"] = now
        finalizers = list(metadata.get("finalizers") or ())
        if conditions.FINALIZER not in finalizers:
            finalizers.append(conditions.FINALIZER)
        metadata["finalizers"] = finalizers
        message = (
            "CustomResourceDefinition marked for deletion; CustomResource deletion will begin soon"
        )
        terminating = conditions.condition(
            conditions.TERMINATING, "True", "InstanceDeletionPending", message
        )
        conditions.set_condition(marked.setdefault("status", {}), terminating, now)
        return marked

    def row(self, obj: Obj, now: datetime) -> list[Any]:
        metadata, spec = obj["metadata"], obj.get("spec") or {}
        names = spec.get("names") or {}
        versions = sorted(
            version["name"] + ("(storage)" if version.get("storage") else "")
            for version in spec.get("versions") or ()
            if version.get("served")
        )
        return [
            metadata.get("name") or "",
            spec.get("scope") or "",
            ",".join(versions),
            metadata.get("creationTimestamp"),
            spec.get("group") or "",
            names.get("kind") or "",
            ",".join(names.get("shortNames") or ()),
            conditions.is_true(obj, conditions.ESTABLISHED),
        ]


def _remember_storage_version(crd: Obj) -> None:
    storage = conditions.storage_version(crd)
    stored = conditions.stored_versions(crd)
    if storage and storage not in stored:
        crd["status"]["storedVersions"] = [*stored, storage]


def _fill_status(crd: Obj) -> None:
    """Go writes names and conditions even when there are none."""
    status = crd.setdefault("status", {})
    status.setdefault("conditions", None)
    status.setdefault("acceptedNames", {"plural": "", "kind": ""})


STRATEGY = CustomResourceDefinitionStrategy()
