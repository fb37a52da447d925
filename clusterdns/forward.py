"""Asks the machine's own resolvers for names outside the cluster.

Queries go on as they came, with an id of ours; responses come back as they are. Servers are asked
in the order of resolv.conf; one that doesn't answer in time makes place for the next.
"""

from __future__ import annotations

import asyncio
import logging
import os
import struct
from collections.abc import Callable
from random import Random

from pilothouse.clusterdns.messages import (
    RESPONSE,
    TRUNCATED,
    FormatError,
    Question,
    Received,
    decode_response,
    encode_query,
    lowered,
)

log = logging.getLogger(__name__)
TIMEOUT = 2.0
LARGEST_FORWARDS = 1000
"""So many queries may wait for answers at once; more are refused."""
Address = tuple[str, int]


class NoAnswer(Exception):
    """No resolver gave one; the text says why."""


class ResolvConf:
    """The nameservers of a resolv.conf, read again when the file has changed."""

    def __init__(self, path: str, own: Callable[[], tuple[str, ...]] = tuple) -> None:
        """``own``: addresses of ourselves, which must not be asked."""
        self._path = path
        self._own = own
        self._stamp: tuple[int, int, int] | None = None
        self._servers: list[str] = []

    def servers(self) -> list[Address]:
        try:
            status = os.stat(self._path)
            stamp = (status.st_mtime_ns, status.st_ino, status.st_size)
            if stamp != self._stamp:
                with open(self._path, encoding="utf-8", errors="replace") as file:
                    self._servers = nameservers(file.read())
                self._stamp = stamp
        except OSError:
            return []
        own = self._own()
        return [(server, 53) for server in self._servers if server not in own]


def nameservers(text: str) -> list[str]:
    """At most three, as resolvers have it."""
    words = (line.split() for line in text.splitlines())
    return [w[1] for w in words if len(w) > 1 and w[0] == "nameserver"][:3]


class Forwarder:
    def __init__(
        self, servers: Callable[[], list[Address]], random: Random, timeout: float = TIMEOUT
    ) -> None:
        self._servers = servers
        self._random = random
        self._timeout = timeout
        self._waiting = 0

    async def forward(self, data: bytes, question: Question, *, tcp: bool = False) -> bytes:
        """The raw response to the raw query ``data``, with its id. :raises NoAnswer: none."""
        response, _ = await self._ask(data, question, tcp)
        return data[:2] + response[2:]

    async def resolve(self, question: Question) -> Received:
        """The decoded response to a query of our own. :raises NoAnswer: none."""
        data = encode_query(0, question)
        _, received = await self._ask(data, question, False)
        if received.flags & TRUNCATED:
            _, received = await self._ask(data, question, True)
        return received

    async def _ask(self, data: bytes, question: Question, tcp: bool) -> tuple[bytes, Received]:
        if self._waiting >= LARGEST_FORWARDS:
            raise NoAnswer("too many queries are waiting")
        problems = []
        self._waiting += 1
        try:
            for server in self._servers():
                try:
                    async with asyncio.timeout(self._timeout):
                        return await self._ask_server(server, data, question, tcp)
                except (OSError, FormatError, asyncio.IncompleteReadError) as error:
                    problems.append(f"{server[0]}: {error or type(error).__name__}")
        finally:
            self._waiting -= 1
        raise NoAnswer("; ".join(problems) or "no nameserver is configured")

    async def _ask_server(
        self, server: Address, data: bytes, question: Question, tcp: bool
    ) -> tuple[bytes, Received]:
        id_ = self._random.getrandbits(16)
        query = struct.pack("!H", id_) + data[2:]
        if not tcp:
            return await _over_udp(server, query, id_, question)
        response = await _over_tcp(server, query)
        received = decode_response(response)
        if not answers(received, id_, question):
            raise FormatError("answer to another question")
        return response, received


def answers(received: Received, id_: int, question: Question) -> bool:
    """Whether a message is the response to what we asked, and no forgery or stray."""
    asked = received.question
    return (
        received.id == id_
        and bool(received.flags & RESPONSE)
        and asked is not None
        and lowered(asked.name) == lowered(question.name)
        and asked[1:] == question[1:]
    )


class _Exchange(asyncio.DatagramProtocol):
    """Waits for the datagram that answers; others are ignored."""

    def __init__(self, id_: int, question: Question) -> None:
        self._id = id_
        self._question = question
        self.result: asyncio.Future[tuple[bytes, Received]] = (
            asyncio.get_running_loop().create_future()
        )

    def datagram_received(self, data: bytes, addr: object) -> None:
        try:
            received = decode_response(data)
        except FormatError:
            return
        if answers(received, self._id, self._question) and not self.result.done():
            self.result.set_result((data, received))

    def error_received(self, exc: Exception) -> None:
        if not self.result.done():
            self.result.set_exception(exc)


async def _over_udp(
    server: Address, query: bytes, id_: int, question: Question
) -> tuple[bytes, Received]:
    loop = asyncio.get_running_loop()
    transport, protocol = await loop.create_datagram_endpoint(
        lambda: _Exchange(id_, question), remote_addr=server
    )
    try:
        transport.sendto(query)
        return await protocol.result
    finally:
        transport.close()


async def _over_tcp(server: Address, query: bytes) -> bytes:
    reader, writer = await asyncio.open_connection(*server)
    try:
        writer.write(struct.pack("!H", len(query)) + query)
        await writer.drain()
        (size,) = struct.unpack("!H", await reader.readexactly(2))
        return await reader.readexactly(size)
    finally:
        writer.close()
