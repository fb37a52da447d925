"""The PKI of a cluster: what is made, when it is made anew, and that TLS accepts it."""

from __future__ import annotations

import ssl
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509

from pilothouse.componentbase.certs import (
    ClusterPKI,
    KeyPair,
    ensure_cluster_pki,
    kubeconfig,
    load_pair,
    make_ca,
    make_client_cert,
    make_serving_cert,
    public_key_pem,
    save_pem,
)
from pilothouse.componentbase.der import ORGANIZATION, pem_blocks, read_certificate

NOW = datetime.now(UTC).replace(microsecond=0)


def test_der_reader_agrees_with_cryptography() -> None:
    ca = make_ca("kubernetes", now=NOW)
    pair = make_serving_cert(
        ca, "späti", now=NOW, names=["a", "b.c"], ips=["10.0.0.1", "::1"], organizations=["x", "y"]
    )
    fields = pair.fields()
    parsed = x509.load_pem_x509_certificate(pair.cert)
    assert fields.common_name == "späti"
    assert fields.values(ORGANIZATION) == ("x", "y")
    assert fields.dns_names == ("a", "b.c")
    assert fields.ip_addresses == ("10.0.0.1", "::1")
    assert fields.not_after == parsed.not_valid_after_utc
    assert fields.not_before == parsed.not_valid_before_utc
    assert fields.issuer_der == parsed.issuer.public_bytes() == ca.fields().subject_der
    assert parsed.version is x509.Version.v3


@pytest.mark.parametrize("data", [b"", b"\x30", b"\x30\x82\xff\xff", b"hello world", b"0" * 50])
def test_der_reader_refuses_rubbish(data: bytes) -> None:
    with pytest.raises(ValueError, match="not a certificate"):
        read_certificate(data)


def test_tls_handshake(tmp_path: Path) -> None:
    ca = make_ca("kubernetes", now=NOW)
    serving = make_serving_cert(ca, "server", now=NOW, names=["localhost"], ips=["127.0.0.1"])
    client = make_client_cert(ca, "alice", ["dev"], now=NOW)
    assert handshake(tmp_path, ca, serving, client) == pem_blocks(client.cert)[0]
    other = make_client_cert(make_ca("other", now=NOW), "alice", now=NOW)
    with pytest.raises(ssl.SSLError):
        handshake(tmp_path, ca, serving, other)
    with pytest.raises(ssl.SSLError):
        handshake(tmp_path, ca, serving, serving)


def handshake(directory: Path, ca: KeyPair, serving: KeyPair, client: KeyPair) -> bytes | None:
    """The client certificate that the server saw."""

    def context(purpose: ssl.Purpose, pair: KeyPair) -> ssl.SSLContext:
        made = ssl.create_default_context(purpose, cadata=ca.cert.decode())
        (directory / "pair.pem").write_bytes(pair.key + pair.cert)
        made.load_cert_chain(directory / "pair.pem")
        return made

    server_context = context(ssl.Purpose.CLIENT_AUTH, serving)
    server_context.verify_mode = ssl.CERT_REQUIRED
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    server = server_context.wrap_bio(to_server, to_client, server_side=True)
    peer = context(ssl.Purpose.SERVER_AUTH, client).wrap_bio(
        to_client, to_server, server_hostname="localhost"
    )
    for _ in range(4):
        for side in (peer, server):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                pass
    return server.getpeercert(binary_form=True)


def test_all_files_of_a_cluster(tmp_path: Path) -> None:
    pki = ensure_cluster_pki(
        tmp_path / "pki", now=NOW, ips=["10.96.0.1"], nodes={"n1": ["10.0.0.2"]}
    )
    names = sorted(path.name for path in pki.directory.iterdir())
    pairs = [
        *("admin", "apiserver", "apiserver-kubelet-client", "ca", "controller-manager"),
        *("front-proxy-ca", "front-proxy-client", "kubelet-client-n1", "kubelet-n1", "proxy"),
        "scheduler",
    ]
    expected = [f"{name}.{end}" for name in pairs for end in ("crt", "key")]
    assert names == sorted([*expected, "sa.key", "sa.pub"])
    assert {path.stat().st_mode & 0o777 for path in pki.directory.iterdir()} == {0o600}
    fields = pki.node_client("n1").fields()
    assert (fields.common_name, fields.values(ORGANIZATION)) == (
        "system:node:n1",
        ("system:nodes",),
    )
    assert "10.96.0.1" in pki.apiserver(ips=["10.96.0.1"]).fields().ip_addresses


