"""Client certificates that don't verify: told in the answer instead of in the handshake.

kube-apiserver asks for a certificate and lets its authenticators judge it, so that a client with
the wrong one gets a 401 it can read. ``ssl`` ends the handshake instead. OpenSSL itself verifies
chain, dates and purpose in both cases: here a callback lets the handshake go on whatever comes of
it, and the result, which OpenSSL keeps per connection (and per session, for resumed ones; a later
success never clears an error), is asked for afterwards.

``ssl`` has no names for these functions. They are called through ctypes on pointers that CPython's
objects hold; that the objects are laid out as expected is checked before a pointer is followed.
Where any of it is missing, nothing changes: the handshake refuses unknown authorities.
"""

from __future__ import annotations

import ssl
import sys
from functools import cache
from typing import Any, NamedTuple

UNVERIFIED = b""
"""In place of a certificate: there was one, and nobody must believe it."""
_VERIFY_PEER = 1
_OK = 0
_KNOWN_LAYOUT = ((3, 11), (3, 14))
_HEADER = object.__basicsize__
_WORD = 8


class ServerContext(ssl.SSLContext):
    """``lenient``: any certificate passes the handshake; ask :func:`peer_certificate`."""

    lenient = False
    kept: Any = None
    """What OpenSSL calls: it lives as long as the context."""


class _OpenSSL(NamedTuple):
    set_verify: Any
    context_of: Any
    verify_result: Any
    word_at: Any
    accept: Any
    """The callback; OpenSSL keeps no reference that Python knows of. Threads that start servers
    at once may each have one of their own: the context must keep it."""


@cache
def _openssl() -> _OpenSSL | None:
    if (
        sys.implementation.name != "cpython"
        or hasattr(sys, "gettotalrefcount")
        or not _KNOWN_LAYOUT[0] <= sys.version_info[:2] <= _KNOWN_LAYOUT[1]
        or sys.maxsize < 2**32
    ):
        return None
    import _ssl
    import ctypes

    pointer = ctypes.c_void_p
    callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int, pointer)
    try:
        library = ctypes.CDLL(_ssl.__file__)
        set_verify = library.SSL_CTX_set_verify
        context_of = library.SSL_get_SSL_CTX
        verify_result = library.SSL_get_verify_result
    except (AttributeError, OSError):  # OpenSSL is inside of the interpreter, without its names
        return None
    set_verify.argtypes, set_verify.restype = [pointer, ctypes.c_int, callback], None
    context_of.argtypes, context_of.restype = [pointer], pointer
    verify_result.argtypes, verify_result.restype = [pointer], ctypes.c_long

    def word_at(address: int) -> int:
        return pointer.from_address(address).value or 0

    return _OpenSSL(set_verify, context_of, verify_result, word_at, callback(lambda ok, store: 1))


def _connection(openssl: _OpenSSL, tls: Any) -> int:
    """The SSL pointer of an SSLSocket or SSLObject; 0: it can't be told."""
    inner = tls._sslobj
    if inner is None:
        return 0
    # struct { PyObject_HEAD; PyObject *Socket; SSL *ssl; PySSLContext *ctx; … }
    start = id(inner) + _HEADER
    context = tls.context
    if openssl.word_at(start + 2 * _WORD) != id(context):
        return 0
    connection: int = openssl.word_at(start + _WORD)
    # struct { PyObject_HEAD; SSL_CTX *ctx; … }
    if not connection or openssl.context_of(connection) != openssl.word_at(id(context) + _HEADER):
        return 0
    return connection


def accept_any_certificate(context: ServerContext) -> bool:
    """From now on handshakes succeed whatever certificate a client shows; False: they don't,
    because this interpreter does not allow it."""
    openssl = _openssl()
    if openssl is None:
        return False
    probe = context.wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO(), server_side=True)
    if not _connection(openssl, probe):
        return False
    context.lenient, context.kept = True, openssl.accept
    openssl.set_verify(openssl.word_at(id(context) + _HEADER), _VERIFY_PEER, openssl.accept)
    return True


def peer_certificate(tls: Any) -> bytes | None:
    """The client's certificate (DER) after the handshake: None without one, :data:`UNVERIFIED`
    when it is not of one of the context's authorities, out of date or for something else."""
    der: bytes | None = tls.getpeercert(binary_form=True)
    if der is None or not getattr(tls.context, "lenient", False):
        return der
    openssl = _openssl()
    connection = 0 if openssl is None else _connection(openssl, tls)
    if openssl is None or not connection or openssl.verify_result(connection) != _OK:
        return UNVERIFIED
    return der
