"""Jobs: the server makes the selector and the labels that go with it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pilothouse.apimachinery.object import meta
from pilothouse.apimachinery.schema import GroupResource
from pilothouse.apis.batch.defaults import set_job_defaults
from pilothouse.apis.batch.validation_job import (
    NAME_LABELS,
    UID_LABELS,
    validate_job,
    validate_job_update,
)
from pilothouse.apis.batch.validation_job_status import validate_job_status_update
from pilothouse.apis.core.warnings_pod import pod_template_warnings
from pilothouse.apiserver.registry.builtin import BuiltInStrategy, pod_name_warning

if TYPE_CHECKING:
    from pilothouse.apimachinery.fieldpath import ErrorList
    from pilothouse.apimachinery.object import Obj
    from pilothouse.apiserver.registry.context import RegistryContext

_PRESERVED = (
    "child pods are preserved by default when jobs are deleted; set propagationPolicy=Background "
    "to remove them or set propagationPolicy=Orphan to suppress this warning"
)


class JobStrategy(BuiltInStrategy):
    resource = GroupResource("batch", "jobs")
    selectable_fields = ("status.successful",)

    def default(self, obj: Obj) -> None:
        set_job_defaults(obj)

    def prepare_for_create(self, context: RegistryContext, obj: Obj) -> None:
        if not obj["spec"].get("manualSelector"):
            _generate_selector(obj)
        labels = obj["spec"]["template"].get("metadata", {}).get("labels")
        if labels and not meta(obj).get("labels"):  # a default that upstream applies on reading
            meta(obj)["labels"] = dict(labels)
        obj["status"] = {}

    def check_create(self, obj: Obj) -> ErrorList:
        return validate_job(obj)

    def check_update(self, obj: Obj, old: Obj) -> ErrorList:
        return validate_job_update(obj, old)

    def check_status_update(self, obj: Obj, old: Obj) -> ErrorList:
        return validate_job_status_update(obj, old)

    def warnings_on_create(self, context: RegistryContext, obj: Obj) -> list[str]:
        return pod_name_warning(obj, "Pod names and hostnames") + pod_template_warnings(obj)

    def warnings_on_delete(self, options: Obj) -> list[str]:
        if options.get("propagationPolicy") is None and options.get("orphanDependents") is None:
            return [_PRESERVED]
        return []

    def default_propagation(self, obj: Obj) -> str:
        return "orphan"

    def fields(self, obj: Obj) -> dict[str, str]:
        fields = super().fields(obj)
        fields["status.successful"] = str((obj.get("status") or {}).get("succeeded") or 0)
        return fields


def _generate_selector(obj: Obj) -> None:
    spec, metadata = obj["spec"], meta(obj)
    uid, name = metadata.get("uid") or "", metadata.get("name") or ""
    template = spec.setdefault("template", {})
    template_meta = template.get("metadata")
    if template_meta is None:
        template_meta = template["metadata"] = {}
    labels = dict(template_meta.get("labels") or {})
    for label in NAME_LABELS:
        labels.setdefault(label, name)
    for label in UID_LABELS:
        labels.setdefault(label, uid)
    template_meta["labels"] = labels
    selector = dict(spec.get("selector") or {})
    selector["matchLabels"] = {UID_LABELS[1]: uid, **(selector.get("matchLabels") or {})}
    spec["selector"] = selector


STRATEGY = JobStrategy()
