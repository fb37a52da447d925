"""Requests → verbs: authorization, then the handler of a (verb, resource, sub-resource).

:class:`APIHandler` is the part of the chain that the HTTP edge and in-process clients share.
Each verb is a module of this package; sub-resources and kinds without a store have handlers in
``registry/subresources``; paths that name no resource go to the route table of the server.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from time import perf_counter
from typing import TYPE_CHECKING, Any

from pilothouse.apimachinery.errors import (
    StatusError,
    new_bad_request,
    new_generic_not_found,
    new_method_not_supported,
    new_not_found,
)
from pilothouse.apimachinery.schema import GroupResource
from pilothouse.apiserver.codec.yaml_aside import LONG, YAMLReader
from pilothouse.apiserver.endpoints import (
    create,
    delete,
    delete_collection,
    get,
    patch,
    update,
    watch,
)
from pilothouse.apiserver.endpoints import list as list_
from pilothouse.apiserver.endpoints.negotiation import (
    check_route,
    method_not_allowed,
    refuse_protobuf,
)
from pilothouse.apiserver.filters.authorization import authorize, authorize_remotely
from pilothouse.apiserver.registry.subresources.table import find_handler
from pilothouse.apiserver.request.context import Response
from pilothouse.apiserver.request.info import path_segment_errors
from pilothouse.componentbase.histograms import FOLD

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from random import Random

    from pilothouse.apimachinery.clock import Clock
    from pilothouse.apiserver.authorization.interfaces import Authorizer
    from pilothouse.apiserver.config import ServerConfig
    from pilothouse.apiserver.kubelet_connection import NodeConnector
    from pilothouse.apiserver.registry.context import RegistryContext
    from pilothouse.apiserver.registry.resources import ResourceRegistry, ServedResource
    from pilothouse.apiserver.registry.store import Admission
    from pilothouse.apiserver.request.context import Request
    from pilothouse.apiserver.request.info import RequestInfo
    from pilothouse.apiserver.storage.interfaces import Storage
    from pilothouse.componentbase.activity import ActivityTracker
    from pilothouse.componentbase.tasks import TaskOwner

    VerbHandler = Callable[["Server", Request, ServedResource], Awaitable[Response]]
    Route = Callable[[Request], Awaitable[Response]]


@dataclass(slots=True)
class Server:
    """What handlers share: the parts of one API server."""

    config: ServerConfig
    clock: Clock
    random: Random
    registry: ResourceRegistry
    storage: Storage
    context: RegistryContext
    authorizer: Authorizer
    admission: Admission
    nodes: NodeConnector
    activity: ActivityTracker
    tasks: TaskOwner
    services: dict[str, Any] = field(default_factory=dict)
    """Parts that single sub-resources ask for by name: ``tokens`` (TokenIssuer), ``reviews``
    (ReviewServices), ``certificates``…"""


_VERBS: dict[str, VerbHandler] = {
    "get": get.handle,
    "list": list_.handle,
    "watch": watch.handle,
    "create": create.handle,
    "update": update.handle,
    "patch": patch.handle,
    "delete": delete.handle,
    "deletecollection": delete_collection.handle,
}
_TEXT = "text/plain; charset=utf-8"
_NOSNIFF = (("X-Content-Type-Options", "nosniff"),)
_DOCUMENTS = "/openapi/v3"
_EXACT = ("/healthz", "/livez", "/readyz", _DOCUMENTS)
"""Paths that no slash may follow."""
_NEEDS_NAME = frozenset(("get", "update", "patch", "delete"))


class APIHandler:
    """The end of the chain, from authorization on."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self._remote: bool = getattr(server.authorizer, "remote", False)
        self._measured = server.services["metrics"].filters
        self._authorized = self._measured.allowed.pending
        self._yaml = YAMLReader()
        self.routes: dict[str, Route] = {}
        """Exact non-resource paths."""
        self.prefixes: list[tuple[str, Route]] = []
        """Non-resource paths by prefix, looked at in order after ``routes``."""
        self.aggregated: Callable[[Request], Awaitable[Response] | None] | None = None
        """Finds the extension server that answers; None while there is none (``aggregator``)."""

    async def handle(self, request: Request) -> Response:
        """:raises StatusError: whatever is refused; ``handler_chain`` answers it."""
        info = request.info
        start = perf_counter()
        try:
            if self._remote:
                await authorize_remotely(self.server.authorizer, request)
            else:
                authorize(self.server.authorizer, request)
        except StatusError:
            self._measured.refused.observe(perf_counter() - start)
            raise
        self._authorized.append(perf_counter() - start)
        if len(self._authorized) >= FOLD:
            self._measured.allowed.fold()
        if self.aggregated is not None:
            forwarded = self.aggregated(request)
            if forwarded is not None:
                return await forwarded
        if not info.is_resource_request:
            return await self._route(request)
        server = self.server
        served = server.registry.lookup(info.api_group, info.api_version, info.resource)
        if served is None:
            return await self._route(request)
        if served.resource.custom and not request.local and not _fits_scope(info, served):
            return Response(404, b"404 page not found\n", _TEXT, list(_NOSNIFF))
        check_scope(info, served)
        if served.warnings:
            request.warnings += served.warnings
            self._measured.deprecated.set(1.0, *served.gvr, info.subresource, "")
            request.audit_annotations["k8s.io/deprecated"] = "true"
        if len(request.body) > LONG and "yaml" in request.headers.get("content-type", ""):
            request.body = await self._yaml.read(request.body)
        if info.subresource:
            sub = served.subresources.get(info.subresource)
            if sub is None:
                if served.resource.custom:
                    raise not_found(served, info.name)
                raise new_generic_not_found()
            handler = find_handler(served, info.subresource)
            if not _allows(sub.verbs, request):
                raise _not_allowed(request, served)
            answer: Response = await handler(server, request, served)
            return answer
        return await self._main(request, served)

    async def _main(self, request: Request, served: ServedResource) -> Response:
        """A request for the resource itself."""
        info, server = request.info, self.server
        if info.verb not in served.verbs or (info.name != "") != _takes_name(info):
            if served.resource.custom and info.verb in _NEEDS_NAME and not info.name:
                raise new_bad_request("name must be provided")
            if info.verb == "proxy":
                raise new_generic_not_found()
            raise _not_allowed(request, served)
        if not request.local:
            accept = request.headers.get("accept", "")
            if served.resource.custom:
                refuse_protobuf(accept, info.verb == "watch")
            elif request.method == "HEAD":
                raise method_not_allowed()
            else:
                check_route(accept, info.verb in ("list", "watch"))
        special = find_handler(served, "")
        if special is not None:
            answer: Response = await special(server, request, served)
            return answer
        try:
            return await _VERBS[info.verb](server, request, served)
        except StatusError as error:
            if info.api_group != "events.k8s.io":
                raise
            raise _in_group(error, info.api_group) from error

    async def _route(self, request: Request) -> Response:
        path = request.path
        route = self.routes.get(path)
        if route is None and len(path) > 1 and not path.startswith(_EXACT):
            route = self.routes.get(path.rstrip("/"))
        if route is None:
            for prefix, candidate in self.prefixes:
                if path.startswith(prefix):
                    route = candidate
                    break
        try:
            if route is None or (path.endswith("/") and path.startswith(_EXACT)):
                raise new_generic_not_found()
            return await route(request)
        except StatusError as error:
            if error.code != 404 or request.local or self._is_built_in(path):
                raise
            if path.startswith(_DOCUMENTS):
                return Response(404, content_type="")
            return Response(404, b"404 page not found\n", _TEXT, list(_NOSNIFF))

    def _is_built_in(self, path: str) -> bool:
        """Below a group of ours, where even errors are API objects."""
        if path == "/api" or path.startswith("/api/"):
            return True
        group = path.removeprefix("/apis/").partition("/")[0] if path.startswith("/apis/") else ""
        served = self.server.registry.all()
        return any(s.resource.group == group and not s.resource.custom for s in served if group)


