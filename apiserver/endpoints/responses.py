"""Answers: cache entries, objects and errors → :class:`Response` (handlers/responsewriters).

The only place that turns a ``StatusError`` into HTTP.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson

from pilothouse.apimachinery.errors import StatusError, new_internal_error
from pilothouse.apiserver.endpoints.negotiation import (
    JSON,
    PLAIN_JSON,
    PROTOBUF,
    YAML,
    negotiate,
    wants_pretty,
)
from pilothouse.apiserver.endpoints.table import (
    TableWriter,
    encoded,
    include_object,
    list_metadata,
    partial_object,
    partial_of,
    shared,
)
from pilothouse.apiserver.request.context import Response

if TYPE_CHECKING:
    from datetime import datetime

    from pilothouse.apimachinery.object import Obj
    from pilothouse.apiserver.endpoints.negotiation import Negotiated
    from pilothouse.apiserver.registry.resources import ServedResource
    from pilothouse.apiserver.request.context import Request
    from pilothouse.apiserver.storage.cacher.interfaces import CacheEntry

_NOT_OBJECTS = "you requested {}, but the requested object is {}"


_GO_PACKAGES = {"": "core", "events.k8s.io": "core"}


def internal_name(served: ServedResource, kind: str) -> str:
    """A type as upstream's own code names it: the package of its group, then the kind."""
    if served.resource.custom:
        return f"unstructured.Unstructured{'List' if kind.endswith('List') else ''}"
    group = served.gvr.group
    return f"{_GO_PACKAGES.get(group) or group.partition('.')[0]}.{kind}"


def error_response(error: StatusError, request: Request | None = None) -> Response:
    """The Status of ``error``; local callers get the exception itself."""
    if request is not None and request.local:
        raise error
    negotiated, pretty = PLAIN_JSON, False
    if request is not None:
        try:
            negotiated = negotiate(request.headers.get("accept", ""))
        except StatusError:
            negotiated = PLAIN_JSON
        pretty = _is_pretty(request, negotiated)
    response = dump(error.status, error.code, negotiated.media_type, pretty)
    if error.retry_after_seconds:
        response.headers.append(("Retry-After", str(error.retry_after_seconds)))
    if error.code in (401, 403):
        response.headers.append(("X-Content-Type-Options", "nosniff"))
    return response


def internal_error(error: BaseException) -> StatusError:
    return new_internal_error(f"{type(error).__name__}: {error}")


def _is_pretty(request: Request, negotiated: Negotiated) -> bool:
    return negotiated.pretty or wants_pretty(request.query, request.headers.get("user-agent", ""))


def dump(obj: Any, status: int = 200, media_type: str = JSON, pretty: bool = False) -> Response:
    """A plain JSON value as an answer."""
    if media_type == PROTOBUF:
        from pilothouse.apiserver.endpoints.protobuf_answers import sealed

        return Response(status, sealed(obj), PROTOBUF)
    if media_type == YAML:
        import yaml

        text = yaml.safe_dump(obj, default_flow_style=False, allow_unicode=True)
        return Response(status, text.encode(), YAML)
    options = orjson.OPT_INDENT_2 if pretty else orjson.OPT_APPEND_NEWLINE
    return Response(status, orjson.dumps(obj, option=options), media_type)


def object_response(request: Request, obj: Obj, status: int = 200) -> Response:
    """An object that is not in a cache (reviews, Status, Scale…), never transformed."""
    if request.local:
        return Response(status, obj=obj)
    negotiated = negotiate(request.headers.get("accept", ""))
    return dump(obj, status, negotiated.media_type, _is_pretty(request, negotiated))


def entry_response(
    request: Request, served: ServedResource, entry: CacheEntry, now: datetime, status: int = 200
) -> Response:
    """One object in the representation that the client asked for."""
    if request.local:
        return Response(status, obj=shared(served, entry))
    negotiated = negotiate(request.headers.get("accept", ""))
    pretty = _is_pretty(request, negotiated)
    if not negotiated.transform:
        data = encoded(served, entry)
        if pretty or negotiated.media_type != JSON:
            return dump(orjson.loads(data), status, negotiated.media_type, pretty)
        return Response(status, data + b"\n")
    if negotiated.transform == "Table":
        data = _one_row(request, served, entry, negotiated, now)
    elif negotiated.transform == "PartialObjectMetadata":
        data = partial_object(entry, negotiated.meta_version)
    else:
        what = f"not a list (*{internal_name(served, served.gvk.kind)})"
        message = _NOT_OBJECTS.format("PartialObjectMetadataList", what)
        raise StatusError(406, "NotAcceptable", message)
    if pretty or negotiated.media_type != JSON:
        return dump(orjson.loads(data), status, negotiated.media_type, pretty)
    return Response(status, data + b"\n")


def _one_row(
    request: Request,
    served: ServedResource,
    entry: CacheEntry,
    negotiated: Negotiated,
    now: datetime,
) -> bytes:
    writer = TableWriter(served, negotiated, include_object(request.query), now)
    metadata = list_metadata(entry.revision) if entry.revision else b"{}"  # a dry run has none
    return writer.head(metadata) + writer.row(entry) + b"]}"


def result_response(
    request: Request,
    served: ServedResource,
    result: CacheEntry | Obj,
    now: datetime,
    status: int = 200,
) -> Response:
    """An entry, or an object (a Status, a converted sub-resource)."""
    if isinstance(result, dict):
        return object_response(request, result, status)
    return entry_response(request, served, result, now, status)


__all__ = [
    "dump",
    "entry_response",
    "error_response",
    "internal_error",
    "object_response",
    "partial_of",
    "result_response",
]
