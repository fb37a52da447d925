"""The server on real loopback sockets, with a fake API server and a fake resolver behind it."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from typing import Any

import pytest

from pilothouse.apimachinery.errors import new_conflict
from pilothouse.apimachinery.schema import GroupResource
from pilothouse.apimachinery.testing import FakeClock
from pilothouse.clusterdns import messages as m
from pilothouse.clusterdns.config import DNSConfig
from pilothouse.clusterdns.forward import Forwarder, NoAnswer, ResolvConf, nameservers
from pilothouse.clusterdns.messages import Question, Received, Record, Response
from pilothouse.clusterdns.publish import publish
from pilothouse.clusterdns.server import DNSServer
from pilothouse.componentbase.activity import ActivityTracker
from pilothouse.kubeclient.cache.factory import SharedInformerFactory
from pilothouse.kubeclient.interfaces import Environment
from pilothouse.kubeclient.resources import ENDPOINT_SLICES, SERVICES
from pilothouse.kubeclient.testing import FakeClient

LOCAL = "127.0.0.1"


class Resolver(asyncio.DatagramProtocol):
    """A resolver of the machine: knows the address of every name, or is told to misbehave."""

    def __init__(self) -> None:
        self.transport: Any = None
        self.asked: list[str] = []
        self.mute = False
        self.port = 0

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.port = transport.get_extra_info("sockname")[1]

    def datagram_received(self, data: bytes, addr: Any) -> None:
        query = m.decode_query(data)
        self.asked.append(".".join(query.question.name))
        if self.mute:
            return
        answer = Record(query.question.name, m.A, 60, b"\x09\x09\x09\x09")
        response = m.encode_response(query, Response(answers=[answer], authoritative=False), 512)
        self.transport.sendto(b"\xff\xff" + response[2:], addr)  # a forgery: another id
        self.transport.sendto(response, addr)


@asynccontextmanager
async def resolver() -> AsyncIterator[Resolver]:
    loop = asyncio.get_running_loop()
    transport, protocol = await loop.create_datagram_endpoint(Resolver, local_addr=(LOCAL, 0))
    try:
        yield protocol
    finally:
        transport.close()


def service(name: str, **spec: Any) -> dict[str, Any]:
    metadata = {"namespace": "ns", "name": name}
    return {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec}


@asynccontextmanager
async def server(
    client: FakeClient, upstream: list[tuple[str, int]] | None = None, **settings: Any
) -> AsyncIterator[DNSServer]:
    clock, random, activity = FakeClock(), Random(1), ActivityTracker()
    informers = SharedInformerFactory(client, clock, random, activity)
    env = Environment(client, informers, clock, random, activity)
    config = DNSConfig(address=LOCAL, port=settings.pop("port", 0), **settings)
    made = DNSServer(env, config, Forwarder(lambda: upstream or [], random, timeout=0.2))
    try:
        await made.start()
        yield made
    finally:
        await made.stop()
        await informers.stop()


async def ask_bytes(port: int, data: bytes, *, tcp: bool = False) -> bytes:
    if tcp:
        reader, writer = await asyncio.open_connection(LOCAL, port)
        writer.write(struct.pack("!H", len(data)) + data)
        (size,) = struct.unpack("!H", await reader.readexactly(2))
        response = await reader.readexactly(size)
        writer.close()
        return response
    loop = asyncio.get_running_loop()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setblocking(False)
        sock.connect((LOCAL, port))
        await loop.sock_sendall(sock, data)
        async with asyncio.timeout(5):
            return await loop.sock_recv(sock, 65535)


async def ask(port: int, name: str, type_: int = m.A, *, tcp: bool = False) -> Received:
    question = Question(m.parse_name(name), type_)
    return m.decode_response(await ask_bytes(port, m.encode_query(77, question), tcp=tcp))


@pytest.mark.parametrize("tcp", [False, True])
async def test_answers_follow_the_informers(tcp: bool) -> None:
    client = FakeClient()
    await client.create(SERVICES, service("web", clusterIP="10.96.0.7"), "ns")
    async with server(client) as dns:
        found = await ask(dns.port, "web.ns.svc.cluster.local", tcp=tcp)
        assert (found.id, found.rcode) == (77, 0)
        assert [r.data for r in found.answers] == [b"\x0a\x60\x00\x07"]
        assert found.flags & m.AUTHORITATIVE and found.flags & m.RECURSION_AVAILABLE
        assert (await ask(dns.port, "new.ns.svc.cluster.local", tcp=tcp)).rcode == m.NXDOMAIN
        await client.create(SERVICES, service("new", clusterIP="10.96.0.8"), "ns")
        await dns._env.activity.settle()
        assert (await ask(dns.port, "new.ns.svc.cluster.local", tcp=tcp)).answers
        await client.delete(SERVICES, "new", "ns")
        await dns._env.activity.settle()
        assert (await ask(dns.port, "new.ns.svc.cluster.local", tcp=tcp)).rcode == m.NXDOMAIN


async def test_other_names_are_forwarded_and_chains_completed() -> None:
    client = FakeClient()
    spec = {"type": "ExternalName", "externalName": "www.example.com"}
    await client.create(SERVICES, service("out", **spec), "ns")
    async with resolver() as upstream, server(client, [(LOCAL, upstream.port)]) as dns:
        found = await ask(dns.port, "Other.Example.com")
        assert [r.data for r in found.answers] == [b"\x09\x09\x09\x09"] and found.id == 77
        found = await ask(dns.port, "out.ns.svc.cluster.local")
        assert [(r.type, ".".join(r.name)) for r in found.answers] == [
            (m.CNAME, "out.ns.svc.cluster.local"), (m.A, "www.example.com"),
        ]  # fmt: skip
        assert upstream.asked == ["Other.Example.com", "www.example.com"]


async def test_without_an_answering_resolver_it_fails_soon() -> None:
    client = FakeClient()
    await client.create(SERVICES, service("out", type="ExternalName", externalName="a.b"), "ns")
    async with resolver() as mute, resolver() as good:
        mute.mute = True
        async with server(client, [(LOCAL, mute.port)]) as dns:
            assert (await ask(dns.port, "www.example.com")).rcode == m.SERVFAIL
            assert (await ask(dns.port, "www.example.com", tcp=True)).rcode == m.SERVFAIL
            found = await ask(dns.port, "out.ns.svc.cluster.local")
            assert found.rcode == m.SERVFAIL and [r.type for r in found.answers] == [m.CNAME]
        async with server(client, [(LOCAL, mute.port), (LOCAL, good.port)]) as dns:
            assert (await ask(dns.port, "www.example.com")).answers
    async with server(client) as dns:
        assert (await ask(dns.port, "www.example.com")).rcode == m.SERVFAIL


@pytest.mark.parametrize(
    ("flags", "count", "question", "rcode"),
    [
        (0x0000, 2, b"\0\0\1\0\1", m.FORMERR),
        (0x2800, 1, b"\0\0\1\0\1", m.NOTIMP),
        (0x0000, 1, b"\0\0\1\0\3", m.REFUSED),
        (0x0000, 1, b"\0\0\xfc\0\1", m.REFUSED),
    ],
)
async def test_refusals(flags: int, count: int, question: bytes, rcode: int) -> None:
    async with server(FakeClient()) as dns:
        data = struct.pack("!6H", 5, flags, count, 0, 0, 0) + question
        for tcp in (False, True):
            id_, got = struct.unpack_from("!HH", await ask_bytes(dns.port, data, tcp=tcp))
            assert (id_, got & 15, got >> 15) == (5, rcode, 1)


async def test_responses_and_scraps_are_not_answered() -> None:
    """Two servers that answer each other's responses would never end."""
    async with server(FakeClient()) as dns:
        loop = asyncio.get_running_loop()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.setblocking(False)
            sock.connect((LOCAL, dns.port))
            for data in (b"", b"x", struct.pack("!6H", 1, 0x8000, 0, 0, 0, 0)):
                await loop.sock_sendall(sock, data)
            await loop.sock_sendall(sock, m.encode_query(2, Question(("cluster", "local"), m.NS)))
            assert (await loop.sock_recv(sock, 4096))[:2] == b"\0\2"
        reader, writer = await asyncio.open_connection(LOCAL, dns.port)
        writer.write(b"\0\1x")
        assert await reader.read() == b""
        writer.close()


