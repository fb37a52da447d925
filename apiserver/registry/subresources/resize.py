"""``pods/resize``: changes resources of running containers (core/pod ResizeREST)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pilothouse.apimachinery.object import copy_object
from pilothouse.apiserver.endpoints import get
from pilothouse.apiserver.registry.subresources.delegate import DelegatingStrategy
from pilothouse.apiserver.registry.subresources.ephemeral_containers import (
    reset_metadata,
    update_with,
)

if TYPE_CHECKING:
    from pilothouse.apimachinery.fieldpath import ErrorList
    from pilothouse.apimachinery.object import Obj
    from pilothouse.apiserver.endpoints.handler import Server
    from pilothouse.apiserver.registry.context import RegistryContext
    from pilothouse.apiserver.registry.resources import ServedResource
    from pilothouse.apiserver.request.context import Request, Response

_LISTS = ("containers", "initContainers")
_RESIZABLE = ("resources", "resizePolicy")


class ResizeStrategy(DelegatingStrategy):
    """Takes resources and resize policies from the request, all else from the live pod."""

    def prepare_for_update(self, context: RegistryContext, obj: Obj, old: Obj) -> None:
        wanted = obj.get("spec") or {}
        spec = copy_object(old.get("spec") or {})
        for key in _LISTS:
            if [c.get("name") for c in wanted.get(key) or ()] != [
                c.get("name") for c in spec.get(key) or ()
            ]:
                # Left as it came: validation refuses it.
                return
            for container, asked in zip(spec.get(key) or (), wanted.get(key) or (), strict=True):
                for field in _RESIZABLE:
                    if field in asked:
                        container[field] = asked[field]
                    else:
                        container.pop(field, None)
        if "resources" in wanted:
            spec["resources"] = wanted["resources"]
        obj["spec"] = spec
        if "status" in old:
            obj["status"] = copy_object(old["status"])
        reset_metadata(obj, old)

    def validate_update(self, context: RegistryContext, obj: Obj, old: Obj) -> ErrorList:
        from pilothouse.apis.core.validation_pod_resize import validate_pod_resize

        return validate_pod_resize(obj, old)


async def handle(server: Server, request: Request, served: ServedResource) -> Response:
    if request.info.verb == "get":
        return await get.handle(server, request, served)
    return await update_with(server, request, served, ResizeStrategy(served.strategy))
