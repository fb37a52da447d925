"""NetworkPolicies."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pilothouse.apimachinery.schema import GroupResource
from pilothouse.apis.networking.defaults import set_network_policy_defaults
from pilothouse.apis.networking.validation_policy import (
    network_policy_warnings,
    validate_network_policy,
)
from pilothouse.apiserver.registry.builtin import BuiltInStrategy

if TYPE_CHECKING:
    from pilothouse.apimachinery.fieldpath import ErrorList
    from pilothouse.apimachinery.object import Obj
    from pilothouse.apiserver.registry.context import RegistryContext


class NetworkPolicyStrategy(BuiltInStrategy):
    resource = GroupResource("networking.k8s.io", "networkpolicies")
    has_status = False

    def default(self, obj: Obj) -> None:
        set_network_policy_defaults(obj)

    def check_create(self, obj: Obj) -> ErrorList:
        return validate_network_policy(obj)

    def check_update(self, obj: Obj, old: Obj) -> ErrorList:
        return validate_network_policy(obj, old)

    def warnings_on_create(self, context: RegistryContext, obj: Obj) -> list[str]:
        return network_policy_warnings(obj)

    def warnings_on_update(self, context: RegistryContext, obj: Obj, old: Obj) -> list[str]:
        return network_policy_warnings(obj)


STRATEGY = NetworkPolicyStrategy()
