"""APIServices: which server answers for a group and version."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pilothouse.apimachinery.names import is_path_segment_name
from pilothouse.apimachinery.schema import GroupResource
from pilothouse.apimachinery.timefmt import format_time
from pilothouse.apis.apiregistration.validation import (
    validate_api_service,
    validate_api_service_status_update,
)
from pilothouse.apiserver.registry.builtin import BuiltInStrategy, keep_metadata

if TYPE_CHECKING:
    from pilothouse.apimachinery.fieldpath import ErrorList
    from pilothouse.apimachinery.object import Obj
    from pilothouse.apiserver.registry.context import RegistryContext

_SERVICE_PORT = 443


class APIServiceStrategy(BuiltInStrategy):
    resource = GroupResource("apiregistration.k8s.io", "apiservices")
    namespaced = False
    has_generation = False
    repeats_errors = True
    repeats_metadata_errors = True
    allow_unconditional_update = False

    def name_errors(self, name: str, prefix: bool) -> list[str]:
        return is_path_segment_name(name, prefix=prefix)

    def default(self, obj: Obj) -> None:
        service = (obj.get("spec") or {}).get("service")
        if service is not None and service.get("port") is None:
            service["port"] = _SERVICE_PORT

    def prepare_for_create(self, context: RegistryContext, obj: Obj) -> None:
        obj["status"] = {}
        if (obj.get("spec") or {}).get("service") is None:
            condition = {
                "type": "Available",
                "status": "True",
                "lastTransitionTime": format_time(context.clock.now()),
                "reason": "Local",
                "message": "Local APIServices are always available",
            }
            obj["status"] = {"conditions": [condition]}

    def prepare_status_update(self, context: RegistryContext, obj: Obj, old: Obj) -> None:
        keep_metadata(obj, old, "labels", "annotations", "finalizers", "ownerReferences")

    def check_create(self, obj: Obj) -> ErrorList:
        return validate_api_service(obj)

    def check_status_update(self, obj: Obj, old: Obj) -> ErrorList:
        return validate_api_service_status_update(obj)


STRATEGY = APIServiceStrategy()
