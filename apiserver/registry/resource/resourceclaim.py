"""ResourceClaims."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pilothouse.apimachinery.schema import GroupResource
from pilothouse.apis.resource_k8s_io.defaults import set_claim_spec_defaults
from pilothouse.apis.resource_k8s_io.validation import validate_claim
from pilothouse.apis.resource_k8s_io.validation_claim_status import validate_claim_status
from pilothouse.apiserver.registry.builtin import BuiltInStrategy
from pilothouse.apiserver.registry.resource import admin_access

if TYPE_CHECKING:
    from pilothouse.apimachinery.fieldpath import ErrorList
    from pilothouse.apimachinery.object import Obj
    from pilothouse.apiserver.registry.context import RegistryContext


class ResourceClaimStrategy(BuiltInStrategy):
    resource = GroupResource("resource.k8s.io", "resourceclaims")
    has_generation = False

    def default(self, obj: Obj) -> None:
        set_claim_spec_defaults(obj.setdefault("spec", {}))

    def check_create(self, obj: Obj) -> ErrorList:
        return validate_claim(obj)

    def validate(self, context: RegistryContext, obj: Obj) -> ErrorList:
        denied = admin_access.of_requests(context, obj, obj.get("spec") or {})
        return denied + super().validate(context, obj)

    def check_status_update(self, obj: Obj, old: Obj) -> ErrorList:
        return validate_claim_status(obj, old)

    def validate_status_update(self, context: RegistryContext, obj: Obj, old: Obj) -> ErrorList:
        denied = admin_access.of_results(context, obj, old)
        return denied + super().validate_status_update(context, obj, old)

    def check_update(self, obj: Obj, old: Obj) -> ErrorList:
        return validate_claim(obj, old)


STRATEGY = ResourceClaimStrategy()
