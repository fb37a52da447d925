"""DaemonSets."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pilothouse.apimachinery.object import meta
from pilothouse.apimachinery.schema import GroupResource
from pilothouse.apis.apps.defaults import set_daemon_set_defaults
from pilothouse.apis.apps.validation_sets import (
    validate_daemon_set,
    validate_daemon_set_status_update,
    validate_daemon_set_update,
)
from pilothouse.apis.core.warnings_pod import pod_template_warnings
from pilothouse.apis.meta.equality import semantic_equal
from pilothouse.apiserver.registry.builtin import BuiltInStrategy

if TYPE_CHECKING:
    from pilothouse.apimachinery.fieldpath import ErrorList
    from pilothouse.apimachinery.object import Obj
    from pilothouse.apiserver.registry.context import RegistryContext

GENERATION = "deprecated.daemonset.template.generation"
"""The internal templateGeneration, which apps/v1 keeps in an annotation."""


class DaemonSetStrategy(BuiltInStrategy):
    resource = GroupResource("apps", "daemonsets")

    def default(self, obj: Obj) -> None:
        set_daemon_set_defaults(obj)
        metadata = obj.setdefault("metadata", {})
        if GENERATION not in (metadata.get("annotations") or {}):
            _set_template_generation(obj, 0)  # as upstream's conversion: its writer manages it

    def prepare_for_create(self, context: RegistryContext, obj: Obj) -> None:
        _set_template_generation(obj, max(_template_generation(obj), 1))
        fields = ("currentNumberScheduled", "desiredNumberScheduled", "numberMisscheduled")
        obj["status"] = {**dict.fromkeys(fields, 0), "numberReady": 0}

    def prepare_for_update(self, context: RegistryContext, obj: Obj, old: Obj) -> None:
        """The template's generation is the server's: it grows when the template changes."""
        generation = _template_generation(old) or 1
        new, before = obj.get("spec") or {}, old.get("spec") or {}
        if not semantic_equal(new.get("template"), before.get("template")):
            generation += 1
        _set_template_generation(obj, generation)

    def check_create(self, obj: Obj) -> ErrorList:
        return validate_daemon_set(obj)

    def check_update(self, obj: Obj, old: Obj) -> ErrorList:
        return validate_daemon_set_update(obj, old)

    def check_status_update(self, obj: Obj, old: Obj) -> ErrorList:
        return validate_daemon_set_status_update(obj, old)

    def warnings_on_create(self, context: RegistryContext, obj: Obj) -> list[str]:
        return pod_template_warnings(obj)


def _template_generation(obj: Obj) -> int:
    text = (meta(obj).get("annotations") or {}).get(GENERATION) or ""
    return int(text) if text.isascii() and text.isdigit() else 0


def _set_template_generation(obj: Obj, generation: int) -> None:
    metadata = obj["metadata"]
    metadata["annotations"] = {**(metadata.get("annotations") or {}), GENERATION: str(generation)}


STRATEGY = DaemonSetStrategy()
