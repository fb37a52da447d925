"""DELETE of one object."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pilothouse.apiserver.endpoints.negotiation import negotiate
from pilothouse.apiserver.endpoints.options import parse_delete_options
from pilothouse.apiserver.endpoints.responses import result_response
from pilothouse.apiserver.registry.write import Write

if TYPE_CHECKING:
    from pilothouse.apimachinery.object import Obj
    from pilothouse.apiserver.endpoints.handler import Server
    from pilothouse.apiserver.registry.resources import ServedResource
    from pilothouse.apiserver.request.context import Request, Response


async def handle(server: Server, request: Request, served: ServedResource) -> Response:
    """:raises StatusError: 400, 404, 409, 422."""
    if not request.local:
        negotiate(request.headers.get("accept", ""))
    options = parse_delete_options(request)
    write = delete_write(request, served, options)
    request.warnings += served.store.strategy.warnings_on_delete(options)
    result, deleted = await served.store.delete(write, options)
    # Upstream's one case of 202: the deprecated orphanDependents=false on what still waits.
    accepted = not deleted and options.get("orphanDependents") is False
    return result_response(request, served, result, server.clock.now(), 202 if accepted else 200)


def delete_write(request: Request, served: ServedResource, options: Obj) -> Write:
    info = request.info
    assert request.user is not None
    return Write(
        served,
        info.namespace,
        info.name,
        request.user,
        dry_run=bool(options.get("dryRun")),
        options={**options, "kind": "DeleteOptions", "apiVersion": "meta.k8s.io/v1"},
        warnings=request.warnings,
        audit_annotations=request.audit_annotations,
    )
