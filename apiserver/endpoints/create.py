"""POST of a new object."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pilothouse.apiserver.endpoints.body import decode
from pilothouse.apiserver.endpoints.negotiation import negotiate
from pilothouse.apiserver.endpoints.options import manager_name, parse_write_options
from pilothouse.apiserver.endpoints.responses import entry_response
from pilothouse.apiserver.registry.write import Write

if TYPE_CHECKING:
    from pilothouse.apiserver.endpoints.handler import Server
    from pilothouse.apiserver.registry.resources import ServedResource
    from pilothouse.apiserver.request.context import Request, Response


async def handle(server: Server, request: Request, served: ServedResource) -> Response:
    """:raises StatusError: 400, 403, 409, 415, 422."""
    options = parse_write_options(request.query, "CreateOptions")
    if not request.local:
        negotiate(request.headers.get("accept", ""))
    obj = decode(server, request, served, options.field_validation)
    name = obj["metadata"].get("name") or ""
    namespace = request.info.namespace
    if served.resource.name == "namespaces" and not served.resource.group:
        namespace = name
    assert request.user is not None
    write = Write(
        served,
        namespace,
        name,
        request.user,
        dry_run=options.dry_run,
        manager=manager_name(options, request.headers.get("user-agent", "")),
        options=options.wire("CreateOptions"),
        warnings=request.warnings,
        audit_annotations=request.audit_annotations,
    )
    entry = await served.store.create(write, obj)
    return entry_response(request, served, entry, server.clock.now(), 201)
