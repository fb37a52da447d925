"""The DNS server of a cluster: datagrams and connections in, answers from the informers out.

Names of the cluster are answered in the turn of the event loop in which the query came; other
names, and CNAMEs that lead to them, wait for the machine's resolvers in a task of their own.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
import struct
from random import Random
from typing import Any

from pilothouse.apimachinery.errors import StatusError
from pilothouse.clusterdns import messages
from pilothouse.clusterdns.config import DNSConfig
from pilothouse.clusterdns.forward import Forwarder, NoAnswer, ResolvConf
from pilothouse.clusterdns.messages import LARGEST_MESSAGE, FormatError, Query, Response, udp_limit
from pilothouse.clusterdns.publish import publish
from pilothouse.clusterdns.records import Found, Zone
from pilothouse.clusterdns.view import InformerView
from pilothouse.componentbase.tasks import TaskOwner
from pilothouse.kubeclient.interfaces import Environment

log = logging.getLogger(__name__)
IDLE_SECONDS = 10.0
"""A connection without a query for this long is closed."""
LARGEST_CONNECTIONS = 200
PORT_TRIES = 20
TRANSFERS = range(251, 255)
"""Types that ask for a zone or, long ago, for mail."""


class DNSServer:
    """Implements ``kubeclient.interfaces.Component``."""

    name = "dns"

    def __init__(
        self, env: Environment, config: DNSConfig, forwarder: Forwarder | None = None
    ) -> None:
        self.config = config
        self.port = config.port
        self._env = env
        self._view = InformerView(env.informers)
        own = tuple(ip for ip in (config.address, config.service_ip) if ip)
        resolv_conf = ResolvConf(config.resolv_conf, lambda: own)
        self._zone = Zone(
            self._view,
            config.cluster_domain,
            server_ips=(config.service_ip or config.address,),
            serial=int(env.clock.time()),
            ttl=config.ttl,
        )
        self._random = Random(env.random.getrandbits(64))
        self._forwarder = forwarder or Forwarder(resolv_conf.servers, self._random)
        self._tasks = TaskOwner("dns")
        self._udp: asyncio.DatagramTransport | None = None
        self._tcp: asyncio.Server | None = None
        self._connections = 0
        self._problem: str | None = None

    # -- life ----------------------------------------------------------------------------

    async def start(self) -> None:
        """:raises OSError: the address or the port can't be had."""
        await self._bind()
        self._env.informers.start()
        await self._env.informers.wait_synced(self._view.informers)
        if self.config.service_ip:
            await self._publish()

    async def _publish(self) -> None:
        """A cluster whose Service can't be had (somebody took its address) still works without
        names; ``health`` says so."""
        config = self.config
        try:
            await publish(self._env.client, config.service_ip, config.address, self.port)
        except StatusError as error:
            self._problem = f"no Service kube-system/kube-dns with {config.service_ip}: {error}"
            log.error("%s", self._problem)

    async def stop(self) -> None:
        if self._udp is not None:
            self._udp.close()
            self._udp = None
        if self._tcp is not None:
            self._tcp.close()
            self._tcp = None
        await self._tasks.close()

    def health(self) -> str | None:
        return self._problem if self._udp is not None else "not listening"

    async def _bind(self) -> None:
        """The port of the configuration; if that is taken (by a resolver of the machine that
        listens everywhere) and another will do, another."""
        try:
            await self._bind_to(self.config.port)
            return
        except OSError as error:
            if error.errno != errno.EADDRINUSE or not self.config.any_port:
                raise
        for attempt in range(PORT_TRIES):
            try:
                await self._bind_to(0)
                log.info("port %d is in use, listening on %d", self.config.port, self.port)
                return
            except OSError as error:  # free for TCP, taken for UDP
                if error.errno != errno.EADDRINUSE or attempt == PORT_TRIES - 1:
                    raise

    async def _bind_to(self, port: int) -> None:
        loop = asyncio.get_running_loop()
        server = await asyncio.start_server(self._connected, self.config.address, port)
        port = server.sockets[0].getsockname()[1]
        # A socket of our own: the error of uvloop's does not say that the port is in use.
        sock = socket.socket(server.sockets[0].family, socket.SOCK_DGRAM)
        try:
            sock.setblocking(False)
            sock.bind((self.config.address, port))
            self._udp, _ = await loop.create_datagram_endpoint(lambda: _Datagrams(self), sock=sock)
        except OSError:
            sock.close()
            server.close()
            raise
        self._tcp, self.port = server, port

    # -- queries -------------------------------------------------------------------------

    def datagram(self, data: bytes, client: Any) -> None:
        """One datagram; answers at once or starts a task that does."""
        query = self._decode(data)
        if isinstance(query, Query):
            found = self._answer(query)
            if isinstance(found, Response):
                self._send(messages.encode_response(query, found, udp_limit(query)), client)
            else:
                self._tasks.start(self._answer_later(data, query, found, client), "forward")
        elif query:
            self._send(query, client)

    async def _answer_later(
        self, data: bytes, query: Query, found: Found | None, client: Any
    ) -> None:
        response = await self._complete(data, query, found, udp_limit(query), tcp=False)
        self._send(response, client)

    def _send(self, data: bytes, client: Any) -> None:
        if self._udp is not None and not self._udp.is_closing():
            self._udp.sendto(data, client)

    @staticmethod
    def _decode(data: bytes) -> Query | bytes:
        """The query, or the response to what isn't one (empty: none is due)."""
        header = messages.header_of(data)
        if header is None or header[1] & messages.RESPONSE:
            return b""
        try:
            return messages.decode_query(data)
        except FormatError:
            return messages.encode_format_error(*header)

    def _answer(self, query: Query) -> Response | Found | None:
        """A response, or what is still missing: the rest of a chain of CNAMEs, or (None)
        everything."""
        question = query.question
        if query.edns_version:
            return Response(messages.BADVERS, authoritative=False)
        if query.opcode:
            return Response(messages.NOTIMP, authoritative=False)
        if question.class_ not in (messages.IN, messages.ANY_CLASS) or question.type in TRANSFERS:
            return Response(messages.REFUSED, authoritative=False)
        found = self._zone.resolve(question)
        if found is None or found.outside is not None:
            return found
        return self._shuffled(found.response)

    def _shuffled(self, response: Response) -> Response:
        """Clients take the first address: let that not always be the same."""
        answers = response.answers
        if len(answers) < 2 or any(r.type == messages.CNAME for r in answers):
            return response
        answers = self._random.sample(answers, len(answers))
        return Response(response.rcode, answers, response.authority, response.additional)

    async def _complete(
        self, data: bytes, query: Query, found: Found | None, limit: int, *, tcp: bool
    ) -> bytes:
        question = query.question
        try:
            if found is None:
                return await self._forwarder.forward(data, question, tcp=tcp)
            assert found.outside is not None
            rest = await self._forwarder.resolve(question._replace(name=found.outside))
            answers = (*found.response.answers, *rest.answers)
            response = Response(rest.rcode, answers, authoritative=False)
        except NoAnswer as error:
            log.debug("%s: %s", ".".join(question.name), error)
            known = found.response.answers if found is not None else ()
            response = Response(messages.SERVFAIL, known, authoritative=False)
        return messages.encode_response(query, response, limit)

    # -- connections ---------------------------------------------------------------------

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._connections >= LARGEST_CONNECTIONS:
            writer.close()
            return
        self._connections += 1
        self._tasks.start(self._serve(reader, writer), "connection")

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Queries of one connection, one after the other."""
        try:
            while True:
                async with asyncio.timeout(IDLE_SECONDS):
                    (size,) = struct.unpack("!H", await reader.readexactly(2))
                    data = await reader.readexactly(size)
                response = await self._respond(data)
                if not response:
                    return
                writer.write(struct.pack("!H", len(response)) + response)
                await writer.drain()
        except (OSError, asyncio.IncompleteReadError):
            return
        finally:
            self._connections -= 1
            writer.close()

    async def _respond(self, data: bytes) -> bytes:
        query = self._decode(data)
        if not isinstance(query, Query):
            return query
        found = self._answer(query)
        if isinstance(found, Response):
            return messages.encode_response(query, found, LARGEST_MESSAGE)
        return await self._complete(data, query, found, LARGEST_MESSAGE, tcp=True)


class _Datagrams(asyncio.DatagramProtocol):
    def __init__(self, server: DNSServer) -> None:
        self._server = server

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self._server.datagram(data, addr)

    def error_received(self, exc: Exception) -> None:
        log.debug("a datagram could not be sent: %s", exc)
