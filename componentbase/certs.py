"""Certificates and keys of a cluster: ECDSA P-256, X.509 v3, PEM files of mode 0600.

:func:`ensure_cluster_pki` makes what is missing under one directory and renews what is about to
expire; when all is there and fresh, ``cryptography`` (45 ms) is never imported. Clusters inside
one process that serve no TLS need none of this.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pilothouse.componentbase.der import CertificateFields, pem_blocks, read_certificate

if TYPE_CHECKING:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric import ec, rsa

    PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey

CA_DAYS = 3650
LEAF_DAYS = 365
RENEW_BEFORE = timedelta(days=30)
_BACKDATE = timedelta(minutes=5)


@dataclass(frozen=True, slots=True)
class KeyPair:
    """A certificate and its private key, both PEM."""

    cert: bytes
    key: bytes = field(repr=False)

    def fields(self) -> CertificateFields:
        return read_certificate(pem_blocks(self.cert)[0])


def make_ca(common_name: str, *, now: datetime, days: int = CA_DAYS) -> KeyPair:
    """A self-signed authority that may sign leaf certificates."""
    from cryptography import x509

    key, builder = _builder(common_name, (), now, days)
    public = key.public_key()
    identifier = x509.SubjectKeyIdentifier.from_public_key(public)
    builder = (
        builder.issuer_name(_subject(common_name, ()))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(_key_usage(ca=True), critical=True)
        .add_extension(identifier, critical=False)
    )
    return _finish(builder, key, key)


def make_serving_cert(
    ca: KeyPair,
    common_name: str,
    *,
    now: datetime,
    names: Iterable[str] = (),
    ips: Iterable[str] = (),
    organizations: Iterable[str] = (),
    days: int = LEAF_DAYS,
) -> KeyPair:
    """For a TLS server that is reached by these DNS names and addresses."""
    from cryptography import x509
    from cryptography.x509.oid import ExtendedKeyUsageOID

    alternatives: list[x509.GeneralName] = [x509.DNSName(name) for name in names]
    alternatives += [x509.IPAddress(ip_address(ip)) for ip in ips]
    return _leaf(
        ca, common_name, organizations, now, days, ExtendedKeyUsageOID.SERVER_AUTH, alternatives
    )


def make_client_cert(
    ca: KeyPair,
    common_name: str,
    organizations: Iterable[str] = (),
    *,
    now: datetime,
    days: int = LEAF_DAYS,
    rsa: bool = False,
) -> KeyPair:
    """``common_name`` is the user, ``organizations`` are its groups. An ``rsa`` key takes 70 ms
    to make; Java clients take others only with BouncyCastle beside them."""
    from cryptography.x509.oid import ExtendedKeyUsageOID

    return _leaf(
        ca, common_name, organizations, now, days, ExtendedKeyUsageOID.CLIENT_AUTH, [], rsa=rsa
    )


def make_private_key() -> bytes:
    """A new P-256 key, PEM (for service-account tokens)."""
    return _key_pem(_private_key(rsa=False))


def _subject(common_name: str, organizations: Iterable[str]) -> x509.Name:
    from cryptography import x509
    from cryptography.x509.oid import NameOID

    attributes = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, o) for o in organizations]
    attributes.append(x509.NameAttribute(NameOID.COMMON_NAME, common_name))
    return x509.Name(attributes)


def _builder(
    common_name: str, organizations: Iterable[str], now: datetime, days: int, rsa: bool = False
) -> tuple[PrivateKey, x509.CertificateBuilder]:
    from cryptography import x509

    key = _private_key(rsa)
    builder = (
        x509.CertificateBuilder()
        .subject_name(_subject(common_name, organizations))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _BACKDATE)
        .not_valid_after(now + timedelta(days=days))
    )
    return key, builder


def _key_usage(*, ca: bool) -> x509.KeyUsage:
    from cryptography import x509

    return x509.KeyUsage(
        digital_signature=True,
        key_encipherment=ca,
        key_cert_sign=ca,
        crl_sign=False,
        content_commitment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _leaf(
    ca: KeyPair,
    common_name: str,
    organizations: Iterable[str],
    now: datetime,
    days: int,
    usage: x509.ObjectIdentifier,
    alternatives: list[x509.GeneralName],
    *,
    rsa: bool = False,
) -> KeyPair:
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    authority = x509.load_pem_x509_certificate(ca.cert)
    authority_key = load_pem_private_key(ca.key, None)
    key, builder = _builder(common_name, organizations, now, days, rsa)
    identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.public_key())  # type: ignore[arg-type]
    builder = (
        builder.issuer_name(authority.subject)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(ca=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
        .add_extension(identifier, critical=False)
    )
    if alternatives:
        builder = builder.add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
    return _finish(builder, key, authority_key)


def _finish(builder: x509.CertificateBuilder, key: PrivateKey, signer: Any) -> KeyPair:
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.serialization import Encoding

    certificate = builder.sign(signer, hashes.SHA256())
    return KeyPair(certificate.public_bytes(Encoding.PEM), _key_pem(key))


def _private_key(rsa: bool) -> PrivateKey:
    if rsa:
        from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key

        return generate_private_key(65537, 2048)
    from cryptography.hazmat.primitives.asymmetric import ec

    return ec.generate_private_key(ec.SECP256R1())


def _key_pem(key: PrivateKey) -> bytes:
    """``EC PRIVATE KEY`` or ``RSA PRIVATE KEY``, as client-go's keyutil writes them: clients that
    look at the first line know what it is."""
    from cryptography.hazmat.primitives.serialization import (
        Encoding,
        NoEncryption,
        PrivateFormat,
    )

    return key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())


def public_key_pem(private_key: bytes) -> bytes:
    from cryptography.hazmat.primitives.serialization import (
        Encoding,
        PublicFormat,
        load_pem_private_key,
    )

    key = load_pem_private_key(private_key, None).public_key()
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def save_pem(path: Path, data: bytes) -> None:
    """Atomically, readable by the owner only."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def save_pair(directory: Path, name: str, pair: KeyPair) -> None:
    # The key first: a certificate without its key would look complete after a crash.
    save_pem(directory / f"{name}.key", pair.key)
    save_pem(directory / f"{name}.crt", pair.cert)


