"""podCertificate sources of projected volumes: a key made here, a chain from the pod's signer.

A PodCertificateRequest is made when the pod first needs the files, and again when its signer says
that it is time to refresh; until the new chain is there the old one stays in place. A denied or
failed request is final (podcertificatemanager.go).
"""

from __future__ import annotations

import asyncio
import base64
import zlib
from dataclasses import dataclass

from pilothouse.apimachinery.clock import Clock
from pilothouse.apimachinery.errors import StatusError, is_not_found
from pilothouse.apimachinery.object import Obj
from pilothouse.apimachinery.timefmt import parse_time
from pilothouse.kubeclient.interfaces import Client
from pilothouse.kubeclient.resources import NODES, POD_CERTIFICATE_REQUESTS, SERVICE_ACCOUNTS
from pilothouse.kubelet.interfaces import MountError
from pilothouse.kubelet.volumes.trust_bundles import clean_chain

REFRESH_JITTER_SECONDS = 300
"""Refreshes of different pods spread over this time."""


@dataclass(slots=True)
class _Request:
    name: str
    key: bytes


@dataclass(slots=True)
class _Issued:
    key: bytes
    chain: bytes
    refresh_at: float


class PodCertificates:
    """``bundle(...)`` gives key and chain; ``forget`` what a pod had."""

    def __init__(self, client: Client, clock: Clock, node_name: str) -> None:
        self._client = client
        self._clock = clock
        self._node_name = node_name
        self._requests: dict[tuple[str, str, int], _Request] = {}
        self._issued: dict[tuple[str, str, int], _Issued] = {}
        self._refused: dict[tuple[str, str, int], str] = {}

    def forget(self, uid: str) -> None:
        for table in (self._requests, self._issued, self._refused):
            for key in [key for key in table if key[0] == uid]:
                del table[key]

    async def bundle(self, pod: Obj, volume: str, index: int, source: Obj) -> tuple[bytes, bytes]:
        """(private key, certificate chain) as PEM.

        :raises MountError: not issued yet, or refused.
        """
        key = (pod["metadata"]["uid"], volume, index)
        if key in self._refused:
            raise MountError(self._refused[key])
        issued = self._issued.get(key)
        if issued is None or self._clock.time() >= issued.refresh_at:
            await self._advance(key, pod, source)
            issued = self._issued.get(key)
        if key in self._refused:
            raise MountError(self._refused[key])
        if issued is None:
            raise MountError("credential bundle is not issued yet")
        return issued.key, issued.chain

    async def _advance(self, key: tuple[str, str, int], pod: Obj, source: Obj) -> None:
        """One step further: a request made, or its outcome noted."""
        request = self._requests.get(key)
        namespace = pod["metadata"].get("namespace") or ""
        try:
            if request is None:
                self._requests[key] = await self._ask(pod, source)
                return
            found = await self._client.get(POD_CERTIFICATE_REQUESTS, request.name, namespace)
        except StatusError as error:
            if request is not None and is_not_found(error):
                del self._requests[key]  # somebody deleted it; the next look makes another
            raise MountError(
                f"while requesting a certificate from {source['signerName']}: {error.message}"
            ) from error
        self._note(key, request, found)

    def _note(self, key: tuple[str, str, int], request: _Request, found: Obj) -> None:
        status = found.get("status") or {}
        for condition in status.get("conditions") or ():
            if condition["type"] == "Issued":
                jitter = zlib.crc32(request.name.encode()) % REFRESH_JITTER_SECONDS
                begin = parse_time(status["beginRefreshAt"]).timestamp()
                chain = clean_chain(status["certificateChain"])
                self._issued[key] = _Issued(request.key, chain, begin + jitter)
                self._requests.pop(key, None)
            elif condition["type"] in ("Denied", "Failed"):
                self._refused[key] = (
                    f"PodCertificateRequest was permanently {condition['type'].lower()}: "
                    f'reason="{condition.get("reason", "")}" '
                    f'message="{condition.get("message", "")}"'
                )

    async def _ask(self, pod: Obj, source: Obj) -> _Request:
        metadata = pod["metadata"]
        namespace = metadata.get("namespace") or ""
        account = pod["spec"].get("serviceAccountName") or "default"
        found = await self._client.get(SERVICE_ACCOUNTS, account, namespace)
        node = await self._client.get(NODES, self._node_name)
        key, proof = await asyncio.to_thread(key_and_proof, source.get("keyType") or "")
        spec: Obj = {
            "signerName": source["signerName"],
            "podName": metadata["name"],
            "podUID": metadata["uid"],
            "serviceAccountName": account,
            "serviceAccountUID": found["metadata"]["uid"],
            "nodeName": self._node_name,
            "nodeUID": node["metadata"]["uid"],
            "stubPKCS10Request": base64.b64encode(proof).decode(),
        }
        if source.get("maxExpirationSeconds") is not None:
            spec["maxExpirationSeconds"] = source["maxExpirationSeconds"]
        if source.get("userAnnotations"):
            spec["unverifiedUserAnnotations"] = dict(source["userAnnotations"])
        owner = {"apiVersion": "v1", "kind": "Pod", "name": metadata["name"],
                 "uid": metadata["uid"]}  # fmt: skip
        request = {
            "apiVersion": "certificates.k8s.io/v1",
            "kind": "PodCertificateRequest",
            "metadata": {
                "generateName": "req-", "namespace": namespace, "ownerReferences": [owner],
            },
            "spec": spec,
        }  # fmt: skip
        made = await self._client.create(POD_CERTIFICATE_REQUESTS, request, namespace)
        return _Request(made["metadata"]["name"], key)


def key_and_proof(key_type: str) -> tuple[bytes, bytes]:
    """A new private key (PEM) and an empty PKCS#10 request (DER) that proves its possession.

    :raises MountError: an unknown type.
    """
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

    key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey
    digest: hashes.SHA256 | hashes.SHA384 | hashes.SHA512 | None = hashes.SHA256()
    if key_type in ("RSA3072", "RSA4096"):
        key = rsa.generate_private_key(65537, int(key_type[3:]))
    elif key_type == "ECDSAP256":
        key = ec.generate_private_key(ec.SECP256R1())
    elif key_type == "ECDSAP384":
        key, digest = ec.generate_private_key(ec.SECP384R1()), hashes.SHA384()
    elif key_type == "ECDSAP521":
        key, digest = ec.generate_private_key(ec.SECP521R1()), hashes.SHA512()
    elif key_type == "ED25519":
        key, digest = ed25519.Ed25519PrivateKey.generate(), None
    else:
        raise MountError(f'unknown key type "{key_type}"')
    request = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(key, digest)
    pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    return pem, request.public_bytes(serialization.Encoding.DER)
