"""DELETE of a collection: list, then delete one after the other."""

from __future__ import annotations

from typing import TYPE_CHECKING

import orjson

from pilothouse.apimachinery.errors import new_invalid
from pilothouse.apimachinery.schema import GroupKind
from pilothouse.apis.meta.errors import invalid
from pilothouse.apiserver.endpoints.delete import delete_write
from pilothouse.apiserver.endpoints.list import find
from pilothouse.apiserver.endpoints.negotiation import negotiate
from pilothouse.apiserver.endpoints.options import parse_delete_options, parse_list_options
from pilothouse.apiserver.endpoints.responses import object_response
from pilothouse.apiserver.endpoints.table import encoded

if TYPE_CHECKING:
    from pilothouse.apimachinery.object import Obj
    from pilothouse.apiserver.endpoints.handler import Server
    from pilothouse.apiserver.registry.resources import ServedResource
    from pilothouse.apiserver.request.context import Request, Response


def _item(obj: Obj, served: ServedResource) -> Obj:
    """Items of a list of a built-in kind don't repeat what they are."""
    if not served.resource.custom:
        obj.pop("kind", None)
        obj.pop("apiVersion", None)
    return obj


async def handle(server: Server, request: Request, served: ServedResource) -> Response:
    """Answers with the list of what was deleted. :raises StatusError: 400, 422…"""
    if not request.local:
        negotiate(request.headers.get("accept", ""))
    list_options = parse_list_options(request, served)
    options = parse_delete_options(request)
    if options.get("ignoreStoreReadErrorWithClusterBreakingPotential"):
        name = "ignoreStoreReadErrorWithClusterBreakingPotential"
        detail = "is not allowed with DELETECOLLECTION, try again after removing the option"
        kind = GroupKind("meta.k8s.io", "DeleteOptions")
        raise new_invalid(kind, "", [invalid(name, True, detail)])
    write = delete_write(request, served, options)
    request.warnings += served.store.strategy.warnings_on_delete(options)
    found = await find(served, request.info.namespace, list_options)
    entries = list(found.entries)
    await served.store.delete_collection(write, options, entries)  # type: ignore[arg-type]
    if request.local:
        items = [entry.obj for entry in entries]
    else:
        items = [_item(orjson.loads(encoded(served, entry)), served) for entry in entries]
    metadata: dict[str, str | int] = {"resourceVersion": str(found.revision)}
    if found.continue_token or (served.resource.custom and not request.local):
        metadata["continue"] = found.continue_token
    if found.remaining:
        metadata["remainingItemCount"] = found.remaining
    return object_response(
        request,
        {
            "kind": served.resource.list_kind or f"{served.resource.kind}List",
            "apiVersion": served.api_version,
            "metadata": metadata,
            "items": items,
        },
    )
