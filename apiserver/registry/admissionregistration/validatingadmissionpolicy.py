"""ValidatingAdmissionPolicies."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pilothouse.apimachinery.schema import GroupResource
from pilothouse.apis.admissionregistration.defaults import set_policy_defaults
from pilothouse.apis.admissionregistration.validation_policies import validate_validating_policy
from pilothouse.apis.admissionregistration.validation_rules import (
    static_suffix_errors,
    static_suffix_warnings,
)
from pilothouse.apis.admissionregistration.validation_status import validate_policy_status
from pilothouse.apiserver.registry.builtin import BuiltInStrategy

if TYPE_CHECKING:
    from pilothouse.apimachinery.fieldpath import ErrorList
    from pilothouse.apimachinery.object import Obj
    from pilothouse.apiserver.registry.context import RegistryContext


class ValidatingAdmissionPolicyStrategy(BuiltInStrategy):
    resource = GroupResource("admissionregistration.k8s.io", "validatingadmissionpolicies")
    namespaced = False
    allow_unconditional_update = False

    def default(self, obj: Obj) -> None:
        set_policy_defaults(obj)

    def check_create(self, obj: Obj) -> ErrorList:
        return validate_validating_policy(obj) + static_suffix_errors(obj)

    def check_update(self, obj: Obj, old: Obj) -> ErrorList:
        return validate_validating_policy(obj, old)

    def warnings_on_update(self, context: RegistryContext, obj: Obj, old: Obj) -> list[str]:
        return static_suffix_warnings(obj)

    def check_status_update(self, obj: Obj, old: Obj) -> ErrorList:
        return validate_policy_status(obj)


STRATEGY = ValidatingAdmissionPolicyStrategy()
