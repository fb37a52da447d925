"""TLS connections of a server: OpenSSL writes to the socket itself.

The event loop's own TLS keeps OpenSSL between two memory buffers: every record is copied twice
more, passes a dozen Python-level calls and the loop's write queue, and each connection holds
256 KB. Here a write is one call into OpenSSL, which encrypts and sends. That is what delivering
one event to a thousand watchers mostly costs (docs/performance.md).

:class:`TLSListener` accepts, :class:`TLSTransport` is an ``asyncio.Transport`` like any other.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from collections import deque
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

log = logging.getLogger(__name__)

HANDSHAKE_SECONDS = 32.0
MAX_STARTING = 1024
"""Handshakes at a time; the oldest makes room for another."""
LINGER_SECONDS = 5.0
"""How long a closed connection goes on reading, so that its last answer is not lost: a socket
that is closed with bytes unread resets the connection."""
PLAIN_ANSWER = b"HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n"
HIGH_WATER = 64 * 1024
_CHUNK = 256 * 1024
_ACCEPTS = 64
"""Connections taken in one turn of the loop: a handshake's cost is borne one by one."""
_READS = 16


async def bind(host: str, port: int) -> list[socket.socket]:
    """Sockets bound to all addresses of ``host`` ("": all of this machine).

    :raises OSError: an address is taken or not ours.
    """
    found = await asyncio.get_running_loop().getaddrinfo(
        host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )
    bound: list[socket.socket] = []
    try:
        for family, kind, protocol, _, address in dict.fromkeys(found):
            listener = socket.socket(family, kind, protocol)
            bound.append(listener)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            # Connections inherit it: peers that are gone are noticed.
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            if family == socket.AF_INET6:
                listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            try:
                listener.bind(address)
            except OSError as error:
                reason = (error.strerror or str(error)).lower()
                raise OSError(
                    error.errno, f"error while attempting to bind on address {address!r}: {reason}"
                ) from None
    except BaseException:
        for listener in bound:
            listener.close()
        raise
    return bound


