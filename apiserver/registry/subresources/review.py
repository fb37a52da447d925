"""Kinds that are answered and never stored: token and access reviews."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pilothouse.apimachinery.errors import new_not_acceptable
from pilothouse.apimachinery.managedfields import manager as field_manager
from pilothouse.apimachinery.timefmt import format_time
from pilothouse.apiserver.endpoints.body import decode
from pilothouse.apiserver.endpoints.negotiation import SUPPORTED, negotiate
from pilothouse.apiserver.endpoints.options import manager_name, parse_write_options
from pilothouse.apiserver.endpoints.responses import object_response
from pilothouse.apiserver.registry.reviews import create_review

if TYPE_CHECKING:
    from pilothouse.apiserver.endpoints.handler import Server
    from pilothouse.apiserver.registry.resources import ServedResource
    from pilothouse.apiserver.request.context import Request, Response


async def handle(server: Server, request: Request, served: ServedResource) -> Response:
    options = parse_write_options(request.query, "CreateOptions")
    if not request.local and negotiate(request.headers.get("accept", "")).transform:
        # Reviews have no metadata that a table or a partial object could show.
        raise new_not_acceptable(SUPPORTED)
    obj = decode(server, request, served, options.field_validation)
    assert request.user is not None
    answer = await create_review(
        server.services["reviews"],
        served.group_resource,
        request.user,
        request.info.namespace,
        obj,
    )
    answer.setdefault("kind", served.gvk.kind)
    answer.setdefault("apiVersion", served.api_version)
    if served.resource.kind.endswith(("AccessReview", "TokenReview")):
        asked = {"metadata": {}, "spec": obj.get("spec") or {}}
        field_manager.update(
            None,
            asked,
            served.schema,
            manager=manager_name(options, request.headers.get("user-agent", "")),
            api_version=served.api_version,
            time=format_time(server.clock.now()),
        )
        answer["metadata"] = {**(answer.get("metadata") or {}), **asked["metadata"]}
    return object_response(request, answer, 201)