def contents(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def test_second_run_changes_nothing(tmp_path: Path) -> None:
    ensure_cluster_pki(tmp_path, now=NOW, nodes={"n1": []})
    before = contents(tmp_path)
    ensure_cluster_pki(tmp_path, now=NOW + timedelta(days=300), nodes={"n1": []})
    assert contents(tmp_path) == before


def test_second_run_needs_no_crypto_library(tmp_path: Path) -> None:
    ensure_cluster_pki(tmp_path, now=NOW, nodes={"n1": []})
    script = (
        "import sys, pathlib, datetime\n"
        "from pilothouse.componentbase.certs import ensure_cluster_pki\n"
        "now = datetime.datetime.now(datetime.UTC)\n"
        f"ensure_cluster_pki(pathlib.Path({str(tmp_path)!r}), now=now, nodes={{'n1': []}})\n"
        "sys.exit('cryptography' in sys.modules)\n"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


def test_renews_leaves_before_they_expire(tmp_path: Path) -> None:
    ensure_cluster_pki(tmp_path, now=NOW)
    before = contents(tmp_path)
    ensure_cluster_pki(tmp_path, now=NOW + timedelta(days=340))
    after = contents(tmp_path)
    assert after["admin.crt"] != before["admin.crt"]
    assert after["ca.crt"] == before["ca.crt"]
    assert after["sa.key"] == before["sa.key"]


def test_new_authority_means_new_leaves(tmp_path: Path) -> None:
    ensure_cluster_pki(tmp_path, now=NOW)
    later = NOW + timedelta(days=3640)
    pki = ensure_cluster_pki(tmp_path, now=later)
    assert pki.ca().fields().not_after > later + timedelta(days=3000)
    admin = load_pair(tmp_path, "admin")
    assert admin and admin.fields().issuer_der == pki.ca().fields().subject_der


def test_serving_certificate_follows_addresses(tmp_path: Path) -> None:
    pki = ensure_cluster_pki(tmp_path, now=NOW, ips=["10.0.0.1"])
    first = pki.apiserver(ips=["10.0.0.1"])
    assert pki.apiserver() == first
    second = pki.apiserver(ips=["10.0.0.9"])
    assert second != first and "10.0.0.9" in second.fields().ip_addresses


def test_kubeconfig_carries_everything() -> None:
    ca = make_ca("kubernetes", now=NOW)
    client = make_client_cert(ca, "kubernetes-admin", ["system:masters"], now=NOW)
    config = kubeconfig("ph", "https://127.0.0.1:6443", ca=ca.cert, user="ph", client=client)
    assert config["current-context"] == config["contexts"][0]["name"] == "ph"
    assert set(config["users"][0]["user"]) == {"client-certificate-data", "client-key-data"}


def test_save_replaces_and_keeps_mode(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "x.key"
    save_pem(path, b"one")
    path.chmod(0o644)
    save_pem(path, b"two")
    assert path.read_bytes() == b"two"
    assert path.stat().st_mode & 0o777 == 0o600
    assert [p.name for p in path.parent.iterdir()] == ["x.key"]


@pytest.mark.parametrize(("rsa", "kind"), [(False, b"EC"), (True, b"RSA")])
def test_a_clients_key_says_what_it_is(tmp_path: Path, rsa: bool, kind: bytes) -> None:
    pair = ClusterPKI(tmp_path, NOW).client("admin", rsa=rsa)
    assert pair.key.startswith(b"-----BEGIN %b PRIVATE KEY-----" % kind)
    again = ClusterPKI(tmp_path, NOW).client("admin", rsa=not rsa)
    assert again == pair, "what is there stays"
    assert b"BEGIN PUBLIC KEY" in public_key_pem(pair.key)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_cert_chain(tmp_path / "admin.crt", tmp_path / "admin.key")
