"""ResourceClaimTemplates."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pilothouse.apimachinery.schema import GroupResource
from pilothouse.apis.resource_k8s_io.defaults import set_claim_spec_defaults
from pilothouse.apis.resource_k8s_io.validation import validate_claim_template
from pilothouse.apiserver.registry.builtin import BuiltInStrategy
from pilothouse.apiserver.registry.resource import admin_access

if TYPE_CHECKING:
    from pilothouse.apimachinery.fieldpath import ErrorList
    from pilothouse.apimachinery.object import Obj
    from pilothouse.apiserver.registry.context import RegistryContext


class ResourceClaimTemplateStrategy(BuiltInStrategy):
    resource = GroupResource("resource.k8s.io", "resourceclaimtemplates")
    has_status = False
    has_generation = False

    def default(self, obj: Obj) -> None:
        set_claim_spec_defaults((obj.get("spec") or {}).get("spec") or {})

    def check_create(self, obj: Obj) -> ErrorList:
        return validate_claim_template(obj)

    def validate(self, context: RegistryContext, obj: Obj) -> ErrorList:
        spec = (obj.get("spec") or {}).get("spec") or {}
        denied = admin_access.of_requests(context, obj, spec)
        return denied + super().validate(context, obj)

    def check_update(self, obj: Obj, old: Obj) -> ErrorList:
        return validate_claim_template(obj, old)


STRATEGY = ResourceClaimTemplateStrategy()
