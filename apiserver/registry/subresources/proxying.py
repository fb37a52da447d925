"""What pod, service and node proxies share: requests passed on to an address or a kubelet."""

from __future__ import annotations

import ipaddress
import ssl
from typing import TYPE_CHECKING
from urllib.parse import quote

from pilothouse.apimachinery.errors import (
    StatusError,
    new_bad_request,
    new_service_unavailable,
)
from pilothouse.apiserver.proxy import connect, http_request, pass_through, upgrade_head
from pilothouse.apiserver.registry.subresources.links import Links
from pilothouse.apiserver.registry.subresources.streams import admit_connect, refusal
from pilothouse.apiserver.request.context import Response

if TYPE_CHECKING:
    from pilothouse.apiserver.endpoints.handler import Server
    from pilothouse.apiserver.registry.resources import ServedResource
    from pilothouse.apiserver.request.context import Request

CONNECT_TIMEOUT = 30.0
_SAFE = "/:@!$&'()*+,;=~"


def split_target(identifier: str, kind: str) -> tuple[str, str, str]:
    """``[scheme:]name[:port]`` (SplitSchemeNamePort). :raises StatusError: 400."""
    parts = identifier.split(":")
    if len(parts) == 1:
        scheme, name, port = "", parts[0], ""
    elif len(parts) == 2:
        scheme, name, port = "", parts[0], parts[1]
    elif len(parts) == 3 and parts[0] in ("", "http", "https"):
        scheme, name, port = parts
    else:
        name = scheme = port = ""
    if not name:
        raise new_bad_request(f'invalid {kind} request "{identifier}"')
    return scheme, name, port


def proxy_path(request: Request) -> str:
    """What follows ``/proxy`` in the request's path, its last slash included."""
    rest = "/" + "/".join(request.info.parts[3:])
    if request.path.endswith("/") and not rest.endswith("/"):
        rest += "/"
    return rest


async def admit_proxy(server: Server, request: Request, served: ServedResource) -> None:
    """CONNECT admission of a proxied request; comes first. :raises StatusError: refused."""
    kind = f"{served.resource.kind}ProxyOptions"
    await admit_connect(server, request, served, kind, {"path": proxy_path(request)})


def check_address(host: str) -> None:
    """:raises StatusError: 400, not an address that pods have (loopback, link-local…)."""
    try:
        ip = ipaddress.ip_address(host)
    except ValueError:
        ip = None
    if ip is None or ip.is_loopback or ip.is_link_local or ip.is_multicast or ip.is_unspecified:
        raise new_bad_request("address not allowed")


async def proxy(
    server: Server, request: Request, served: ServedResource, host: str, port: int, scheme: str
) -> Response:
    """Passes the request on to ``host:port``. :raises StatusError: 503, it can't be reached."""
    path = proxy_path(request)
    if request.upgrade is None and (redirect := _redirect_to_root(request)) is not None:
        return redirect
    target = quote(path, safe=_SAFE) + (f"?{request.raw_query}" if request.raw_query else "")
    try:
        reader, writer = await connect(host, port, _tls(scheme), CONNECT_TIMEOUT)
    except OSError as error:
        raise new_service_unavailable(
            f"error trying to reach service: dial tcp {host}:{port}: {_reason(error)}"
        ) from error
    name = f"{host}:{port}"
    client_host = request.headers.get("host") or name
    if request.upgrade is not None:
        client_reader, client_writer = await request.upgrade()
        writer.write(upgrade_head(request.method, target, client_host, request.headers))
        await pass_through(client_reader, client_writer, reader, writer)
        return Response(hijacked=True)
    prefix = request.path.removesuffix(path) if path != "/" else request.path.rstrip("/")
    headers = {**request.headers, "x-forwarded-uri": quote(request.path, safe=_SAFE)}
    response = await http_request(
        reader, writer, request.method, target, client_host, headers, request.body
    )
    return Links(prefix, name, client_host).apply(response)


def _redirect_to_root(request: Request) -> Response | None:
    """Relative links of what is served at the root must resolve below ``/proxy/``."""
    at_root = len(request.info.parts) == 3 and not request.path.endswith("/")
    if not at_root or request.method not in ("GET", "HEAD"):
        return None
    query = f"?{request.raw_query}" if request.raw_query else ""
    location = f"{quote(request.path, safe=_SAFE)}/{query}"
    return Response(301, headers=[("Location", location)], content_type="")


def _reason(error: BaseException) -> str:
    if isinstance(error, ConnectionRefusedError):
        return "connect: connection refused"
    if isinstance(error, TimeoutError):
        return "i/o timeout"
    return str(error) or type(error).__name__


def _tls(scheme: str) -> ssl.SSLContext | None:
    if scheme != "https":
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


async def kubelet_proxy(
    server: Server, request: Request, served: ServedResource, node: str
) -> Response:
    """Passes the request on to a node's kubelet."""
    path = proxy_path(request)
    if request.upgrade is not None:
        reader, writer = await request.upgrade()
        try:
            await server.nodes.upgrade(
                node, request.method, path, request.raw_query, request.headers, reader, writer
            )
        except StatusError as error:
            writer.write(refusal(error))
        finally:
            writer.close()
        return Response(hijacked=True)
    return await server.nodes.request(
        node, request.method, path, request.raw_query, request.headers, request.body
    )
