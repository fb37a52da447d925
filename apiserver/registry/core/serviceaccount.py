"""ServiceAccounts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pilothouse.apimachinery.object import meta
from pilothouse.apimachinery.schema import GroupResource
from pilothouse.apiserver.registry.builtin import BuiltInStrategy

if TYPE_CHECKING:
    from pilothouse.apimachinery.object import Obj
    from pilothouse.apiserver.registry.context import RegistryContext

_MOUNTABLE = "kubernetes.io/enforce-mountable-secrets"


class ServiceAccountStrategy(BuiltInStrategy):
    resource = GroupResource("", "serviceaccounts")
    has_status = False
    has_generation = False

    def prepare_for_create(self, context: RegistryContext, obj: Obj) -> None:
        """Of a reference to a secret only the name counts."""
        if obj.get("secrets"):
            obj["secrets"] = [{"name": s.get("name") or ""} for s in obj["secrets"]]

    def prepare_for_update(self, context: RegistryContext, obj: Obj, old: Obj) -> None:
        self.prepare_for_create(context, obj)

    def warnings_on_create(self, context: RegistryContext, obj: Obj) -> list[str]:
        if _MOUNTABLE not in (meta(obj).get("annotations") or {}):
            return []
        return [
            f"metadata.annotations[{_MOUNTABLE}]: deprecated in v1.32+; prefer separate namespaces "
            "to isolate access to mounted secrets"
        ]

    def warnings_on_update(self, context: RegistryContext, obj: Obj, old: Obj) -> list[str]:
        if _MOUNTABLE in (meta(old).get("annotations") or {}):
            return []
        return self.warnings_on_create(context, obj)


STRATEGY = ServiceAccountStrategy()
