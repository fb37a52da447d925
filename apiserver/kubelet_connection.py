"""How the API server reaches a kubelet: over HTTPS, or by a call in the same process.

Both ways have the same two methods. Upgraded connections (exec, attach, port-forward) are
passed through as bytes: the kubelet does the WebSocket or SPDY handshake itself.
"""

from __future__ import annotations

import asyncio
import ssl
from typing import TYPE_CHECKING, Protocol
from urllib.parse import quote

from pilothouse.apimachinery.errors import new_bad_request, new_internal_error, new_not_found
from pilothouse.apimachinery.object import get_nested
from pilothouse.apimachinery.schema import GroupResource
from pilothouse.apiserver.proxy import connect, http_request, pass_through, upgrade_head

if TYPE_CHECKING:
    from pilothouse.apimachinery.object import Obj
    from pilothouse.apiserver.admission.interfaces import Listers
    from pilothouse.apiserver.config import ServerConfig
    from pilothouse.apiserver.request.context import Response

NODES = GroupResource("", "nodes")
CONNECT_TIMEOUT = 10.0


class NodeConnector(Protocol):
    """A way to the kubelets of a cluster. ``query`` is encoded; header names are lower-case."""

    async def request(
        self,
        node_name: str,
        method: str,
        path: str,
        query: str = "",
        headers: dict[str, str] | None = None,
        body: bytes = b"",
    ) -> Response:
        """The kubelet's answer, its body streamed.

        :raises StatusError: 404 no such node, 500/503 it can't be reached.
        """
        ...

    async def upgrade(
        self,
        node_name: str,
        method: str,
        path: str,
        query: str,
        headers: dict[str, str],
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        """Hands the client's connection to the kubelet and returns when both have finished.
        The kubelet answers the handshake on ``writer``; nothing has been written to it."""
        ...


class KubeletHandler(Protocol):
    """A kubelet in this process: the same two methods without a node name."""

    async def request(
        self, method: str, path: str, query: str, headers: dict[str, str], body: bytes
    ) -> Response: ...

    async def upgrade(
        self,
        method: str,
        path: str,
        query: str,
        headers: dict[str, str],
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None: ...


class LocalNodes:
    """Kubelets of this process by node name; other nodes go to ``otherwise``."""

    def __init__(self, otherwise: NodeConnector | None = None) -> None:
        self._kubelets: dict[str, KubeletHandler] = {}
        self._otherwise = otherwise

    def register(self, node_name: str, kubelet: KubeletHandler) -> None:
        self._kubelets[node_name] = kubelet

    def unregister(self, node_name: str) -> None:
        self._kubelets.pop(node_name, None)

    async def request(
        self,
        node_name: str,
        method: str,
        path: str,
        query: str = "",
        headers: dict[str, str] | None = None,
        body: bytes = b"",
    ) -> Response:
        kubelet = self._kubelets.get(node_name)
        if kubelet is not None:
            return await kubelet.request(method, path, query, headers or {}, body)
        if self._otherwise is None:
            raise new_not_found(NODES, node_name)
        return await self._otherwise.request(node_name, method, path, query, headers, body)

    async def upgrade(
        self,
        node_name: str,
        method: str,
        path: str,
        query: str,
        headers: dict[str, str],
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        kubelet = self._kubelets.get(node_name)
        if kubelet is not None:
            await kubelet.upgrade(method, path, query, headers, reader, writer)
        elif self._otherwise is None:
            raise new_not_found(NODES, node_name)
        else:
            await self._otherwise.upgrade(node_name, method, path, query, headers, reader, writer)


class HTTPSNodes:
    """Kubelets at their nodes' addresses, with the API server's client certificate."""

    def __init__(self, config: ServerConfig, listers: Listers) -> None:
        self._config = config
        self._listers = listers
        self._context: ssl.SSLContext | None = None

    def _tls(self) -> ssl.SSLContext:
        if self._context is None:
            config = self._config
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            if config.kubelet_certificate_authority:
                context.load_verify_locations(config.kubelet_certificate_authority)
            else:
                # As upstream without --kubelet-certificate-authority.
                context.check_hostname = False
                context.verify_mode = ssl.CERT_NONE
            if config.kubelet_client_certificate:
                context.load_cert_chain(
                    config.kubelet_client_certificate, config.kubelet_client_key
                )
            self._context = context
        return self._context

    def address(self, node_name: str) -> tuple[str, int]:
        """:raises StatusError: 404, 500."""
        node = self._listers.get(NODES, "", node_name)
        if node is None:
            raise new_not_found(NODES, node_name)
        port = get_nested(node, "status", "daemonEndpoints", "kubeletEndpoint", "Port")
        return _address(node, self._config.kubelet_preferred_address_types), int(port or 10250)

    async def _open(self, node_name: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        host, port = self.address(node_name)
        try:
            return await connect(host, port, self._tls(), CONNECT_TIMEOUT)
        except OSError as error:
            raise new_internal_error(
                f"error dialing backend: dial tcp {host}:{port}: {error}"
            ) from error

    async def request(
        self,
        node_name: str,
        method: str,
        path: str,
        query: str = "",
        headers: dict[str, str] | None = None,
        body: bytes = b"",
    ) -> Response:
        reader, writer = await self._open(node_name)
        target = quote(path, safe="/:@!$&'()*+,;=~") + (f"?{query}" if query else "")
        return await http_request(reader, writer, method, target, node_name, headers or {}, body)

    async def upgrade(
        self,
        node_name: str,
        method: str,
        path: str,
        query: str,
        headers: dict[str, str],
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        upstream_reader, upstream_writer = await self._open(node_name)
        target = quote(path, safe="/:@!$&'()*+,;=~") + (f"?{query}" if query else "")
        upstream_writer.write(upgrade_head(method, target, node_name, headers))
        await pass_through(reader, writer, upstream_reader, upstream_writer)


def _address(node: Obj, preferred: tuple[str, ...]) -> str:
    addresses = get_nested(node, "status", "addresses", default=())
    for wanted in (*preferred, "InternalIP", "Hostname"):
        # Names are only of use where a resolver knows them; addresses always are.
        for entry in addresses:
            if entry.get("type") == wanted and entry.get("address"):
                if wanted in ("Hostname", "InternalDNS", "ExternalDNS"):
                    ip = _ip_of(addresses)
                    if ip:
                        return ip
                return str(entry["address"])
    known = " ".join(f"{{{e.get('type')} {e.get('address')}}}" for e in addresses)
    raise new_bad_request(f"no preferred addresses found; known addresses: [{known}]")


def _ip_of(addresses: list[Obj]) -> str:
    for wanted in ("InternalIP", "ExternalIP"):
        for entry in addresses:
            if entry.get("type") == wanted and entry.get("address"):
                return str(entry["address"])
    return ""
