"""Certificates that must not be believed, shown to a server that lets handshakes go on."""

from __future__ import annotations

import ssl
import weakref
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from pilothouse.apimachinery.clock import RealClock
from pilothouse.componentbase.certs import (
    KeyPair,
    make_ca,
    make_client_cert,
    make_serving_cert,
    save_pair,
)
from pilothouse.componentbase.der import pem_blocks
from pilothouse.componentbase.serving import peer_verification
from pilothouse.componentbase.serving.peer_verification import UNVERIFIED, peer_certificate
from pilothouse.componentbase.serving.tls import server_context

VERSIONS = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]


class Lab:
    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.now: datetime = RealClock().now()
        self.ca = make_ca("clients", now=self.now)
        (directory / "ca.crt").write_bytes(self.ca.cert)
        pair = make_serving_cert(self.ca, "server", names=["localhost"], now=self.now)
        save_pair(directory, "server", pair)

    def server(self, *, require_client: bool = False) -> ssl.SSLContext:
        path = self.directory
        return server_context(
            str(path / "server.crt"),
            str(path / "server.key"),
            str(path / "ca.crt"),
            require_client=require_client,
        )

    def client(self, pair: KeyPair | None, version: ssl.TLSVersion) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=str(self.directory / "ca.crt"))
        context.maximum_version = version
        if pair is not None:
            save_pair(self.directory, "client", pair)
            context.load_cert_chain(self.directory / "client.crt", self.directory / "client.key")
        return context


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return Lab(tmp_path)


def shake(
    server: ssl.SSLContext, client: ssl.SSLContext, session: ssl.SSLSession | None = None
) -> tuple[ssl.SSLObject, ssl.SSLObject]:
    """Both ends of a connection after the handshake and a byte each way."""
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    far = client.wrap_bio(down, up, server_hostname="localhost", session=session)
    near = server.wrap_bio(up, down, server_side=True)
    waiting: list[Callable[[], object]] = [far.do_handshake, near.do_handshake]
    while waiting:
        for step in list(waiting):
            try:
                step()
            except ssl.SSLWantReadError:
                continue
            waiting.remove(step)
    near.write(b"x")
    assert far.read(1) == b"x"  # and with it a ticket
    return near, far


def der(pair: KeyPair) -> bytes:
    return pem_blocks(pair.cert)[0]


@pytest.mark.parametrize("version", VERSIONS)
def test_a_good_certificate(lab: Lab, version: ssl.TLSVersion) -> None:
    pair = make_client_cert(lab.ca, "ann", now=lab.now)
    near, _ = shake(lab.server(), lab.client(pair, version))
    assert peer_certificate(near) == der(pair)


@pytest.mark.parametrize("version", VERSIONS)
def test_no_certificate(lab: Lab, version: ssl.TLSVersion) -> None:
    near, _ = shake(lab.server(), lab.client(None, version))
    assert peer_certificate(near) is None


BAD = {
    "another authority": lambda lab: make_client_cert(
        make_ca("others", now=lab.now), "ann", now=lab.now
    ),
    "an authority that only has the name": lambda lab: make_client_cert(
        make_ca("clients", now=lab.now), "ann", now=lab.now
    ),
    "expired": lambda lab: make_client_cert(lab.ca, "ann", now=lab.now - timedelta(days=9), days=2),
    "not yet": lambda lab: make_client_cert(lab.ca, "ann", now=lab.now + timedelta(days=9)),
    "for servers": lambda lab: make_serving_cert(lab.ca, "ann", now=lab.now),
    "signed by no authority": lambda lab: make_client_cert(
        KeyPair(
            (pair := make_client_cert(lab.ca, "bob", now=lab.now)).cert,
            pair.key,
        ),
        "ann",
        now=lab.now,
    ),
    "self-signed": lambda lab: make_ca("ann", now=lab.now),
}


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", BAD)
def test_a_bad_certificate_passes_and_is_not_believed(
    lab: Lab, name: str, version: ssl.TLSVersion
) -> None:
    pair = BAD[name](lab)
    near, far = shake(lab.server(), lab.client(pair, version))
    assert near.getpeercert(binary_form=True) == der(pair)
    assert peer_certificate(near) == UNVERIFIED
    assert far.version() == ("TLSv1.3" if version is ssl.TLSVersion.TLSv1_3 else "TLSv1.2")


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("good", [True, False])
def test_a_resumed_session_is_believed_as_much_as_the_first(
    lab: Lab, version: ssl.TLSVersion, good: bool
) -> None:
    ca = lab.ca if good else make_ca("others", now=lab.now)
    pair = make_client_cert(ca, "ann", now=lab.now)
    server, client = lab.server(), lab.client(pair, version)
    _, far = shake(server, client)
    near, far = shake(server, client, far.session)
    assert far.session_reused
    assert peer_certificate(near) == (der(pair) if good else UNVERIFIED)


