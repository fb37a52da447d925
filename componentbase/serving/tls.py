"""TLS contexts of servers: optional client certificates, HTTP/1.1 only, TLS 1.2 and 1.3.

A certificate that does not verify passes the handshake and authenticates nobody
(``peer_verification.py``); with ``require_client`` the handshake fails.
"""

from __future__ import annotations

import ssl
from typing import Any

from pilothouse.componentbase.serving.peer_verification import (
    ServerContext,
    accept_any_certificate,
)


class DirectSSLObject(ssl.SSLObject):
    """``read`` and ``write`` are OpenSSL's own, without a Python frame around them: the event
    loop calls them for every record."""

    @classmethod
    def _create(cls, *args: Any, **kwargs: Any) -> DirectSSLObject:
        made: DirectSSLObject = super()._create(*args, **kwargs)  # type: ignore[misc]
        inner: Any = made._sslobj  # type: ignore[attr-defined]
        made.read = inner.read  # type: ignore[method-assign]
        made.write = inner.write  # type: ignore[method-assign]
        return made


def server_context(
    cert_file: str, key_file: str, client_ca_file: str = "", *, require_client: bool = False
) -> ssl.SSLContext:
    """A server's context. With ``client_ca_file`` clients may show a certificate of that CA
    (must, with ``require_client``). :raises OSError, ssl.SSLError: unreadable or unfit files.
    """
    context = ServerContext(ssl.PROTOCOL_TLS_SERVER)
    context.sslobject_class = DirectSSLObject
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(cert_file, key_file)
    context.set_alpn_protocols(["http/1.1"])
    if client_ca_file:
        context.load_verify_locations(client_ca_file)
        # As Go: whatever the file holds is trusted, an intermediate authority, too.
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        context.verify_mode = ssl.CERT_REQUIRED if require_client else ssl.CERT_OPTIONAL
        if not require_client:
            accept_any_certificate(context)
    return context
