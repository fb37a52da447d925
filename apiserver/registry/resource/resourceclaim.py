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

    def prepare_status_update(self, context: RegistryContext, obj: Obj, old: Obj) -> None:
        super().prepare_status_update(context, obj, old)
        _drop_freed(obj.get("status") or {}, old.get("status") or {})

    def check_status_update(self, obj: Obj, old: Obj) -> ErrorList:
        return validate_claim_status(obj, old)

    def validate_status_update(self, context: RegistryContext, obj: Obj, old: Obj) -> ErrorList:
        denied = admin_access.of_results(context, obj, old)
        return denied + super().validate_status_update(context, obj, old)

    def check_update(self, obj: Obj, old: Obj) -> ErrorList:
        return validate_claim(obj, old)


def _drop_freed(status: Obj, old: Obj) -> None:
    """What drivers told of devices goes with their allocation."""
    freed = _allocated(old) - _allocated(status)
    devices = status.get("devices")
    if not devices or not freed:
        return
    status["devices"] = [device for device in devices if _key(device) not in freed]
    if not status["devices"]:
        del status["devices"]


def _allocated(status: Obj) -> set[tuple[str, ...]]:
    results = ((status.get("allocation") or {}).get("devices") or {}).get("results") or ()
    return {_key(result) for result in results}


def _key(entry: Obj) -> tuple[str, ...]:
    return (*(entry.get(p) or "" for p in ("driver", "pool", "device", "shareID")),)


STRATEGY = ResourceClaimStrategy()
