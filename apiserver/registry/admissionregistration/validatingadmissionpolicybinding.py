"""ValidatingAdmissionPolicyBindings."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pilothouse.apimachinery.schema import GroupResource
from pilothouse.apis.admissionregistration.defaults import set_binding_defaults
from pilothouse.apis.admissionregistration.validation_policies import validate_binding
from pilothouse.apis.admissionregistration.validation_rules import (
    static_suffix_errors,
    static_suffix_warnings,
)
from pilothouse.apiserver.registry.builtin import BuiltInStrategy

if TYPE_CHECKING:
    from pilothouse.apimachinery.fieldpath import ErrorList
    from pilothouse.apimachinery.object import Obj
    from pilothouse.apiserver.registry.context import RegistryContext


class ValidatingAdmissionPolicyBindingStrategy(BuiltInStrategy):
    resource = GroupResource("admissionregistration.k8s.io", "validatingadmissionpolicybindings")
    namespaced = False
    has_status = False
    allow_unconditional_update = False

    def default(self, obj: Obj) -> None:
        set_binding_defaults(obj)

    def check_create(self, obj: Obj) -> ErrorList:
        return validate_binding(obj, mutating=False) + static_suffix_errors(obj)

    def check_update(self, obj: Obj, old: Obj) -> ErrorList:
        return validate_binding(obj, mutating=False)

    def warnings_on_update(self, context: RegistryContext, obj: Obj, old: Obj) -> list[str]:
        return static_suffix_warnings(obj)


STRATEGY = ValidatingAdmissionPolicyBindingStrategy()
