"""IPAddresses: named by the canonical form of the address."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pilothouse.apimachinery.schema import GroupResource
from pilothouse.apis.networking.validation_addresses import (
    ip_address_name_messages,
    validate_ip_address,
    validate_ip_address_update,
)
from pilothouse.apiserver.registry.builtin import BuiltInStrategy

if TYPE_CHECKING:
    from pilothouse.apimachinery.fieldpath import ErrorList
    from pilothouse.apimachinery.object import Obj


class IPAddressStrategy(BuiltInStrategy):
    resource = GroupResource("networking.k8s.io", "ipaddresses")
    namespaced = False
    has_status = False
    has_generation = False

    def name_errors(self, name: str, prefix: bool) -> list[str]:
        return ip_address_name_messages(name)

    def check_create(self, obj: Obj) -> ErrorList:
        return validate_ip_address(obj)

    def check_update(self, obj: Obj, old: Obj) -> ErrorList:
        return validate_ip_address_update(obj, old)


STRATEGY = IPAddressStrategy()
