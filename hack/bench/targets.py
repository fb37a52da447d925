"""Starting and stopping what is measured: Pilothouse and the reference programs.

Both sides serve TLS with client certificates of one authority, RBAC and the default admission;
the reference's flags are those of a small control plane on loopback (etcd and kube-apiserver, and
on request scheduler and controller manager). A target is only what the measurements need: an
address, credentials and process ids.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import ssl
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pilothouse.componentbase.certs import (
    ClusterPKI,
    ensure_cluster_pki,
    kubeconfig,
    make_client_cert,
)

CACHE = Path(os.environ.get("PILOTHOUSE_CACHE", Path.home() / ".cache" / "pilothouse"))
REFERENCE = CACHE / "reference" / "bin"


class NotAvailable(Exception):
    """A program that is missing or did not start; the message says which and why."""


@dataclass
class Target:
    """One API server (and what runs with it)."""

    name: str
    host: str
    port: int
    ca: str
    cert: str
    key: str
    pids: list[int]
    start_seconds: float = 0.0
    version: str = ""
    stop: list[Any] = field(default_factory=list, repr=False)

    @property
    def connection(self) -> dict[str, Any]:
        return {
            "host": self.host, "port": self.port, "ca": self.ca, "cert": self.cert,
            "key": self.key, "pids": self.pids,
        }  # fmt: skip

    def context(self) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=self.ca)
        context.load_cert_chain(self.cert, self.key)
        return context

    def call(self, method: str, path: str, body: Any = None, content_type: str = "") -> Any:
        """One request, decoded. :raises urllib.error.HTTPError:"""
        request = urllib.request.Request(
            f"https://{self.host}:{self.port}{path}",
            data=None if body is None else json.dumps(body).encode(),
            method=method,
            headers={"Content-Type": content_type or "application/json"},
        )
        opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=self.context())
        )
        with opener.open(request, timeout=30) as answer:
            return json.loads(answer.read() or b"null")

    def close(self) -> None:
        stops, self.stop = self.stop, []
        for stop in reversed(stops):
            stop()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _child(command: list[str], log: Path) -> subprocess.Popen[bytes]:
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    with log.open("wb") as output:
        return subprocess.Popen(
            command, stdout=output, stderr=output, stdin=subprocess.DEVNULL, env=environment
        )


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _temporary(target_stops: list[Any]) -> Path:
    directory = Path(tempfile.mkdtemp(prefix="pilothouse-bench-"))
    target_stops.append(lambda: shutil.rmtree(directory, ignore_errors=True))
    return directory


# --- Pilothouse -----------------------------------------------------------------------------


def pilothouse(components: str = "apiserver", *flags: str, storage: str = "sqlite") -> Target:
    """``pilothouse up`` with a home of its own."""
    stops: list[Any] = []
    home = _temporary(stops)
    environment = os.environ | {"PILOTHOUSE_HOME": str(home), "KUBECONFIG": str(home / "config")}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    extra: list[int] = []
    if storage == "etcd":
        url, process = start_etcd(home / "etcd", stops)
        flags = (*flags, "--etcd-servers", url)
        extra = [process.pid]

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "pilothouse.cli", *arguments]
        entry = Path(sys.executable).with_name("pilothouse")
        if entry.exists():
            command = [str(entry), *arguments]
        return subprocess.run(command, env=environment, capture_output=True, text=True)

    started = time.perf_counter()
    up = run(
        "up", "--name", "bench", "--components", components, "--port", "0", "--storage", storage,
        *flags,
    )  # fmt: skip
    seconds = time.perf_counter() - started
    if up.returncode:
        for stop in reversed(stops):
            stop()
        raise NotAvailable(f"pilothouse up: {up.stderr.strip() or up.stdout.strip()}")
    stops.append(lambda: run("down", "--name", "bench", "--delete"))
    state = json.loads(run("status", "--name", "bench", "-o", "json").stdout)
    target = from_kubeconfig("pilothouse", Path(state["kubeconfig"]), state["pids"] + extra, home)
    target.start_seconds = seconds
    target.stop = stops
    target.version = f"pilothouse, {storage}"
    try:
        pki = ClusterPKI(home / "clusters" / "bench" / "pki", datetime.now(UTC))
        as_ordinary_user(target, pki, home)
    except BaseException:
        target.close()
        raise
    return target


def from_kubeconfig(
    name: str, path: Path, pids: list[int], directory: Path | None = None
) -> Target:
    """Any API server: address and client certificate from a kubeconfig's current context."""
    from pilothouse.kubeclient.kubeconfig import client_config, load

    stops: list[Any] = []
    directory = directory or _temporary(stops)
    config = client_config(load(path))
    for file, data in (
        ("ca.pem", config.ca_data),
        ("client.pem", config.client_certificate_data),
        ("client.key", config.client_key_data),
    ):
        (directory / file).write_bytes(data)
    host, _, port = config.server.removeprefix("https://").rstrip("/").rpartition(":")
    files = [str(directory / file) for file in ("ca.pem", "client.pem", "client.key")]
    return Target(name, host, int(port), files[0], files[1], files[2], pids, stop=stops)


