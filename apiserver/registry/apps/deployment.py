"""Deployments."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pilothouse.apimachinery.schema import GroupResource
from pilothouse.apis.apps.defaults import set_deployment_defaults
from pilothouse.apis.apps.validation import (
    validate_deployment,
    validate_deployment_status_update,
    validate_deployment_update,
)
from pilothouse.apis.core.warnings_pod import pod_template_warnings
from pilothouse.apiserver.registry.builtin import (
    BuiltInStrategy,
    annotations_changed,
    bump_generation,
    keep_metadata,
    pod_name_warning,
)

if TYPE_CHECKING:
    from pilothouse.apimachinery.fieldpath import ErrorList
    from pilothouse.apimachinery.object import Obj
    from pilothouse.apiserver.registry.context import RegistryContext


class DeploymentStrategy(BuiltInStrategy):
    resource = GroupResource("apps", "deployments")
    unmanaged_status_fields = ("metadata.labels",)

    def default(self, obj: Obj) -> None:
        set_deployment_defaults(obj)

    def prepare_for_update(self, context: RegistryContext, obj: Obj, old: Obj) -> None:
        if annotations_changed(obj, old):
            bump_generation(obj, old)

    def prepare_status_update(self, context: RegistryContext, obj: Obj, old: Obj) -> None:
        keep_metadata(obj, old, "labels")

    def check_create(self, obj: Obj) -> ErrorList:
        return validate_deployment(obj)

    def check_update(self, obj: Obj, old: Obj) -> ErrorList:
        return validate_deployment_update(obj, old)

    def check_status_update(self, obj: Obj, old: Obj) -> ErrorList:
        return validate_deployment_status_update(obj, old)

    def warnings_on_create(self, context: RegistryContext, obj: Obj) -> list[str]:
        return pod_name_warning(obj, "Pod names and hostnames") + pod_template_warnings(obj)

    def warnings_on_update(self, context: RegistryContext, obj: Obj, old: Obj) -> list[str]:
        same = obj["metadata"].get("generation") == old["metadata"].get("generation")
        return [] if same else pod_template_warnings(obj)


STRATEGY = DeploymentStrategy()
