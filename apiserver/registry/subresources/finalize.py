"""``namespaces/finalize``: takes finalizers out of ``spec`` (core/namespace FinalizeREST)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pilothouse.apiserver.endpoints.negotiation import negotiate
from pilothouse.apiserver.endpoints.options import parse_write_options
from pilothouse.apiserver.endpoints.responses import entry_response
from pilothouse.apiserver.endpoints.update import Bodies, new_write
from pilothouse.apiserver.registry.subresources.delegate import DelegatingStrategy

if TYPE_CHECKING:
    from pilothouse.apimachinery.fieldpath import ErrorList
    from pilothouse.apimachinery.object import Obj
    from pilothouse.apiserver.endpoints.handler import Server
    from pilothouse.apiserver.registry.context import RegistryContext
    from pilothouse.apiserver.registry.resources import ServedResource
    from pilothouse.apiserver.request.context import Request, Response


class FinalizeStrategy(DelegatingStrategy):
    """Only ``spec.finalizers`` may change, and it may."""

    def prepare_for_update(self, context: RegistryContext, obj: Obj, old: Obj) -> None:
        if "status" in old:
            obj["status"] = old["status"]
        else:
            obj.pop("status", None)

    def validate_update(self, context: RegistryContext, obj: Obj, old: Obj) -> ErrorList:
        from pilothouse.apis.core.validation_namespace import validate_namespace_finalize_update

        return validate_namespace_finalize_update(obj)


async def handle(server: Server, request: Request, served: ServedResource) -> Response:
    options = parse_write_options(request.query, "UpdateOptions")
    if not request.local:
        negotiate(request.headers.get("accept", ""))
    bodies = Bodies(server, request, served, options)
    write = new_write(server, request, served, options, "UpdateOptions")
    entry, _ = await served.store.update(
        write, bodies, mode="other", strategy=FinalizeStrategy(served.strategy)
    )
    return entry_response(request, served, entry, server.clock.now())