def as_ordinary_user(target: Target, pki: ClusterPKI, directory: Path) -> None:
    """Measures as somebody whom RBAC rules allow everything: the administrator's group is above
    RBAC, so authorization would cost nothing."""
    now = datetime.now(UTC)
    pair = make_client_cert(pki.ca(), "bench-user", ("bench-users",), now=now)
    binding = {
        "kind": "ClusterRoleBinding",
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "metadata": {"name": "bench-users"},
        "subjects": [
            {"kind": "Group", "name": "bench-users", "apiGroup": "rbac.authorization.k8s.io"}
        ],
        "roleRef": {
            "kind": "ClusterRole",
            "name": "cluster-admin",
            "apiGroup": "rbac.authorization.k8s.io",
        },
    }
    path = "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings"
    target.call("POST", path, binding)
    for file, data in (("user.pem", pair.cert), ("user.key", pair.key)):
        (directory / file).write_bytes(data)
    target.cert, target.key = str(directory / "user.pem"), str(directory / "user.key")
    deadline = time.perf_counter() + 10
    while time.perf_counter() < deadline:  # kube-apiserver's authorizer learns of it by a watch
        try:
            target.call("GET", "/api/v1/nodes?limit=1")
        except urllib.error.HTTPError:
            time.sleep(0.05)
        else:
            return
    raise NotAvailable(f"{target.name}: RBAC did not let the benchmark's user in")


def server_flags(pki: ClusterPKI, port: int) -> list[str]:
    """What both API servers are told."""
    return [
        "--secure-port", str(port), "--bind-address=127.0.0.1", "--advertise-address=127.0.0.1",
        "--tls-cert-file", str(pki.crt("apiserver")),
        "--tls-private-key-file", str(pki.key("apiserver")),
        "--client-ca-file", str(pki.crt("ca")),
        "--service-account-key-file", str(pki.sa_pub),
        "--service-account-signing-key-file", str(pki.sa_key),
        "--service-account-issuer=https://kubernetes.default.svc",
        "--service-cluster-ip-range=10.96.0.0/16", "--authorization-mode=Node,RBAC",
        "--allow-privileged=true",
        "--requestheader-client-ca-file", str(pki.crt("front-proxy-ca")),
        "--requestheader-allowed-names=front-proxy",
        "--requestheader-username-headers=X-Remote-User",
        "--requestheader-group-headers=X-Remote-Group",
        "--requestheader-extra-headers-prefix=X-Remote-Extra-",
        "--proxy-client-cert-file", str(pki.crt("front-proxy-client")),
        "--proxy-client-key-file", str(pki.key("front-proxy-client")),
    ]  # fmt: skip


def pilothouse_apiserver(storage: str = "sqlite", *more: str) -> Target:
    """``pilothouse apiserver`` alone, with kube-apiserver's flags: all admission is on."""
    stops: list[Any] = []
    try:
        directory = _temporary(stops)
        pki = ensure_cluster_pki(directory / "pki", now=datetime.now(UTC))
        port = free_port()
        pids: list[int] = []
        flags = ["--storage", storage, "--data-dir", str(directory), *more]
        started = time.perf_counter()
        if storage == "etcd":
            url, etcd = start_etcd(directory / "etcd", stops)
            pids.append(etcd.pid)
            flags += ["--etcd-servers", url]
        program = Path(sys.executable).with_name("pilothouse")
        log = directory / "apiserver.log"
        server = _child([str(program), "apiserver", *flags, *server_flags(pki, port)], log)
        stops.append(lambda: _stop(server))
        target = Target(
            "pilothouse", "127.0.0.1", port, str(pki.crt("ca")), str(pki.crt("admin")),
            str(pki.key("admin")), [*pids, server.pid], stop=stops,
            version=f"pilothouse apiserver, {storage}",
        )  # fmt: skip
        _wait_ready(target, server, log)
        target.start_seconds = time.perf_counter() - started
        as_ordinary_user(target, pki, directory)
    except BaseException:
        for stop in reversed(stops):
            stop()
        raise
    return target


def pilothouse_scheduling(storage: str = "sqlite") -> Target:
    """``pilothouse apiserver`` and ``pilothouse scheduler``, two processes."""
    target = pilothouse_apiserver(storage)
    try:
        directory = Path(target.ca).parents[1]
        pki = ensure_cluster_pki(directory / "pki", now=datetime.now(UTC))
        config = directory / "scheduler.kubeconfig"
        credentials = kubeconfig(
            "bench", f"https://127.0.0.1:{target.port}", ca=pki.crt("ca").read_bytes(),
            user="scheduler", client=pki.client("scheduler"),
        )  # fmt: skip
        config.write_text(json.dumps(credentials))
        program = Path(sys.executable).with_name("pilothouse")
        command = [str(program), "scheduler", "--kubeconfig", str(config), "--leader-elect=false"]
        process = _child(command, directory / "scheduler.log")
        target.stop.append(lambda: _stop(process))
        target.pids.append(process.pid)
    except BaseException:
        target.close()
        raise
    return target


