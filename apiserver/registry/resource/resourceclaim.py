"""ResourceClaims."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pilothouse.apimachinery.schema import GroupResource
from pilothouse.apis.resource_k8s_io.defaults import set_claim_spec_defaults
from pilothouse.apis.resource_k8s_io.validation import validate_claim
from pilothouse.apiserver.registry.builtin import BuiltInStrategy

if TYPE_CHECKING:
    from pilothouse.apimachinery.fieldpath import ErrorList
    from pilothouse.apimachinery.object import Obj


class ResourceClaimStrategy(BuiltInStrategy):
    resource = GroupResource("resource.k8s.io", "resourceclaims")
    has_generation = False

    def default(self, obj: Obj) -> None:
        set_claim_spec_defaults(obj.setdefault("spec", {}))

    def check_create(self, obj: Obj) -> ErrorList:
        return validate_claim(obj)

    def check_update(self, obj: Obj, old: Obj) -> ErrorList:
        return validate_claim(obj, old)


STRATEGY = ResourceClaimStrategy()
