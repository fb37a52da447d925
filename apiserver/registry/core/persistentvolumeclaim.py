"""PersistentVolumeClaims."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pilothouse.apimachinery.object import meta
from pilothouse.apimachinery.schema import GroupResource
from pilothouse.apis.core.defaults_objects import set_claim_defaults
from pilothouse.apis.core.validation_pvc import (
    validate_claim,
    validate_claim_status_update,
    validate_claim_update,
)
from pilothouse.apis.core.warnings_volume import claim_spec_warnings
from pilothouse.apiserver.registry.builtin import BuiltInStrategy

if TYPE_CHECKING:
    from pilothouse.apimachinery.fieldpath import ErrorList
    from pilothouse.apimachinery.object import Obj
    from pilothouse.apiserver.registry.context import RegistryContext

_CLASS_ANNOTATION = "volume.beta.kubernetes.io/storage-class"
_SOURCES = (("PersistentVolumeClaim", ""), ("VolumeSnapshot", "snapshot.storage.k8s.io"))


class PersistentVolumeClaimStrategy(BuiltInStrategy):
    resource = GroupResource("", "persistentvolumeclaims")
    has_generation = False

    def default(self, obj: Obj) -> None:
        set_claim_defaults(obj)

    def prepare_for_create(self, context: RegistryContext, obj: Obj) -> None:
        obj["status"] = {"phase": "Pending"}
        _drop_foreign_source(obj["spec"], {})
        _keep_known_source(obj["spec"], {})
        _same_sources(obj["spec"])

    def prepare_for_update(self, context: RegistryContext, obj: Obj, old: Obj) -> None:
        _drop_foreign_source(obj["spec"], old.get("spec") or {})
        _keep_known_source(obj["spec"], old.get("spec") or {})
        _same_sources(obj["spec"])

    def check_create(self, obj: Obj) -> ErrorList:
        return validate_claim(obj)

    def check_update(self, obj: Obj, old: Obj) -> ErrorList:
        return validate_claim_update(obj, old)

    def check_status_update(self, obj: Obj, old: Obj) -> ErrorList:
        return validate_claim_status_update(obj, old)

    def warnings_on_create(self, context: RegistryContext, obj: Obj) -> list[str]:
        warnings = []
        if _CLASS_ANNOTATION in (meta(obj).get("annotations") or {}):
            warnings.append(
                f"metadata.annotations[{_CLASS_ANNOTATION}]: deprecated since v1.8; use "
                '"storageClassName" attribute instead'
            )
        return warnings + claim_spec_warnings(obj.get("spec") or {}, "spec")

    def warnings_on_update(self, context: RegistryContext, obj: Obj, old: Obj) -> list[str]:
        return self.warnings_on_create(context, obj)

    def fields(self, obj: Obj) -> dict[str, str]:
        fields = super().fields(obj)
        fields["name"] = fields["metadata.name"]
        return fields


def _drop_foreign_source(spec: Obj, before: Obj) -> None:
    """Sources in other namespaces are a feature that is off by default
    (CrossNamespaceVolumeDataSource)."""
    reference = spec.get("dataSourceRef")
    if reference and reference.get("namespace") and before.get("dataSourceRef") is None:
        del spec["dataSourceRef"]


def _keep_known_source(spec: Obj, before: Obj) -> None:
    """Sources of other kinds only count in dataSourceRef (as before it existed)."""
    source = spec.get("dataSource")
    if source is None or spec.get("dataSourceRef") is not None:
        return
    if before.get("dataSource") is not None or before.get("dataSourceRef") is not None:
        return
    if (source.get("kind") or "", source.get("apiGroup") or "") not in _SOURCES:
        del spec["dataSource"]


def _same_sources(spec: Obj) -> None:
    """dataSource and dataSourceRef say the same, unless the source is in another namespace."""
    source, reference = spec.get("dataSource"), spec.get("dataSourceRef")
    if source is not None and reference is None:
        spec["dataSourceRef"] = dict(source)
    elif reference is not None and source is None and not reference.get("namespace"):
        spec["dataSource"] = {k: v for k, v in reference.items() if k != "namespace"}


STRATEGY = PersistentVolumeClaimStrategy()