# --- the reference --------------------------------------------------------------------------


def start_etcd(directory: Path, stops: list[Any]) -> tuple[str, subprocess.Popen[bytes]]:
    program = REFERENCE / "etcd"
    if not program.exists():
        raise NotAvailable("etcd is not built: run hack/bench/build_reference.sh")
    client, peer = f"http://127.0.0.1:{free_port()}", f"http://127.0.0.1:{free_port()}"
    process = _child(
        [
            str(program), "--data-dir", str(directory), "--listen-client-urls", client,
            "--advertise-client-urls", client, "--listen-peer-urls", peer,
            "--initial-advertise-peer-urls", peer, "--initial-cluster", f"default={peer}",
            "--log-level", "error",
        ],
        directory.with_suffix(".log"),
    )  # fmt: skip
    stops.append(lambda: _stop(process))
    return client, process


def reference(*components: str, flags: Mapping[str, list[str]] | None = None) -> Target:
    """etcd and kube-apiserver; ``components``: scheduler, controller-manager, and ``flags`` of
    theirs (``{kubeconfig}`` in a flag is the component's)."""
    program = REFERENCE / "kube-apiserver"
    if not program.exists():
        raise NotAvailable("kube-apiserver is not built: run hack/bench/build_reference.sh")
    stops: list[Any] = []
    try:
        return _reference(program, components, stops, flags or {})
    except BaseException:
        for stop in reversed(stops):
            stop()
        raise


def _reference(
    program: Path,
    components: tuple[str, ...],
    stops: list[Any],
    more: Mapping[str, list[str]],
) -> Target:
    directory = _temporary(stops)
    pki = ensure_cluster_pki(directory / "pki", now=datetime.now(UTC))
    port = free_port()
    started = time.perf_counter()
    url, etcd = start_etcd(directory / "etcd", stops)
    flags = ["--etcd-servers", url, "--endpoint-reconciler-type=none"]
    command = [str(program), *flags, *server_flags(pki, port)]
    server = _child(command, directory / "kube-apiserver.log")
    stops.append(lambda: _stop(server))
    target = Target(
        "reference", "127.0.0.1", port, str(pki.crt("ca")), str(pki.crt("admin")),
        str(pki.key("admin")), [etcd.pid, server.pid], stop=stops,
        version="kube-apiserver v1.37.2 + etcd 3.7.0",
    )  # fmt: skip
    _wait_ready(target, server, directory / "kube-apiserver.log")
    target.start_seconds = time.perf_counter() - started
    as_ordinary_user(target, pki, directory)
    for component in components:
        pid = _component(component, target, pki, directory, stops, more.get(component, []))
        target.pids.append(pid)
    return target


def _wait_ready(target: Target, server: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.perf_counter() + 60
    while time.perf_counter() < deadline:
        if server.poll() is not None:
            raise NotAvailable(f"{log.stem} ended: {log.read_text()[-500:]}")
        try:
            target.call("GET", "/readyz?exclude=none")
        except (OSError, urllib.error.URLError):
            time.sleep(0.05)
        except ValueError:  # "ok" is no JSON
            return
    raise NotAvailable(f"{target.name} was not ready after 60 s")


def _component(
    component: str,
    target: Target,
    pki: ClusterPKI,
    directory: Path,
    stops: list[Any],
    more: list[str],
) -> int:
    program = REFERENCE / f"kube-{component}"
    if not program.exists():
        raise NotAvailable(f"{program.name} is not built: run hack/bench/build_reference.sh")
    config = directory / f"{component}.kubeconfig"
    url = f"https://127.0.0.1:{target.port}"
    credentials = kubeconfig(
        "bench", url, ca=pki.crt("ca").read_bytes(), user=component, client=pki.client(component)
    )
    config.write_text(json.dumps(credentials))
    command = [
        str(program), "--kubeconfig", str(config), "--authentication-kubeconfig", str(config),
        "--authorization-kubeconfig", str(config), "--leader-elect=false",
        "--kube-api-qps=5000", "--kube-api-burst=5000", "--secure-port", str(free_port()),
        "--bind-address=127.0.0.1",
    ]  # fmt: skip
    if component == "controller-manager":
        command += [
            "--use-service-account-credentials=true",  # what its own user may do is very little
            "--service-account-private-key-file", str(pki.sa_key),
            "--root-ca-file", str(pki.crt("ca")),
            "--cluster-signing-cert-file", str(pki.crt("ca")),
            "--cluster-signing-key-file", str(pki.key("ca")),
        ]  # fmt: skip
    command += [flag.replace("{kubeconfig}", str(config)) for flag in more]
    process = _child(command, directory / f"{component}.log")
    stops.append(lambda: _stop(process))
    return process.pid
