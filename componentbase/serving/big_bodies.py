"""Bodies beyond the usual size, which only proxied requests may have: nobody's is taken in before
the handler has looked at the request's head.

Upstream passes such bodies on without reading them. We keep them, so a stranger must not be able
to make us: reading pauses after the first megabyte until ``handler.admit`` has said yes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pilothouse.componentbase.serving.interfaces import HTTPRequest

if TYPE_CHECKING:
    from pilothouse.componentbase.serving.http_protocol import HTTPProtocol

USUAL = 4 << 20
"""A limit above this one is that of a request that is passed on."""


def ask(protocol: HTTPProtocol) -> None:
    """Pauses reading and asks, if the handler wants to be asked."""
    admit = getattr(protocol.handler, "admit", None)
    if admit is None:
        return
    request = HTTPRequest(
        protocol._method(),
        protocol._target,
        dict(protocol._headers),
        peer_der=protocol.peer_der,
        tls=protocol.tls,
        client=protocol.client,
        connection=protocol.state,
        disconnected=protocol.is_closed,
    )

    async def decide() -> None:
        refusal = await admit(request)
        if protocol.closed:
            return
        if refusal is None:
            protocol.transport.resume_reading()
        elif protocol.busy:  # an earlier request is still being answered
            protocol.transport.abort()
        else:
            protocol.refuse_with(refusal)

    protocol.transport.pause_reading()
    protocol.server.tasks.start(decide(), "admit")
