"""PodTemplates."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pilothouse.apimachinery.schema import GroupResource
from pilothouse.apis.core.defaults_pod import set_template_defaults
from pilothouse.apis.core.validation_template import validate_pod_template
from pilothouse.apis.core.warnings_pod import pod_template_warnings
from pilothouse.apiserver.registry.builtin import BuiltInStrategy

if TYPE_CHECKING:
    from pilothouse.apimachinery.fieldpath import ErrorList
    from pilothouse.apimachinery.object import Obj
    from pilothouse.apiserver.registry.context import RegistryContext


class PodTemplateStrategy(BuiltInStrategy):
    resource = GroupResource("", "podtemplates")
    has_status = False

    def default(self, obj: Obj) -> None:
        set_template_defaults(obj.setdefault("template", {}))

    def check_create(self, obj: Obj) -> ErrorList:
        return validate_pod_template(obj)

    def check_update(self, obj: Obj, old: Obj) -> ErrorList:
        return validate_pod_template(obj, old)

    def warnings_on_create(self, context: RegistryContext, obj: Obj) -> list[str]:
        return pod_template_warnings(obj, "template")


STRATEGY = PodTemplateStrategy()
