"""``pods/resize``: changes resources of running containers (core/pod ResizeREST)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pilothouse.apimachinery.object import copy_object
from pilothouse.apis.meta.equality import semantic_equal
from pilothouse.apis.meta.errors import forbidden
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
_ONLY = "only cpu and memory resources are mutable"


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
        errors: ErrorList = []
        new_spec, old_spec = obj.get("spec") or {}, old.get("spec") or {}
        for key in _LISTS:
            before, after = old_spec.get(key) or (), new_spec.get(key) or ()
            if [c.get("name") for c in before] != [c.get("name") for c in after]:
                detail = "containers may not be added, removed, re-ordered or renamed on resize"
                errors.append(forbidden(f"spec.{key}", detail))
                continue
            for index, (was, now) in enumerate(zip(before, after, strict=True)):
                errors += _container_errors(was, now, f"spec.{key}[{index}]")
        if errors:
            return errors
        return [e for e in self.parent.validate(context, obj) if ".resources" in e.field]


def _container_errors(was: Obj, now: Obj, path: str) -> ErrorList:
    errors: ErrorList = []
    for kind in ("requests", "limits"):
        before = (was.get("resources") or {}).get(kind) or {}
        after = (now.get("resources") or {}).get(kind) or {}
        for name in sorted(before.keys() | after.keys()):
            changed = not semantic_equal(
                {kind: {name: before.get(name)}}, {kind: {name: after.get(name)}}
            )
            if name not in ("cpu", "memory"):
                if changed:
                    errors.append(forbidden(f"{path}.resources.{kind}", _ONLY))
            elif name in before and name not in after:
                what = f"resource {kind} cannot be removed"
                errors.append(forbidden(f"{path}.resources.{kind}", what))
    return errors


async def handle(server: Server, request: Request, served: ServedResource) -> Response:
    if request.info.verb == "get":
        return await get.handle(server, request, served)
    return await update_with(server, request, served, ResizeStrategy(served.strategy))
