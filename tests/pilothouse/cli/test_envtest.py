"""The programs that envtest starts: as Go tests start them, and what their flags mean."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from pilothouse.cli import CommandError, envtest_apiserver, envtest_assets, envtest_etcd, main
from pilothouse.componentbase import certs


def free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        port: int = listening.getsockname()[1]
        return port


class Programs:
    """Starts the launchers of a folder; ends them all."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.running: list[subprocess.Popen[bytes]] = []

    def start(self, name: str, *flags: str) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            [str(self.directory / name), *flags],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd=self.directory,
        )
        self.running.append(process)
        return process

    def end(self, process: subprocess.Popen[bytes]) -> int:
        process.send_signal(signal.SIGTERM)
        self.running.remove(process)
        return process.wait(20)

    def end_all(self) -> None:
        for process in reversed(list(self.running)):
            process.kill()
            process.wait(20)


@pytest.fixture
def programs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Iterator[Programs]:
    folder = tmp_path / "assets"
    assert main(["envtest-assets", "--dir", str(folder)]) == 0
    assert capsys.readouterr().out == f"{folder}\n"
    # envtest's own tests have files beside them that must not be imported.
    (folder / "json.py").write_text("raise SystemExit(9)")
    found = Programs(folder)
    yield found
    found.end_all()


def answer(connection: http.client.HTTPConnection, path: str, body: Any = None) -> tuple[int, Any]:
    """(status, body), tried until somebody listens."""
    for _ in range(400):
        try:
            text = None if body is None else json.dumps(body)
            headers = {"Content-Type": "application/json", "Connection": "close"}
            connection.request("GET" if body is None else "POST", path, text, headers)
            response = connection.getresponse()
            return response.status, response.read()
        except OSError:
            connection.close()
            time.sleep(0.05)
    raise AssertionError(f"nobody answers {path}")


def credentials(folder: Path) -> ssl.SSLContext:
    """The files that envtest puts into --cert-dir, and an administrator's context."""
    now = datetime.now(UTC)
    ca = certs.make_ca("clients", now=now)
    certs.save_pem(folder / "client-cert-auth-ca.crt", ca.cert)
    key = certs.make_private_key()
    certs.save_pem(folder / "sa-signer.key", key)
    certs.save_pem(folder / "sa-signer.crt", certs.public_key_pem(key))
    certs.save_pair(folder, "admin", certs.make_client_cert(ca, "a", ["system:masters"], now=now))
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.load_cert_chain(folder / "admin.crt", folder / "admin.key")
    return context


def apiserver_flags(folder: Path, etcd: str, port: int) -> list[str]:
    """Those of controller-runtime v0.25."""
    return [
        "--allow-privileged=true",
        "--authorization-mode=RBAC",
        "--bind-address=127.0.0.1",
        f"--cert-dir={folder}",
        f"--client-ca-file={folder}/client-cert-auth-ca.crt",
        "--disable-admission-plugins=ServiceAccount",
        f"--etcd-servers={etcd}",
        f"--secure-port={port}",
        f"--service-account-issuer=https://127.0.0.1:{port}/",
        f"--service-account-key-file={folder}/sa-signer.crt",
        f"--service-account-signing-key-file={folder}/sa-signer.key",
        "--service-cluster-ip-range=10.0.0.0/24",
    ]


