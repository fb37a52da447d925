"""An HTTP(S) server inside a running event loop: no signal handlers, no globals.

``HTTPServer(handler)`` listens on any number of addresses and sockets; ``stop`` lets requests
in flight finish, ends streams and closes what is left. Used by the API server, the kubelet and
health ports; many can live in one loop.
"""

from __future__ import annotations

import asyncio
import resource
import time
from typing import TYPE_CHECKING

from pilothouse.componentbase.serving.connection_limits import idle, too_slow
from pilothouse.componentbase.serving.http_protocol import HTTPProtocol
from pilothouse.componentbase.serving.tls_transport import TLSListener, bind
from pilothouse.componentbase.tasks import TaskOwner

if TYPE_CHECKING:
    import socket
    import ssl
    from collections.abc import Sequence

    from pilothouse.componentbase.serving.interfaces import HTTPHandler

KEEP_ALIVE_SECONDS = 130.0
"""Above client-go's 90 s of idle keep-alive, so that it never meets a connection we just closed."""
_SWEEP_SECONDS = 5.0
MAX_BUFFERED = 256 << 20
"""Bytes of big request bodies that may be coming in at once, on all connections."""
_DESCRIPTORS = 256
"""File descriptors that connections leave to the rest of the process."""
_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec").split()


class HTTPServer:
    """Start with ``listen`` (as often as wanted), end with ``stop``."""

    def __init__(
        self, handler: HTTPHandler, *, name: str = "http", keep_alive: float = KEEP_ALIVE_SECONDS
    ) -> None:
        self.handler = handler
        self.keep_alive = keep_alive
        self.tasks = TaskOwner(name)
        self.connections: set[HTTPProtocol] = set()
        self.taken_over: set[asyncio.Transport] = set()
        self.max_connections = max(64, resource.getrlimit(resource.RLIMIT_NOFILE)[0] - _DESCRIPTORS)
        self.buffered = 0
        self.stopping = False
        self.draining = False
        """True: answers say ``Connection: close``; whoever comes back should go elsewhere."""
        self._servers: list[asyncio.Server | TLSListener] = []
        self._sweeper: asyncio.TimerHandle | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._date = (0, b"")

    async def listen(
        self,
        host: str = "127.0.0.1",
        port: int = 0,
        *,
        tls: ssl.SSLContext | None = None,
        sockets: Sequence[socket.socket] = (),
        backlog: int = 1024,
    ) -> int:
        """Listens on ``host:port`` (0: any free port), or on ``sockets``; returns the port.

        :raises OSError: the address is taken or not ours.
        """
        loop = self._loop = asyncio.get_running_loop()
        if tls is None:
            servers = await self._listen_plainly(host, port, sockets, backlog)
        else:
            bound = [*sockets] or await bind(host, port)
            for listener in bound:
                listener.listen(backlog)
            servers = [TLSListener(bound, tls, lambda: HTTPProtocol(self))]
        self._servers += servers
        if self._sweeper is None:
            self._sweeper = loop.call_later(_SWEEP_SECONDS, self._sweep)
        name = servers[0].sockets[0].getsockname()
        return int(name[1]) if isinstance(name, tuple) else 0

    async def _listen_plainly(
        self, host: str, port: int, sockets: Sequence[socket.socket], backlog: int
    ) -> list[asyncio.Server | TLSListener]:
        loop = asyncio.get_running_loop()
        if not sockets:
            return [
                await loop.create_server(lambda: HTTPProtocol(self), host, port, backlog=backlog)
            ]
        return [
            await loop.create_server(lambda: HTTPProtocol(self), sock=listener, backlog=backlog)
            for listener in sockets
        ]

    @property
    def addresses(self) -> list[tuple[str, int]]:
        """Where we listen now."""
        names = [s.getsockname() for server in self._servers for s in server.sockets]
        return [(str(n[0]), int(n[1])) for n in names if isinstance(n, tuple)]

    def stop_listening(self) -> None:
        """Takes no new connections; those that are open stay."""
        for server in self._servers:
            server.close()

    async def stop(self, grace: float = 2.0) -> None:
        """Stops listening, ends streams, waits up to ``grace`` for the rest, then cuts."""
        self.stopping = True
        if self._sweeper is not None:
            self._sweeper.cancel()
            self._sweeper = None
        for server in self._servers:
            server.close()
        for connection in list(self.connections):
            if connection.stop_push is not None:
                stop, connection.stop_push = connection.stop_push, None
                stop()
            if not connection.busy:
                connection.transport.close()
        if len(self.tasks) and grace > 0:
            running = list(self.tasks._tasks)
            await asyncio.wait(running, timeout=grace)
        for connection in list(self.connections):
            connection.transport.abort()
        for transport in list(self.taken_over):
            transport.abort()
        self.taken_over.clear()
        await self.tasks.close()
        # Aborted transports report their loss on the next turn.
        await asyncio.sleep(0)
        self._servers.clear()

    def loop_time(self) -> float:
        return self._loop.time() if self._loop is not None else 0.0

    def add(self, connection: HTTPProtocol) -> None:
        """A new connection; where there are too many, those go that did nothing for longest."""
        if len(self.connections) >= self.max_connections:
            quiet = [each for each in self.connections if not each.busy]
            quiet.sort(key=lambda each: each.last_active)
            for each in quiet[: max(1, len(quiet) // 20)]:
                self.connections.discard(each)
                each.transport.abort()
        self.connections.add(connection)

    @property
    def handshake_errors(self) -> int:
        """Connections that never came to speak HTTP."""
        listeners = (each for each in self._servers if isinstance(each, TLSListener))
        return sum(listener.failed for listener in listeners)

    def charge(self, size: int) -> bool:
        """Counts bytes of big bodies that are held; False when there are too many."""
        self.buffered += size
        return self.buffered <= MAX_BUFFERED

    def _sweep(self) -> None:
        assert self._loop is not None
        now = self._loop.time()
        for connection in list(self.connections):
            transport = connection.transport
            queued = transport.get_write_buffer_size()
            if too_slow(connection, now, queued, getattr(transport, "progress", queued)):
                transport.abort()
            elif idle(connection, now, self.keep_alive):
                transport.close()
        self.taken_over = {t for t in self.taken_over if not t.is_closing()}
        self._sweeper = self._loop.call_later(_SWEEP_SECONDS, self._sweep)

    def date(self) -> bytes:
        """The Date header line, made anew once a second."""
        now = int(time.clock_gettime(time.CLOCK_REALTIME))
        if now != self._date[0]:
            t = time.gmtime(now)
            text = (
                f"Date: {_DAYS[t.tm_wday]}, {t.tm_mday:02d} {_MONTHS[t.tm_mon - 1]} {t.tm_year} "
                f"{t.tm_hour:02d}:{t.tm_min:02d}:{t.tm_sec:02d} GMT\r\n"
            )
            self._date = (now, text.encode())
        return self._date[1]
