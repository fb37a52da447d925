"""Leases (coordinated leader election is off)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pilothouse.apimachinery.schema import GroupResource
from pilothouse.apis.coordination.validation import validate_lease
from pilothouse.apiserver.registry.builtin import BuiltInStrategy

if TYPE_CHECKING:
    from pilothouse.apimachinery.fieldpath import ErrorList
    from pilothouse.apimachinery.object import Obj
    from pilothouse.apiserver.registry.context import RegistryContext

_GATED = ("strategy", "preferredHolder")


class LeaseStrategy(BuiltInStrategy):
    resource = GroupResource("coordination.k8s.io", "leases")
    has_status = False
    has_generation = False
    allow_create_on_update = True
    allow_unconditional_update = False

    def prepare_for_create(self, context: RegistryContext, obj: Obj) -> None:
        _drop_gated(obj, {})

    def prepare_for_update(self, context: RegistryContext, obj: Obj, old: Obj) -> None:
        _drop_gated(obj, old.get("spec") or {})

    def check_create(self, obj: Obj) -> ErrorList:
        return validate_lease(obj)


def _drop_gated(obj: Obj, old_spec: Obj) -> None:
    spec = obj.get("spec")
    if spec:
        for field in _GATED:
            if field in spec and old_spec.get(field) is None:
                del spec[field]


STRATEGY = LeaseStrategy()