def load_pair(directory: Path, name: str) -> KeyPair | None:
    """None when a file is missing."""
    try:
        key = (directory / f"{name}.key").read_bytes()
        return KeyPair((directory / f"{name}.crt").read_bytes(), key)
    except FileNotFoundError:
        return None


class ClusterPKI:
    """The files of one cluster. Each is made when first asked for and renewed when it is due.

    Names follow kubeadm (``ca``, ``apiserver``, ``apiserver-kubelet-client``, ``front-proxy-ca``,
    ``front-proxy-client``, ``sa``), plus one client certificate a component and node.
    """

    CLIENTS: dict[str, tuple[str, tuple[str, ...]]] = {
        "admin": ("kubernetes-admin", ("system:masters",)),
        "controller-manager": ("system:kube-controller-manager", ()),
        "scheduler": ("system:kube-scheduler", ()),
        "proxy": ("system:kube-proxy", ("system:node-proxier",)),
        "apiserver-kubelet-client": ("kube-apiserver-kubelet-client", ("system:masters",)),
    }

    def __init__(self, directory: Path, now: datetime) -> None:
        self.directory = Path(directory)
        self._now = now
        self._pairs: dict[str, KeyPair] = {}

    def crt(self, name: str) -> Path:
        return self.directory / f"{name}.crt"

    def key(self, name: str) -> Path:
        return self.directory / f"{name}.key"

    @property
    def sa_key(self) -> Path:
        return self.directory / "sa.key"

    @property
    def sa_pub(self) -> Path:
        return self.directory / "sa.pub"

    def _fresh(self, name: str, signer: KeyPair | None) -> KeyPair | None:
        pair = self._pairs.get(name) or load_pair(self.directory, name)
        if pair is None:
            return None
        fields = pair.fields()
        if fields.not_after - self._now < RENEW_BEFORE:
            return None
        if signer is not None and fields.issuer_der != signer.fields().subject_der:
            return None
        self._pairs[name] = pair
        return pair

    def _keep(self, name: str, pair: KeyPair) -> KeyPair:
        save_pair(self.directory, name, pair)
        self._pairs[name] = pair
        return pair

    def ca(self, name: str = "ca", common_name: str = "kubernetes") -> KeyPair:
        """The authority; a renewed one has a new subject, so that its leaves are renewed too."""
        fresh = self._fresh(name, None)
        if fresh is None:
            renewed = self.crt(name).exists()
            unique = f"{common_name}-{self._now:%Y%m%d}" if renewed else common_name
            fresh = self._keep(name, make_ca(unique, now=self._now))
        return fresh

    def front_proxy_ca(self) -> KeyPair:
        return self.ca("front-proxy-ca", "front-proxy-ca")

    def client(self, name: str, *, rsa: bool = False) -> KeyPair:
        """One of :attr:`CLIENTS`; ``rsa`` counts when it has to be made."""
        common_name, organizations = self.CLIENTS[name]
        return self._client(name, self.ca(), common_name, organizations, rsa=rsa)

    def front_proxy_client(self) -> KeyPair:
        return self._client("front-proxy-client", self.front_proxy_ca(), "front-proxy-client", ())

    def node_client(self, node: str) -> KeyPair:
        """``kubelet-client-<node>``."""
        return self._client(
            f"kubelet-client-{node}", self.ca(), f"system:node:{node}", ("system:nodes",)
        )

    def _client(
        self,
        name: str,
        ca: KeyPair,
        common_name: str,
        organizations: Sequence[str],
        *,
        rsa: bool = False,
    ) -> KeyPair:
        fresh = self._fresh(name, ca)
        if fresh is None:
            made = make_client_cert(ca, common_name, organizations, now=self._now, rsa=rsa)
            fresh = self._keep(name, made)
        return fresh

    def serving(
        self,
        name: str,
        common_name: str,
        *,
        names: Sequence[str] = (),
        ips: Sequence[str] = (),
        organizations: Sequence[str] = (),
    ) -> KeyPair:
        """Made anew also when it lacks one of the names or addresses."""
        ca = self.ca()
        fresh = self._fresh(name, ca)
        if fresh is not None:
            fields = fresh.fields()
            wanted_ips = {str(ip_address(ip)) for ip in ips}
            if set(names) <= set(fields.dns_names) and wanted_ips <= set(fields.ip_addresses):
                return fresh
        made = make_serving_cert(
            ca, common_name, names=names, ips=ips, organizations=organizations, now=self._now
        )
        return self._keep(name, made)

    def apiserver(self, names: Sequence[str] = (), ips: Sequence[str] = ()) -> KeyPair:
        """``names`` and ``ips`` come on top of the `kubernetes` Service's names and loopback."""
        all_names = ["localhost", *API_SERVER_NAMES, *names]
        all_ips = ["127.0.0.1", "::1", *ips]
        return self.serving(
            "apiserver",
            "kube-apiserver",
            names=list(dict.fromkeys(all_names)),
            ips=list(dict.fromkeys(all_ips)),
        )

    def kubelet(self, node: str, ips: Sequence[str] = ()) -> KeyPair:
        """``kubelet-<node>``: what the kubelet's HTTPS port shows."""
        return self.serving(
            f"kubelet-{node}",
            f"system:node:{node}",
            names=[node],
            ips=list(ips),
            organizations=["system:nodes"],
        )

    def service_account_key(self) -> bytes:
        """The private key that signs tokens; never renewed (tokens would be void)."""
        try:
            return self.sa_key.read_bytes()
        except FileNotFoundError:
            key = make_private_key()
            save_pem(self.sa_pub, public_key_pem(key))
            save_pem(self.sa_key, key)
            return key


