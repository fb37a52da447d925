"""clusterTrustBundle sources of projected volumes."""

from __future__ import annotations

import base64

import pytest

from pilothouse.apimachinery.testing import FakeClock, make_object
from pilothouse.kubeclient.testing import FakeClient
from pilothouse.kubelet.interfaces import MountError
from pilothouse.kubelet.volumes.trust_bundles import normalized, trust_anchors


def pem(data: bytes, header: str = "") -> str:
    body = base64.b64encode(data).decode()
    return f"-----BEGIN CERTIFICATE-----\n{header}{body}\n-----END CERTIFICATE-----\n"


@pytest.fixture
def client():
    client = FakeClient(clock=FakeClock())
    for name, signer, data in (
        ("plain", None, b"plain"),
        ("example.com:s:live", "example.com/s", b"one"),
        ("example.com:s:old", "example.com/s", b"two"),
        ("other.com:s:live", "other.com/s", b"three"),
    ):
        spec = {"trustBundle": pem(data)} | ({"signerName": signer} if signer else {})
        labels = {"age": name.rpartition(":")[2]}
        client.seed(
            make_object(
                "certificates.k8s.io/v1", "ClusterTrustBundle", name, labels=labels, spec=spec
            )
        )
    return client


@pytest.mark.parametrize(
    ("source", "certificates"),
    [
        ({"name": "plain"}, [b"plain"]),
        ({"name": "gone", "optional": True}, []),
        ({"signerName": "example.com/s", "labelSelector": {}}, [b"one", b"two"]),
        (
            {"signerName": "example.com/s", "labelSelector": {"matchLabels": {"age": "old"}}},
            [b"two"],
        ),
        ({"signerName": "example.com/s", "optional": True}, []),
    ],
)
async def test_what_is_projected(client, source, certificates):
    expected = "".join(pem(certificate) for certificate in certificates)
    assert (await trust_anchors(client, source)).decode() == expected


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ({"name": "gone"}, "while getting ClusterTrustBundle: "),
        ({"signerName": "example.com/s"}, "matched zero ClusterTrustBundles"),
    ],
)
async def test_nothing_to_project(client, source, text):
    with pytest.raises(MountError, match=text):
        await trust_anchors(client, source)


def test_certificates_come_once_and_bare():
    first = "a comment\n" + pem(b"a" * 60, "Subject: x\n\n") + pem(b"b")
    assert normalized([first, pem(b"b")]) == normalized([first])
    assert normalized([first]).count(b"BEGIN") == 2
    assert b"Subject" not in normalized([first])