def test_required_certificates_are_refused_in_the_handshake(lab: Lab) -> None:
    pair = make_client_cert(make_ca("others", now=lab.now), "ann", now=lab.now)
    with pytest.raises(ssl.SSLError):
        shake(lab.server(require_client=True), lab.client(pair, ssl.TLSVersion.TLSv1_2))


def test_where_it_cannot_be_done_handshakes_are_strict(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(peer_verification, "_openssl", lambda: None)
    bad = make_client_cert(make_ca("others", now=lab.now), "ann", now=lab.now)
    server = lab.server()
    with pytest.raises(ssl.SSLError):
        shake(server, lab.client(bad, ssl.TLSVersion.TLSv1_2))
    good = make_client_cert(lab.ca, "ann", now=lab.now)
    near, _ = shake(server, lab.client(good, ssl.TLSVersion.TLSv1_3))
    assert peer_certificate(near) == der(good)


def test_without_an_answer_nobody_is_believed(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    good = make_client_cert(lab.ca, "ann", now=lab.now)
    near, _ = shake(lab.server(), lab.client(good, ssl.TLSVersion.TLSv1_3))
    monkeypatch.setattr(peer_verification, "_connection", lambda openssl, tls: 0)
    assert peer_certificate(near) == UNVERIFIED


def test_an_intermediate_authority_may_be_trusted_alone(lab: Lab) -> None:
    """As in Go, whatever the file holds is an anchor."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key

    root, middle = make_ca("root", now=lab.now), make_ca("middle", now=lab.now)
    own = x509.load_pem_x509_certificate(middle.cert)
    builder = (
        x509.CertificateBuilder()
        .subject_name(own.subject)
        .issuer_name(x509.load_pem_x509_certificate(root.cert).subject)
        .public_key(own.public_key())
        .serial_number(7)
        .not_valid_before(own.not_valid_before_utc)
        .not_valid_after(own.not_valid_after_utc)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    )
    signed = builder.sign(load_pem_private_key(root.key, None), hashes.SHA256())  # type: ignore[arg-type]
    (lab.directory / "middle.crt").write_bytes(signed.public_bytes(Encoding.PEM))
    server = server_context(
        str(lab.directory / "server.crt"),
        str(lab.directory / "server.key"),
        str(lab.directory / "middle.crt"),
    )
    pair = make_client_cert(middle, "ann", now=lab.now)
    near, _ = shake(server, lab.client(pair, ssl.TLSVersion.TLSv1_3))
    assert peer_certificate(near) == der(pair)


def test_threads_that_start_servers_at_once_disturb_nobody(lab: Lab) -> None:
    """Each may have made a callback of its own; the cache holds one of them."""
    server = lab.server()
    openssl = peer_verification._openssl()
    assert openssl is not None
    called = weakref.ref(openssl.accept)
    del openssl
    peer_verification._openssl.cache_clear()
    lab.server()
    assert called() is not None
    bad = make_client_cert(make_ca("others", now=lab.now), "ann", now=lab.now)
    near, _ = shake(server, lab.client(bad, ssl.TLSVersion.TLSv1_3))
    assert peer_certificate(near) == UNVERIFIED
