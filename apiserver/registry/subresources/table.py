"""Which handler serves a sub-resource, and the kinds that have a handler instead of a store.

A handler is ``async def handle(server, request, served) -> Response`` in the named module (or
the function after the colon); a name with dots is a module elsewhere. It runs after
authorization and after the verb was found allowed.
"""

from __future__ import annotations

from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from pilothouse.apiserver.endpoints.handler import Server
    from pilothouse.apiserver.registry.resources import ServedResource
    from pilothouse.apiserver.request.context import Request, Response

    Handler = Callable[[Server, Request, ServedResource], Awaitable[Response]]

_PACKAGE = "pilothouse.apiserver.registry.subresources"

_BY_RESOURCE: dict[tuple[str, str, str], str] = {
    # (group, resource, sub-resource)
    ("", "bindings", ""): "binding:handle_legacy",
    ("", "componentstatuses", ""): "component_status",
    ("", "namespaces", "finalize"): "finalize",
    ("", "nodes", "proxy"): "node_proxy",
    ("", "pods", "attach"): "streams:attach",
    ("", "pods", "binding"): "binding",
    ("", "pods", "ephemeralcontainers"): "ephemeral_containers",
    ("", "pods", "eviction"): "eviction",
    ("", "pods", "exec"): "streams:execute",
    ("", "pods", "log"): "log",
    ("", "pods", "portforward"): "streams:port_forward",
    ("", "pods", "proxy"): "pod_proxy",
    ("", "pods", "resize"): "resize",
    ("", "serviceaccounts", "token"): "token_request",
    ("", "services", "proxy"): "service_proxy",
    ("certificates.k8s.io", "certificatesigningrequests", "approval"): "approval",
    ("metrics.k8s.io", "nodes", ""): "pilothouse.apiserver.aggregator.metrics.serving:handle",
    ("metrics.k8s.io", "pods", ""): "pilothouse.apiserver.aggregator.metrics.serving:handle",
    ("authentication.k8s.io", "selfsubjectreviews", ""): "review",
    ("authentication.k8s.io", "tokenreviews", ""): "review",
    ("authorization.k8s.io", "localsubjectaccessreviews", ""): "review",
    ("authorization.k8s.io", "selfsubjectaccessreviews", ""): "review",
    ("authorization.k8s.io", "selfsubjectrulesreviews", ""): "review",
    ("authorization.k8s.io", "subjectaccessreviews", ""): "review",
}
_BY_NAME = {"status": "status", "scale": "scale"}


def find_handler(served: ServedResource, subresource: str) -> Any:
    """The handler; None for a kind (no sub-resource) that has a store."""
    resource = served.group_resource
    return _find(resource.group, resource.resource, subresource)


@cache
def _find(group: str, resource: str, subresource: str) -> Handler | None:
    # The cache holds facts of this table, one entry per row and stored kind.
    target = _BY_RESOURCE.get((group, resource, subresource)) or _BY_NAME.get(subresource)
    if target is None:
        if not subresource:
            return None
        raise LookupError(f"no handler for {resource}.{group}/{subresource}")
    module, _, function = target.partition(":")
    path = module if "." in module else f"{_PACKAGE}.{module}"
    handler: Handler = getattr(import_module(path), function or "handle")
    return handler
