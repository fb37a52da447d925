"""Certificates of a kubelet: the store, what is asked for, and when the next one is due."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any

import pytest
from cryptography import x509

from pilothouse.apimachinery.testing import FakeClock
from pilothouse.apiserver.server import APIServer
from pilothouse.apiserver.testing import running_server
from pilothouse.componentbase.certs import KeyPair, make_ca, make_client_cert
from pilothouse.kubeclient.resources import CERTIFICATE_SIGNING_REQUESTS as CSRS
from pilothouse.kubelet.certificate.request import (
    CLIENT_SIGNER,
    SERVING_SIGNER,
    NotIssued,
    Wanted,
    addresses_of,
    issued_in,
    make_request,
    new_key,
    request_name,
)
from pilothouse.kubelet.certificate.rotation import Rotation, deadline, satisfies
from pilothouse.kubelet.certificate.store import CertificateStore, Pair, make_pair

NOW = datetime(2026, 1, 1, tzinfo=UTC)
CA = make_ca("ca", now=NOW)
SERVING = Wanted("n1", SERVING_SIGNER, ("n1",), ("10.0.0.1",))


def client_pair(days: int = 10, now: datetime = NOW) -> KeyPair:
    return make_client_cert(CA, "system:node:n1", ["system:nodes"], now=now, days=days)


def test_store(tmp_path: Path) -> None:
    store = CertificateStore(tmp_path / "pki", "kubelet-client")
    assert store.current() is None
    first, second = client_pair(), client_pair()
    store.update(first.cert, first.key, NOW)
    store.update(second.cert, second.key, NOW + timedelta(seconds=1))
    current = store.current()
    assert current is not None
    assert current == make_pair(second.cert, second.key)
    assert store.path.is_symlink()
    assert store.path.stat().st_mode & 0o777 == 0o600
    assert len(list((tmp_path / "pki").iterdir())) == 3
    with pytest.raises(ValueError, match="no certificate and key"):
        store.update(b"", first.key, NOW)
    store.path.resolve().write_bytes(b"damaged")
    assert store.current() is None


def test_what_is_asked_for() -> None:
    key = new_key()
    made = x509.load_pem_x509_csr(make_request(SERVING, key))
    assert made.is_signature_valid
    assert made.subject.rfc4514_string() == "CN=system:node:n1,O=system:nodes"
    names: Any = made.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["n1"]
    assert [str(ip) for ip in names.get_values_for_type(x509.IPAddress)] == ["10.0.0.1"]
    assert SERVING.usages == ["digital signature", "server auth"]
    assert Wanted("n1").usages == ["digital signature", "client auth"]
    assert request_name(Wanted("n1"), key) == request_name(Wanted("n1"), key)
    assert len({request_name(Wanted(n), k) for n in "ab" for k in (key, new_key())}) == 4


def test_addresses() -> None:
    given = [
        {"type": "InternalIP", "address": "10.0.0.2"},
        {"type": "ExternalIP", "address": "10.0.0.1"},
        {"type": "Hostname", "address": "n1"},
        {"type": "Hostname", "address": "10.0.0.3"},
        {"type": "InternalDNS", "address": "n1.local"},
        {"type": "InternalIP", "address": "n1"},
        {"type": "Hostname", "address": ""},
    ]
    assert addresses_of(given) == (("n1", "n1.local"), ("10.0.0.1", "10.0.0.2", "10.0.0.3"))


def test_outcomes() -> None:
    request: dict[str, Any] = {"metadata": {"name": "r"}}
    assert issued_in(request) is None
    for kind in ("Denied", "Failed"):
        condition = {"type": kind, "reason": "R", "message": "no"}
        with pytest.raises(NotIssued, match=f"r is {kind.lower()}, reason: R, message: no"):
            issued_in({**request, "status": {"conditions": [condition]}})
    certificate = base64.b64encode(b"x").decode()
    assert issued_in({**request, "status": {"certificate": certificate}}) == b"x"


def test_deadline_and_contents() -> None:
    pair = client_pair(days=10)
    fields = make_pair(pair.cert, pair.key).fields
    assert NOW + timedelta(days=6) < deadline(fields, 0.7) < deadline(fields, 0.9)
    assert deadline(fields, 0.9) < fields.not_after
    assert satisfies(fields, Wanted("n1"))
    assert not satisfies(fields, Wanted("n2"))
    assert not satisfies(fields, SERVING)


class Lab:
    """A rotation against a real API server; the test is who approves and signs."""

    def __init__(self, server: APIServer, clock: FakeClock, directory: Path) -> None:
        self.clock = clock
        self.client = server.local_client()
        self.store = CertificateStore(directory, "kubelet-client")
        self.used: list[Pair] = []
        self.wanted: Wanted | None = Wanted("n1")
        self.used_one = asyncio.Event()
        self.rotation = Rotation(
            self.store, self.client, clock, Random(1), lambda: self.wanted, self._use
        )

    async def _use(self, pair: Pair) -> None:
        self.used.append(pair)
        self.used_one.set()

    async def request(self) -> dict[str, Any]:
        """The one that is waiting."""
        async with asyncio.timeout(5):
            while True:
                for each in (await self.client.list(CSRS)).items:
                    if not each.get("status"):
                        return each
                await asyncio.sleep(0)

    async def sign(self, request: dict[str, Any]) -> None:
        csr = x509.load_pem_x509_csr(base64.b64decode(request["spec"]["request"]))
        pair = client_pair(now=self.clock.now())
        assert csr.is_signature_valid
        condition = {
            "type": "Approved", "status": "True", "reason": "Test", "message": "",
        }  # fmt: skip
        approved = {**request, "status": {"conditions": [condition]}}
        approved = await self.client.update(CSRS, approved, subresource="approval")
        certificate = base64.b64encode(pair.cert).decode()
        signed = {**approved, "status": {**approved["status"], "certificate": certificate}}
        self.used_one.clear()
        await self.client.update(CSRS, signed, subresource="status")
        async with asyncio.timeout(5):
            await self.used_one.wait()

    async def deny(self, request: dict[str, Any]) -> None:
        condition = {
            "type": "Denied", "status": "True", "reason": "Test", "message": "",
        }  # fmt: skip
        denied = {**request, "status": {"conditions": [condition]}}
        await self.client.update(CSRS, denied, subresource="approval")


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[Lab]:
    clock = FakeClock(NOW)
    async with running_server(clock=clock) as server:
        made = Lab(server, clock, tmp_path)
        task = asyncio.ensure_future(made.rotation.run())
        yield made
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_rotation(lab: Lab) -> None:
    first = await lab.request()
    assert first["spec"]["signerName"] == CLIENT_SIGNER
    assert first["metadata"]["name"].startswith("csr-")
    await lab.sign(first)
    assert len(lab.used) == 1
    assert lab.store.current() == lab.used[0]
    await lab.clock.advance_through(6 * 86400.0)
    assert len((await lab.client.list(CSRS)).items) == 1
    await lab.clock.advance_through(4 * 86400.0)
    await lab.sign(await lab.request())
    assert len(lab.used) == 2
    assert lab.used[0].key != lab.used[1].key


async def test_who_is_refused_asks_again(lab: Lab) -> None:
    await lab.deny(await lab.request())
    for _ in range(50):
        await asyncio.sleep(0)
    await lab.clock.advance_through(10.0)
    await lab.sign(await lab.request())
    assert len(lab.used) == 1