async def test_large_answers_come_over_tcp() -> None:
    client = FakeClient()
    await client.create(SERVICES, service("many", clusterIP="None"), "ns")
    await client.create(ENDPOINT_SLICES, {
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": {"namespace": "ns", "name": "many",
                     "labels": {"kubernetes.io/service-name": "many"}},
        "endpoints": [{"addresses": [f"10.0.0.{i}"]} for i in range(100)],
    }, "ns")  # fmt: skip
    name = m.parse_name("many.ns.svc.cluster.local")
    plain = m.encode_query(1, Question(name, m.A))[:-11]
    plain = plain[:10] + b"\0\0" + plain[12:]
    async with server(client) as dns:
        response = await ask_bytes(dns.port, plain)
        assert len(response) <= 512 and response[2] & 2
        answers = m.decode_response(await ask_bytes(dns.port, plain, tcp=True)).answers
        assert sorted(r.data[3] for r in answers if isinstance(r.data, bytes)) == list(range(100))
        again = m.decode_response(await ask_bytes(dns.port, plain, tcp=True)).answers
        assert again != answers, "shuffled"


async def test_a_taken_port_is_an_error_or_makes_it_take_another() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind((LOCAL, 0))
        port = taken.getsockname()[1]
        with pytest.raises(OSError, match="in use"):
            async with server(FakeClient(), port=port):
                pass
        async with server(FakeClient(), port=port, any_port=True) as dns:
            assert dns.port != port and dns.health() is None
            assert (await ask(dns.port, "cluster.local", m.NS, tcp=True)).answers


