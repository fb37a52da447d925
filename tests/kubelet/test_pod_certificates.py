"""podCertificate sources of projected volumes: asked for, issued, refreshed, refused."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from cryptography import x509

from pilothouse.apimachinery.testing import FakeClock, make_object
from pilothouse.apimachinery.timefmt import format_time
from pilothouse.kubeclient.resources import POD_CERTIFICATE_REQUESTS
from pilothouse.kubeclient.testing import FakeClient
from pilothouse.kubelet.interfaces import MountError
from pilothouse.kubelet.volumes.pod_certificates import (
    REFRESH_JITTER_SECONDS,
    PodCertificates,
    key_and_proof,
)

POD = make_object("v1", "Pod", "web", "default", spec={"serviceAccountName": "app"})
POD["metadata"]["uid"] = "pod-uid"
SOURCE = {"signerName": "example.com/s", "keyType": "ED25519", "userAnnotations": {"a/b": "c"}}
CHAIN = "comment\n-----BEGIN CERTIFICATE-----\nb25l\n-----END CERTIFICATE-----\n"


class World:
    def __init__(self) -> None:
        self.clock = FakeClock()
        self.client = FakeClient(clock=self.clock)
        self.client.seed(make_object("v1", "ServiceAccount", "app", "default"))
        self.client.seed(make_object("v1", "Node", "node-1"))
        self.certificates = PodCertificates(self.client, self.clock, "node-1")

    async def bundle(self) -> tuple[bytes, bytes]:
        return await self.certificates.bundle(POD, "tls", 0, SOURCE)

    async def requests(self) -> list[dict[str, Any]]:
        return (await self.client.list(POD_CERTIFICATE_REQUESTS, "default")).items

    async def answer(self, kind: str, **status: Any) -> None:
        (request,) = [r for r in await self.requests() if not r.get("status")]
        condition = {"type": kind, "status": "True", "reason": "Why", "message": "because"}
        request = {**request, "status": {"conditions": [condition], **status}}
        await self.client.update(POD_CERTIFICATE_REQUESTS, request, subresource="status")


async def test_request_is_made_once_and_its_chain_used() -> None:
    world = World()
    for _ in range(2):
        with pytest.raises(MountError, match="credential bundle is not issued yet"):
            await world.bundle()
    (request,) = await world.requests()
    spec = request["spec"]
    assert (spec["podName"], spec["nodeName"]) == ("web", "node-1")
    assert spec["unverifiedUserAnnotations"] == {"a/b": "c"}
    proof = x509.load_der_x509_csr(base64.b64decode(spec["stubPKCS10Request"]))
    assert proof.is_signature_valid

    refresh = format_time(world.clock.now())
    await world.answer("Issued", certificateChain=CHAIN, beginRefreshAt=refresh)
    key, chain = await world.bundle()
    assert b"PRIVATE KEY" in key
    assert chain.startswith(b"-----BEGIN CERTIFICATE-----\n")

    world.clock.advance(REFRESH_JITTER_SECONDS)
    assert await world.bundle() == (key, chain)  # until the next one is issued
    assert len(await world.requests()) == 2
    await world.answer("Issued", certificateChain=CHAIN, beginRefreshAt=refresh)
    assert (await world.bundle())[0] != key


async def test_refused_for_good() -> None:
    world = World()
    with pytest.raises(MountError):
        await world.bundle()
    await world.answer("Denied")
    for _ in range(2):
        with pytest.raises(MountError, match='permanently denied: reason="Why"'):
            await world.bundle()
    world.certificates.forget("pod-uid")
    with pytest.raises(MountError, match="not issued yet"):
        await world.bundle()


def test_unknown_key_type() -> None:
    with pytest.raises(MountError, match='unknown key type "DSA"'):
        key_and_proof("DSA")
