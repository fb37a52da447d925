"""Headers of every answer: Audit-Id, Cache-Control and the warnings that were collected.

The audit id is the client's own, when it sent one, so that it can find its request again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pilothouse.apiserver.registry.before import new_uid

if TYPE_CHECKING:
    from pilothouse.apiserver.endpoints.handler import Server
    from pilothouse.apiserver.handler_chain import Handler
    from pilothouse.apiserver.request.context import Request, Response

_CACHE = ("Cache-Control", "no-cache, private")
_MAX_WARNINGS_BYTES = 4096


def with_response_headers(server: Server, handler: Handler) -> Handler:
    random = server.random

    async def answered(request: Request) -> Response:
        given = request.headers.get("audit-id")
        request.audit_id = given or new_uid(random)
        response = await handler(request)
        headers = response.headers
        headers.append(("Audit-Id", request.audit_id))
        if not any(name == "Cache-Control" for name, _ in headers):
            headers.append(_CACHE)
        if request.warnings:
            headers += warning_headers(request.warnings)
        return response

    return answered


def warning_headers(warnings: list[str]) -> list[tuple[str, str]]:
    """``Warning: 299 - "text"`` for each different text, 4 KB of them at most."""
    headers = []
    size = 0
    for text in dict.fromkeys(warnings):
        clean = "".join(char if char.isprintable() else " " for char in text)
        quoted = clean.replace("\\", "\\\\").replace('"', '\\"')
        size += len(quoted)
        if size > _MAX_WARNINGS_BYTES:
            break
        headers.append(("Warning", f'299 - "{quoted}"'))
    return headers