async def test_it_publishes_where_it_listens() -> None:
    client = FakeClient()
    async with server(client, service_ip="10.96.0.10") as dns:
        made = await client.get(SERVICES, "kube-dns", "kube-system")
        assert made["spec"]["clusterIP"] == "10.96.0.10" and "selector" not in made["spec"]
        slices = await client.get(ENDPOINT_SLICES, "kube-dns", "kube-system")
        assert slices["endpoints"][0]["addresses"] == [LOCAL]
        assert {p["port"] for p in slices["ports"]} == {dns.port}
        assert [r.data for r in (await ask(dns.port, "ns.dns.cluster.local")).answers] == [
            b"\x0a\x60\x00\x0a"
        ]
    assert dns.health() == "not listening"


async def test_it_answers_without_its_service(monkeypatch: pytest.MonkeyPatch) -> None:
    async def refuse(*args: Any, **kwargs: Any) -> Any:
        raise new_conflict(GroupResource("", "services"), "kube-dns", "address taken")

    client = FakeClient()
    monkeypatch.setattr(client, "create", refuse)
    async with server(client, service_ip="10.96.0.10") as dns:
        assert "address taken" in str(dns.health())
        assert (await ask(dns.port, "cluster.local", m.NS)).answers


async def test_publishing_again_changes_only_what_differs() -> None:
    client = FakeClient()
    await publish(client, "10.96.0.10", "10.1.0.1", 53)
    done = len(client.actions)
    await publish(client, "10.96.0.10", "10.1.0.1", 53)
    assert [a.verb for a in client.actions[done:]] == []
    await publish(client, "10.96.0.10", "10.1.0.1", 5353)
    assert [a.short[:2] for a in client.actions[done:]] == [
        ("update", "services"), ("update", "endpointslices"),
    ]  # fmt: skip
    await publish(client, "10.97.0.10", "10.1.0.1", 5353)
    made = await client.get(SERVICES, "kube-dns", "kube-system")
    assert made["spec"]["clusterIP"] == "10.97.0.10", "immutable: made anew"


def test_resolv_conf(tmp_path: Path) -> None:
    file = tmp_path / "resolv.conf"
    file.write_text("# nameserver 9.9.9.9\nnameserver 1.1.1.1\nsearch x\nnameserver 2.2.2.2 # x\n")
    conf = ResolvConf(str(file), lambda: ("2.2.2.2",))
    assert conf.servers() == [("1.1.1.1", 53)], "ourselves we don't ask"
    file.write_text("nameserver 3.3.3.3\n")
    assert conf.servers() == [("3.3.3.3", 53)]
    file.unlink()
    assert conf.servers() == []
    assert nameservers("nameserver\n" + "nameserver a\n" * 5) == ["a"] * 3


async def test_forwarding_over_tcp_wants_the_right_question() -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        (size,) = struct.unpack("!H", await reader.readexactly(2))
        query = m.decode_query(await reader.readexactly(size))
        response = m.encode_response(query, Response(m.NXDOMAIN), 512)
        if query.question.name == ("wrong",):
            response = response.replace(b"wrong", b"other")
        writer.write(struct.pack("!H", len(response)) + response)
        writer.close()

    upstream = await asyncio.start_server(answer, LOCAL, 0)
    port = upstream.sockets[0].getsockname()[1]
    forwarder = Forwarder(lambda: [(LOCAL, port)], Random(1), timeout=2)
    for name in ("right", "wrong"):
        question = Question((name,), m.A)
        data = m.encode_query(3, question)
        if name == "right":
            response = await forwarder.forward(data, question, tcp=True)
            assert response[:2] == b"\0\3" and response[3] & 15 == m.NXDOMAIN
        else:
            with pytest.raises(NoAnswer, match="another question"):
                await forwarder.forward(data, question, tcp=True)
    upstream.close()
