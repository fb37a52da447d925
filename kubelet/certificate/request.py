"""Asking the cluster for a certificate: key, PKCS#10 request, CertificateSigningRequest, the wait.

What is asked for is pure; :func:`request_certificate` does the talking (client-go's
util/certificate/csr).
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any

from pilothouse.apimachinery.errors import StatusError, is_already_exists
from pilothouse.kubeclient.interfaces import ListOptions
from pilothouse.kubeclient.resources import CERTIFICATE_SIGNING_REQUESTS

if TYPE_CHECKING:
    from pilothouse.apimachinery.clock import Clock
    from pilothouse.apimachinery.object import Obj
    from pilothouse.kubeclient.interfaces import Client

BOOTSTRAP_WAIT = 3600.0
CLIENT_SIGNER = "kubernetes.io/kube-apiserver-client-kubelet"
SERVING_SIGNER = "kubernetes.io/kubelet-serving"
NODES_GROUP = "system:nodes"
_WATCH_AGAIN = 1.0


class NotIssued(Exception):
    """The request was denied, or the signer can't sign it."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a certificate is to say. Serving certificates name the node's addresses."""

    node_name: str
    signer: str = CLIENT_SIGNER
    dns_names: tuple[str, ...] = ()
    ips: tuple[str, ...] = ()

    @property
    def usages(self) -> list[str]:
        return ["digital signature", "server auth" if self.signer == SERVING_SIGNER else _CLIENT]


_CLIENT = "client auth"


def addresses_of(addresses: Sequence[Obj]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """(DNS names, IPs) of ``status.addresses``, in a stable order."""
    names: set[str] = set()
    ips: set[str] = set()
    for each in addresses:
        text, kind = each.get("address") or "", each.get("type")
        is_ip = _is_ip(text)
        if is_ip and kind in ("Hostname", "InternalIP", "ExternalIP"):
            ips.add(text)
        elif text and kind in ("Hostname", "InternalDNS", "ExternalDNS"):
            names.add(text)
    return tuple(sorted(names)), tuple(sorted(ips))


def _is_ip(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


def new_key() -> bytes:
    """A P-256 key, PEM."""
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import (
        Encoding,
        NoEncryption,
        PrivateFormat,
    )

    key = ec.generate_private_key(ec.SECP256R1())
    return key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())


def make_request(wanted: Wanted, key: bytes) -> bytes:
    """The PKCS#10 request, PEM. :raises ValueError: no key."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key
    from cryptography.x509.oid import NameOID

    private: Any = load_pem_private_key(key, None)
    builder = x509.CertificateSigningRequestBuilder().subject_name(
        x509.Name(
            [
                x509.NameAttribute(NameOID.ORGANIZATION_NAME, NODES_GROUP),
                x509.NameAttribute(NameOID.COMMON_NAME, f"system:node:{wanted.node_name}"),
            ]
        )
    )
    names: list[x509.GeneralName] = [x509.DNSName(name) for name in wanted.dns_names]
    names += [x509.IPAddress(ip_address(ip)) for ip in wanted.ips]
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return builder.sign(private, hashes.SHA256()).public_bytes(Encoding.PEM)


def request_name(wanted: Wanted, key: bytes) -> str:
    """The same for the same key, so that a kubelet that starts again takes up its request."""
    from cryptography.hazmat.primitives.serialization import (
        Encoding,
        PublicFormat,
        load_pem_private_key,
    )

    public = load_pem_private_key(key, None).public_key()
    digest = hashlib.sha256(public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))
    digest.update("|".join(("", wanted.node_name, NODES_GROUP, *wanted.usages)).encode())
    return f"node-csr-{base64.urlsafe_b64encode(digest.digest()).decode().rstrip('=')}"


async def request_certificate(
    client: Client,
    clock: Clock,
    wanted: Wanted,
    key: bytes,
    *,
    name: str = "",
    patience: float = BOOTSTRAP_WAIT,
) -> bytes:
    """The certificate, PEM, once somebody has approved it. ``name``: take up a request that is
    there already.

    :raises NotIssued: denied, or failed. :raises TimeoutError: nobody has decided.
    :raises StatusError, ConnectionError: it can't be asked for.
    """
    metadata = {"name": name} if name else {"generateName": "csr-"}
    body = {
        "metadata": metadata,
        "spec": {
            "request": base64.b64encode(make_request(wanted, key)).decode(),
            "signerName": wanted.signer,
            "usages": wanted.usages,
        },
    }
    try:
        made = await client.create(CERTIFICATE_SIGNING_REQUESTS, body)
    except StatusError as error:
        if not name or not is_already_exists(error):
            raise
        made = await client.get(CERTIFICATE_SIGNING_REQUESTS, name)
    return await _wait(client, clock, made, clock.monotonic() + patience)


async def _wait(client: Client, clock: Clock, request: Obj, until: float) -> bytes:
    name: str = request["metadata"]["name"]
    while True:
        issued = issued_in(request)
        if issued is not None:
            return issued
        left = until - clock.monotonic()
        if left <= 0:
            raise TimeoutError(f"nobody has approved certificate signing request {name}")
        try:
            await _watch(client, request, int(left) + 1)
        except (StatusError, ConnectionError, TimeoutError):
            await clock.sleep(_WATCH_AGAIN)
        request = await client.get(CERTIFICATE_SIGNING_REQUESTS, name)


async def _watch(client: Client, request: Obj, seconds: int) -> None:
    """Returns when something has happened to the request, or the server ends the watch.

    :raises NotIssued: it is gone.
    """
    name = request["metadata"]["name"]
    options = ListOptions(
        field_selector=f"metadata.name={name}",
        resource_version=request["metadata"].get("resourceVersion", ""),
    )
    watch = await client.watch(
        CERTIFICATE_SIGNING_REQUESTS, options=options, timeout_seconds=seconds
    )
    try:
        async for events in watch:
            for event in events:
                if event.type == "DELETED":
                    raise NotIssued(f"certificate signing request {name} was deleted")
                if event.type != "BOOKMARK":
                    return
    finally:
        await watch.close()


def issued_in(request: Obj) -> bytes | None:
    """The certificate, if there is one already. :raises NotIssued: there won't be."""
    status = request.get("status") or {}
    name = request["metadata"]["name"]
    for condition in status.get("conditions") or ():
        if condition.get("type") in ("Denied", "Failed"):
            outcome = condition["type"].lower()
            raise NotIssued(
                f"certificate signing request {name} is {outcome}, reason: "
                f"{condition.get('reason') or ''}, message: {condition.get('message') or ''}"
            )
    certificate = status.get("certificate")
    return base64.b64decode(certificate) if certificate else None