def test_data_outlives_the_api_server_as_long_as_etcd_runs(
    programs: Programs, tmp_path: Path
) -> None:
    port, etcd_port, folder = free_port(), free_port(), tmp_path / "certs"
    url = f"http://127.0.0.1:{etcd_port}"
    etcd = programs.start(
        "etcd",
        f"--data-dir={tmp_path / 'data'}",
        f"--advertise-client-urls={url}",
        f"--listen-client-urls={url}",
        "--listen-peer-urls=http://127.0.0.1:0",
        "--unsafe-no-fsync=true",
    )
    plain = http.client.HTTPConnection("127.0.0.1", etcd_port)
    assert answer(plain, "/health") == (200, b'{"health": "true", "reason": ""}')
    assert answer(plain, "/v3/kv/range")[0] == 404
    context = credentials(folder)
    secure = http.client.HTTPSConnection("127.0.0.1", port, context=context)
    flags = apiserver_flags(folder, url, port)
    namespace = {"metadata": {"name": "kept"}}
    for path, body, code in (
        ("/api/v1/namespaces", namespace, 201),
        ("/api/v1/namespaces/kept", None, 200),
    ):
        server = programs.start("kube-apiserver", *flags)
        assert answer(secure, "/healthz")[0] in (200, 500)
        assert answer(secure, path, body)[0] == code
        secure.close()
        assert programs.end(server) == 0
    assert programs.end(etcd) == 0
    assert (tmp_path / "data" / "pilothouse" / "registry" / "state.db").exists()


def test_unknown_flags_and_help(programs: Programs) -> None:
    program = str(programs.directory / "kube-apiserver")
    done = subprocess.run([program, "--nonsense=1"], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (1, "Error: unknown flag: --nonsense\n")
    # envtest looks for flags at the beginning of lines and disables this one if it is there.
    shown = subprocess.run([program, "--help"], capture_output=True, text=True, check=True).stdout
    assert "\n  --secure-port" in shown and "--insecure-port" not in shown
    version = subprocess.run([program, "--version"], capture_output=True, text=True, check=True)
    assert version.stdout.startswith("Kubernetes v1.37.")


def test_flags_without_effect_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    args = envtest_apiserver.parse(["--runtime-config", "api/all=true", "--watch-cache=false"])
    assert args.etcd_servers is None
    shown = "kube-apiserver: without effect here: runtime-config, watch-cache\n"
    assert capsys.readouterr().err == shown
    with pytest.raises(CommandError, match="unknown flag: --runtime"):
        envtest_apiserver.parse(["--runtime=x"])


def test_a_certificate_is_made_only_where_there_is_none(tmp_path: Path) -> None:
    flags = [f"--cert-dir={tmp_path}", "--bind-address=127.0.0.3", f"--data-dir={tmp_path}"]
    config = envtest_apiserver.configuration(envtest_apiserver.parse(flags))
    made = (tmp_path / "apiserver.crt").read_bytes()
    fields = certs.read_certificate(certs.pem_blocks(made)[0])
    assert "127.0.0.3" in fields.ip_addresses and "localhost" in fields.dns_names
    assert (config.storage, config.tls_cert_file) == ("sqlite", str(tmp_path / "apiserver.crt"))
    envtest_apiserver.configuration(envtest_apiserver.parse(flags))
    assert (tmp_path / "apiserver.crt").read_bytes() == made


def test_what_is_no_stand_in_is_an_etcd(tmp_path: Path) -> None:
    nobody = f"http://127.0.0.1:{free_port()}"
    flags = [f"--cert-dir={tmp_path}", f"--etcd-servers={nobody}"]
    config = envtest_apiserver.configuration(envtest_apiserver.parse(flags))
    assert (config.storage, config.etcd_servers) == ("etcd", (nobody,))
    with pytest.raises(ValueError, match="only /registry"):
        envtest_apiserver.configuration(envtest_apiserver.parse([*flags, "--etcd-prefix=/x"]))


def test_etcd_flags() -> None:
    args = envtest_etcd.parse(["--name=a", "--data-dir", "d", "--unsafe-no-fsync"])
    assert (args.data_dir, args.listen_client_urls) == ("d", "http://localhost:2379")
    with pytest.raises(ValueError, match="only http://"):
        envtest_etcd.make_server("https://127.0.0.1:0", Path("d"))


def test_assets_are_written_again_without_leftovers(tmp_path: Path) -> None:
    for _ in range(2):
        envtest_assets.write(tmp_path)
    names = {path.name for path in tmp_path.iterdir()}
    assert {"etcd", "kube-apiserver"} <= names <= {"etcd", "kube-apiserver", "kubectl"}
    assert all(os.access(path, os.X_OK) for path in tmp_path.iterdir())
