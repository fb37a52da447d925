"""The two servers that are asked."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

from hack.differential.client import Connection, wait_for_services
from pilothouse.componentbase.certs import ClusterPKI, ensure_cluster_pki

USER = "kubernetes-admin"


@contextlib.contextmanager
def reference() -> Iterator[Connection]:
    """Upstream's kube-apiserver and etcd, of their own, for its administrator."""
    from hack.bench.targets import reference as start

    target = start()
    try:
        pki = Path(target.cert).parent / "pki"
        context = ssl.create_default_context(cafile=target.ca)
        context.load_cert_chain(pki / "admin.crt", pki / "admin.key")
        connection = Connection(target.host, target.port, context)
        wait_for_services(connection)
        yield connection
    finally:
        target.close()


@contextlib.contextmanager
def ours() -> Iterator[Connection]:
    """Our API server in a thread of this process, with all admission on."""
    with tempfile.TemporaryDirectory() as folder, _Thread(Path(folder)) as thread:
        yield Connection("127.0.0.1", thread.port, headers={"Authorization": "Bearer differential"})


class _Thread:
    """A server on an event loop of its own; plain HTTP and a token keep it fast."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._ready = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._end = asyncio.Event()
        self._thread = threading.Thread(target=self._run, name="differential")
        self._failure: BaseException | None = None
        self.port = 0

    def __enter__(self) -> _Thread:
        self._thread.start()
        self._ready.wait()
        if self._failure is not None:
            raise self._failure
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join()

    def _run(self) -> None:
        try:
            self._loop.run_until_complete(self._serve())
        except BaseException as error:
            self._failure = error
            self._ready.set()
        finally:
            self._loop.close()

    def _settings(self, pki: ClusterPKI) -> dict[str, Any]:
        tokens = self._folder / "tokens.csv"
        tokens.write_text(f'differential,{USER},,"system:masters"\n')
        return {
            "secure_port": 0,
            "token_auth_file": str(tokens),
            "client_ca_file": str(pki.crt("ca")),
            "service_account_key_file": (str(pki.sa_pub),),
            "service_account_signing_key_file": str(pki.sa_key),
            "service_account_issuer": ("https://kubernetes.default.svc",),
            # A bare kube-apiserver has no metrics server behind it.
            "resource_metrics": False,
        }

    async def _serve(self) -> None:
        from pilothouse.apimachinery.clock import RealClock
        from pilothouse.apiserver.config import ServerConfig
        from pilothouse.apiserver.server import APIServer

        clock = RealClock()
        pki = ensure_cluster_pki(self._folder / "pki", now=clock.now())
        server = APIServer(ServerConfig(**self._settings(pki)), clock, Random(1))
        try:
            await server.start()
            self.port = server.port
            self._ready.set()
            await self._end.wait()
        finally:
            await server.stop(grace=0)
