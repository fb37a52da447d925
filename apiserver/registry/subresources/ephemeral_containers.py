"""``pods/ephemeralcontainers``: adds debug containers to a running pod."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pilothouse.apimachinery.object import copy_object
from pilothouse.apis.meta.equality import semantic_equal
from pilothouse.apiserver.endpoints import get, patch, update
from pilothouse.apiserver.endpoints.negotiation import negotiate
from pilothouse.apiserver.endpoints.options import parse_write_options
from pilothouse.apiserver.endpoints.responses import entry_response
from pilothouse.apiserver.registry.builtin import bump_generation
from pilothouse.apiserver.registry.subresources.delegate import DelegatingStrategy

if TYPE_CHECKING:
    from pilothouse.apimachinery.fieldpath import ErrorList
    from pilothouse.apimachinery.object import Obj
    from pilothouse.apiserver.endpoints.handler import Server
    from pilothouse.apiserver.registry.context import RegistryContext
    from pilothouse.apiserver.registry.resources import ServedResource
    from pilothouse.apiserver.request.context import Request, Response


def reset_metadata(obj: Obj, old: Obj) -> None:
    """ResetObjectMetaForStatus: such sub-resources leave metadata alone, but for managedFields
    and the generation, which counts changes of the spec."""
    metadata = dict(old["metadata"])
    metadata.pop("managedFields", None)
    if obj["metadata"].get("managedFields"):
        metadata["managedFields"] = obj["metadata"]["managedFields"]
    obj["metadata"] = metadata
    if not semantic_equal(obj.get("spec"), old.get("spec")):
        bump_generation(obj, old)


class EphemeralContainersStrategy(DelegatingStrategy):
    """Nothing but ``spec.ephemeralContainers`` changes, and that only grows."""

    def prepare_for_update(self, context: RegistryContext, obj: Obj, old: Obj) -> None:
        containers = (obj.get("spec") or {}).get("ephemeralContainers")
        obj["spec"] = copy_object(old.get("spec") or {})
        obj["spec"].pop("ephemeralContainers", None)
        if containers:
            obj["spec"]["ephemeralContainers"] = containers
        if "status" in old:
            obj["status"] = old["status"]
        reset_metadata(obj, old)

    def validate_update(self, context: RegistryContext, obj: Obj, old: Obj) -> ErrorList:
        from pilothouse.apis.core.validation_pod import validate_ephemeral_containers_update

        return validate_ephemeral_containers_update(obj, old)


async def handle(server: Server, request: Request, served: ServedResource) -> Response:
    if request.info.verb == "get":
        return await get.handle(server, request, served)
    strategy = EphemeralContainersStrategy(served.strategy)
    return await update_with(server, request, served, strategy)


async def update_with(
    server: Server, request: Request, served: ServedResource, strategy: DelegatingStrategy
) -> Response:
    """A PUT or PATCH through hooks of a sub-resource's own."""
    if not request.local:
        negotiate(request.headers.get("accept", ""))
    if request.info.verb == "patch":
        kind = patch.patch_type_of(request, custom=served.resource.custom)
        apply = kind == patch.APPLY_PATCH
        options = parse_write_options(request.query, "PatchOptions", apply=apply)
        loaded = patch.load_patch(request, kind, options)
        write = update.new_write(server, request, served, options, "PatchOptions")
        if apply:
            mutate = patch.applied(server, request, served, options, loaded, "main")
        else:
            mutate = patch.patched(request, served, options, loaded, kind)
    else:
        apply = False
        options = parse_write_options(request.query, "UpdateOptions")
        mutate = update.Bodies(server, request, served, options)
        write = update.new_write(server, request, served, options, "UpdateOptions")
    entry, _ = await served.store.update(
        write, mutate, mode="other", managed=apply, strategy=strategy
    )
    return entry_response(request, served, entry, server.clock.now())