API_SERVER_NAMES = (
    "kubernetes",
    "kubernetes.default",
    "kubernetes.default.svc",
    "kubernetes.default.svc.cluster.local",
)


def ensure_cluster_pki(
    directory: Path,
    *,
    now: datetime,
    names: Sequence[str] = (),
    ips: Sequence[str] = (),
    nodes: dict[str, Sequence[str]] | None = None,
) -> ClusterPKI:
    """Makes or renews every file of a cluster. ``nodes`` maps node names to addresses."""
    pki = ClusterPKI(directory, now)
    pki.ca()
    pki.apiserver(names, ips)
    pki.front_proxy_ca()
    pki.front_proxy_client()
    for client in ClusterPKI.CLIENTS:
        pki.client(client)
    for node, addresses in (nodes or {}).items():
        pki.kubelet(node, addresses)
        pki.node_client(node)
    pki.service_account_key()
    return pki


def kubeconfig(
    cluster: str, server: str, *, ca: bytes, user: str, client: KeyPair | None, token: str = ""
) -> dict[str, Any]:
    """A kubeconfig with one cluster, user and context, all credentials inline."""
    credentials: dict[str, str] = {"token": token} if token else {}
    if client is not None:
        credentials["client-certificate-data"] = base64.b64encode(client.cert).decode()
        credentials["client-key-data"] = base64.b64encode(client.key).decode()
    ca_data = base64.b64encode(ca).decode()
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [
            {
                "name": cluster,
                "cluster": {"server": server, "certificate-authority-data": ca_data},
            }
        ],
        "users": [{"name": user, "user": credentials}],
        "contexts": [{"name": cluster, "context": {"cluster": cluster, "user": user}}],
        "current-context": cluster,
    }
