"""A kubelet of this process as the API server wants it: ``LocalNodes.register(name, adapter)``."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from pilothouse.apiserver.request.context import Response

if TYPE_CHECKING:
    from pilothouse.kubelet.server.handler import KubeletServer
    from pilothouse.kubelet.server.interfaces import KubeletHost


class KubeletAdapter:
    """Implements ``apiserver.kubelet_connection.KubeletHandler``."""

    def __init__(self, kubelet: KubeletHost) -> None:
        self._kubelet = kubelet
        self._made: KubeletServer | None = None

    @property
    def _server(self) -> KubeletServer:
        if self._made is None:
            # Not at start: a cluster must be up in no time, and may never need this.
            from pilothouse.kubelet.server.handler import KubeletServer

            self._made = KubeletServer(self._kubelet)
        return self._made

    async def request(
        self, method: str, path: str, query: str, headers: dict[str, str], body: bytes
    ) -> Response:
        answer = await self._server.request(method, path, query, headers, body)
        return Response(
            answer.status,
            answer.body,
            answer.content_type,
            answer.headers,
            answer.chunks,
        )

    async def upgrade(
        self,
        method: str,
        path: str,
        query: str,
        headers: dict[str, str],
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        await self._server.upgrade(method, path, query, headers, reader, writer)