def _fits_scope(info: RequestInfo, served: ServedResource) -> bool:
    if not served.namespaced:
        return not info.namespace
    return bool(info.namespace) or info.verb in ("list", "watch")


def _not_allowed(request: Request, served: ServedResource) -> StatusError:
    if not served.resource.custom:
        return method_not_allowed()
    verb = "" if request.method == "OPTIONS" else request.info.verb
    return new_method_not_supported(served.group_resource, verb)


def _takes_name(info: RequestInfo) -> bool:
    if info.verb in ("list", "watch"):
        # A name here comes from a field selector, or from a deprecated /watch/ path.
        return info.name != ""
    return info.verb in _NEEDS_NAME


def _allows(verbs: tuple[str, ...], request: Request) -> bool:
    """Connect sub-resources take the methods that their verbs stand for."""
    verb = request.info.verb
    if verb in verbs:
        return True
    if request.method == "OPTIONS":  # which has no verb; proxies pass it on
        return request.info.subresource == "proxy"
    return verb == "get" and request.method == "GET" and "get" in verbs


def check_scope(info: RequestInfo, served: ServedResource) -> None:
    """:raises StatusError: a path with a namespace for a cluster-scoped kind and the like, or
    with parts that are no path segments."""
    namespaced = served.namespaced
    if served.resource.name == "namespaces" and not served.resource.group:
        pass
    elif info.namespace and not namespaced:
        raise new_generic_not_found()
    elif namespaced and not info.namespace and not _all_namespaces(info):
        raise method_not_allowed() if len(info.parts) == 1 else new_generic_not_found()
    for what, value in (("Name", info.name), ("Namespace", info.namespace)):
        if value and ("/" in value or "%" in value or value in (".", "..")):
            errors = ";".join(path_segment_errors(value))
            raise new_bad_request(f'{what} parameter invalid: "{value}": {errors}')


def _all_namespaces(info: RequestInfo) -> bool:
    return info.verb in ("list", "watch") and len(info.parts) == 1


def _in_group(error: StatusError, group: str) -> StatusError:
    """Events are stored as the core group's; an error speaks of the group that was asked."""
    details = error.details
    if not details or details.get("kind") != "events" or details.get("group"):
        return error
    message = error.message.replace('events "', f'events.{group} "', 1)
    rest = {key: value for key, value in details.items() if key != "name"}
    named = {"name": details["name"]} if "name" in details else {}
    changed = StatusError(error.code, error.reason, message, named | {"group": group} | rest)
    changed.continue_token = error.continue_token
    return changed


def not_found(served: ServedResource, name: str) -> StatusError:
    return new_not_found(GroupResource(served.gvr.group, served.gvr.resource), name)
