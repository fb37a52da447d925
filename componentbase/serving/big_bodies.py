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
    from pilothouse.componentbase.serving.interfaces import HTTPResponse

USUAL = 4 << 20
"""A limit above this one is that of a request that is passed on."""


def _head(protocol: HTTPProtocol) -> HTTPRequest:
    """The request that is coming in, without its body."""
    return HTTPRequest(
        protocol._method(),
        protocol._target,
        dict(protocol._headers),
        peer_der=protocol.peer_der,
        tls=protocol.tls,
        client=protocol.client,
        connection=protocol.state,
        disconnected=protocol.is_closed,
    )


def tell(protocol: HTTPProtocol, response: HTTPResponse) -> None:
    """Lets a handler that keeps records know of a request that it never saw."""
    refused = getattr(protocol.handler, "refused", None)
    if refused is not None:
        protocol.server.tasks.start(refused(_head(protocol), response), "refused")


def ask(protocol: HTTPProtocol) -> None:
    """Pauses reading and asks, if the handler wants to be asked."""
    admit = getattr(protocol.handler, "admit", None)
    if admit is None:
        return
    request = _head(protocol)

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
            tell(protocol, refusal)

    protocol.transport.pause_reading()
    protocol.server.tasks.start(decide(), "admit")