class TLSListener:
    """Accepts on bound, listening sockets. ``close`` ends accepting, not the connections."""

    def __init__(
        self,
        sockets: Iterable[socket.socket],
        context: ssl.SSLContext,
        factory: Callable[[], asyncio.Protocol],
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._context = context
        self._factory = factory
        self._open = list(sockets)
        self.starting: dict[TLSTransport, None] = {}
        """Connections whose handshake is not done yet, oldest first."""
        self.failed = 0
        """Handshakes that went wrong."""
        for listener in self._open:
            listener.setblocking(False)
            self._loop.add_reader(listener.fileno(), self._accept, listener)

    @property
    def sockets(self) -> tuple[socket.socket, ...]:
        return tuple(self._open)

    def close(self) -> None:
        listeners, self._open = self._open, []
        for listener in listeners:
            self._loop.remove_reader(listener.fileno())
            listener.close()
        for transport in list(self.starting):
            transport.abort()

    def _accept(self, listener: socket.socket) -> None:
        for _ in range(_ACCEPTS):
            try:
                connection, peer = listener.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                # Out of descriptors: the listener stays readable; don't spin on it.
                log.error("accepting a connection failed: %s", error)
                self._loop.remove_reader(listener.fileno())
                self._loop.call_later(1.0, self._accept_again, listener)
                return
            connection.setblocking(False)
            if len(self.starting) >= MAX_STARTING:
                next(iter(self.starting)).abort()
            TLSTransport(self, connection, peer, self._context, self._factory)

    def _accept_again(self, listener: socket.socket) -> None:
        if listener in self._open:
            self._loop.add_reader(listener.fileno(), self._accept, listener)


class TLSTransport(asyncio.Transport):
    """One accepted connection: handshake, then bytes both ways, then a lingering close."""

    def __init__(
        self,
        listener: TLSListener,
        connection: socket.socket,
        peer: Any,
        context: ssl.SSLContext,
        factory: Callable[[], asyncio.Protocol],
    ) -> None:
        super().__init__()
        self._loop = listener._loop
        self._listener = listener
        self._factory = factory
        self._peer = peer
        self._protocol: asyncio.BaseProtocol | None = None
        self._pending: deque[bytes] = deque()
        """What could not be written yet. OpenSSL wants the first again as it was."""
        self._size = 0
        self._high, self._low = HIGH_WATER, HIGH_WATER // 4
        self._writing_paused = False
        self._reading_paused = False
        self._closing = False
        self._lingering = False
        self._gone = False
        self._writer_on = False
        self.progress = 0
        """Changes when the peer takes some of what is queued."""
        listener.starting[self] = None
        if connection.family in (socket.AF_INET, socket.AF_INET6):
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._fd = connection.fileno()
        self._timer = self._loop.call_later(HANDSHAKE_SECONDS, self.abort)
        try:
            self._socket = context.wrap_socket(
                connection, server_side=True, do_handshake_on_connect=False
            )
        except (OSError, ValueError):  # the peer has left already
            self._timer.cancel()
            listener.starting.pop(self, None)
            self._gone = True
            connection.close()
            return
        inner: Any = self._socket._sslobj  # type: ignore[attr-defined]
        # Without the Python frames that SSLSocket puts around them.
        self._ssl_read, self._ssl_write, self._ssl_pending = inner.read, inner.write, inner.pending
        self._loop.add_reader(self._fd, self._handshake)

    # the handshake

    def _handshake(self) -> None:
        try:
            self._socket.do_handshake()
        except ssl.SSLWantReadError:
            self._stop_writer()
            return
        except ssl.SSLWantWriteError:
            self._loop.add_writer(self._fd, self._handshake)
            self._writer_on = True
            return
        except (OSError, ValueError) as error:
            log.debug("TLS handshake with %s failed: %s", self._peer, error)
            self._listener.failed += 1
            if getattr(error, "reason", "") == "HTTP_REQUEST":
                self._answer_plainly()
            self._cut(None)
            return
        self._stop_writer()
        self._timer.cancel()
        self._listener.starting.pop(self, None)
        self._loop.add_reader(self._fd, self._readable)
        self._protocol = protocol = self._factory()
        protocol.connection_made(self)
        if not self._gone and self._ssl_pending():
            self._readable()

    def _answer_plainly(self) -> None:
        """What net/http tells a client that forgot the s of https."""
        try:
            socket.socket.send(self._socket, PLAIN_ANSWER)
        except OSError:
            pass

    # reading

    def _readable(self) -> None:
        for _ in range(_READS):
            if self._gone or self._reading_paused:
                return
            try:
                data = self._ssl_read(_CHUNK)
            except ssl.SSLWantReadError:
                return
            except ssl.SSLWantWriteError:
                self._start_writer()
                return
            except (OSError, ValueError) as error:
                self._cut(error if isinstance(error, ConnectionError) else None)
                return
            if not data:
                self._ended()
                return
            if self._pending:
                self._flush()  # it may have waited for the peer's part of a key update
            if not self._closing:
                self._protocol.data_received(data)  # type: ignore[union-attr]
            if self._gone or not self._ssl_pending():
                return
        self._loop.call_soon(self._readable)

    def _ended(self) -> None:
        """The peer sends no more: so do we, once what is queued has gone."""
        if self._lingering:
            self._cut(None)
            return
        protocol = self._protocol
        keep = not self._closing and bool(protocol.eof_received())  # type: ignore[union-attr]
        self._loop.remove_reader(self._fd)
        self._reading_paused = True
        if not keep and not self._gone:
            if self._pending:
                self._closing = True
                self._lingering = True
            else:
                self._say_goodbye()
                self._cut(None)

    def pause_reading(self) -> None:
        if not self._reading_paused and not self._closing:
            self._reading_paused = True
            self._loop.remove_reader(self._fd)

    def resume_reading(self) -> None:
        if self._reading_paused and not self._closing:
            self._reading_paused = False
            self._loop.add_reader(self._fd, self._readable)
            if self._ssl_pending():
                self._loop.call_soon(self._readable)

    def is_reading(self) -> bool:
        return not self._reading_paused and not self._closing

    # writing

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if not data or self._closing:
            return
        if not self._pending:
            try:
                written = self._ssl_write(data)
            except ssl.SSLWantWriteError:
                self._start_writer()
            except ssl.SSLWantReadError:
                pass
            except (OSError, ValueError) as error:
                self._lost_soon(error)
                return
            else:
                if written == len(data):
                    return
                data = memoryview(data)[written:]
        self._pending.append(bytes(data))
        self._size += len(data)
        if self._size > self._high and not self._writing_paused:
            self._writing_paused = True
            self._protocol.pause_writing()  # type: ignore[union-attr]

    def _flush(self) -> None:
        pending = self._pending
        self.progress += 1
        while pending and not self._gone:
            try:
                written = self._ssl_write(pending[0])
            except ssl.SSLWantWriteError:
                self._start_writer()
                break
            except ssl.SSLWantReadError:
                self._stop_writer()
                break
            except (OSError, ValueError) as error:
                self._cut(error if isinstance(error, OSError) else None)
                return
            self._size -= written
            if written == len(pending[0]):
                pending.popleft()
            else:
                pending[0] = pending[0][written:]
        if not pending:
            self._stop_writer()
        if self._writing_paused and self._size <= self._low and not self._gone:
            self._writing_paused = False
            self._protocol.resume_writing()  # type: ignore[union-attr]
        if self._closing and not pending and not self._gone:
            if self._lingering:
                self._cut(None)
            else:
                self._linger()

    def _start_writer(self) -> None:
        if not self._writer_on:
            self._writer_on = True
            self._loop.add_writer(self._fd, self._flush)

    def _stop_writer(self) -> None:
        if self._writer_on:
            self._writer_on = False
            self._loop.remove_writer(self._fd)

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self._high = HIGH_WATER if high is None else high
        self._low = self._high // 4 if low is None else low

    def get_write_buffer_size(self) -> int:
        return self._size

    def get_write_buffer_limits(self) -> tuple[int, int]:
        return self._low, self._high

    def can_write_eof(self) -> bool:
        return False

    # the end

    def close(self) -> None:
        """Sends what is queued, says goodbye and reads on for a while."""
        if self._closing or self._gone:
            return
        if self._protocol is None:
            self.abort()
            return
        self._closing = True
        if not self._pending:
            self._linger()

    def _say_goodbye(self) -> None:
        try:
            self._socket._sslobj.shutdown()  # type: ignore[attr-defined]
        except (OSError, ValueError):
            pass  # it waits for the peer's goodbye, which nobody needs

    def _linger(self) -> None:
        self._lingering = True
        self._say_goodbye()
        try:
            socket.socket.shutdown(self._socket, socket.SHUT_WR)
        except OSError:
            self._cut(None)
            return
        self._timer = self._loop.call_later(LINGER_SECONDS, self._cut, None)
        self._loop.add_reader(self._fd, self._drain)

    def _drain(self) -> None:
        """Throws away what still comes in until the peer closes."""
        try:
            data = socket.socket.recv(self._socket, _CHUNK)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            data = b""
        if not data:
            self._cut(None)

    def abort(self) -> None:
        self._cut(None)

    def _lost_soon(self, error: Exception) -> None:
        """Not from within a write: its caller does not expect ``connection_lost``."""
        self._closing = True
        self._loop.call_soon(self._cut, error if isinstance(error, OSError) else None)

    def _cut(self, error: Exception | None) -> None:
        if self._gone:
            return
        self._gone = self._closing = True
        self._timer.cancel()
        self._listener.starting.pop(self, None)
        self._loop.remove_reader(self._fd)
        self._stop_writer()
        self._pending.clear()
        self._size = 0
        self._socket.close()
        if self._protocol is not None:
            self._loop.call_soon(self._protocol.connection_lost, error)

    def is_closing(self) -> bool:
        return self._closing

    # what it is

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._protocol = protocol

    def get_protocol(self) -> asyncio.BaseProtocol:
        assert self._protocol is not None
        return self._protocol

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        if name == "peername":
            return self._peer
        if name in ("ssl_object", "socket"):
            return self._socket
        if name == "sockname":
            return self._socket.getsockname()
        if name == "cipher":
            return self._socket.cipher()
        if name == "peercert":
            return self._socket.getpeercert()
        return default
