"""The certificates of a kubelet that runs alone, kept fresh: what client and HTTPS port show."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from random import Random
from typing import TYPE_CHECKING, Any

from pilothouse.componentbase.tasks import TaskOwner

if TYPE_CHECKING:
    from pilothouse.kubeclient.interfaces import Environment
    from pilothouse.kubelet.certificate.config import CertificateConfig
    from pilothouse.kubelet.certificate.request import Wanted
    from pilothouse.kubelet.certificate.store import Pair
    from pilothouse.kubelet.config import KubeletConfig


class Certificates:
    """``serve(context)`` opens the HTTPS port, which waits for the first certificate."""

    def __init__(
        self,
        env: Environment,
        config: KubeletConfig,
        certificates: CertificateConfig,
        serve: Callable[[Any], Awaitable[None]],
    ) -> None:
        self._env = env
        self._config = config
        self._certificates = certificates
        self._serve = serve
        self._tasks = TaskOwner("certificates")
        self._context: Any = None

    def start(self) -> None:
        wanted = self._certificates
        if wanted.rotate_client:
            from pilothouse.kubelet.certificate.bootstrap import CLIENT

            self._rotate(CLIENT, self._client_wanted, self._present)
        if wanted.rotate_server and not self._config.tls_cert_file:
            self._rotate("kubelet-server", self._serving_wanted, self._use_for_serving)

    async def close(self) -> None:
        await self._tasks.close()

    def _rotate(
        self,
        name: str,
        wanted: Callable[[], Wanted | None],
        use: Callable[[Pair], Awaitable[None]],
    ) -> None:
        from pilothouse.kubelet.certificate.rotation import Rotation
        from pilothouse.kubelet.certificate.store import CertificateStore

        env = self._env
        store = CertificateStore(self._certificates.directory, name)
        random = Random(env.random.getrandbits(64))
        rotation = Rotation(store, env.client, env.clock, random, wanted, use)
        self._tasks.start(rotation.run(), name)

    def _client_wanted(self) -> Wanted:
        from pilothouse.kubelet.certificate.request import Wanted

        return Wanted(self._config.node_name)

    def _serving_wanted(self) -> Wanted:
        from pilothouse.kubelet.certificate.request import SERVING_SIGNER, Wanted, addresses_of

        addresses = (
            {"type": "InternalIP", "address": self._config.node_ip},
            {"type": "Hostname", "address": self._config.node_name},
        )
        names, ips = addresses_of(addresses)
        return Wanted(self._config.node_name, SERVING_SIGNER, names, ips)

    async def _present(self, pair: Pair) -> None:
        client: Any = self._env.client
        if pair.certificate.strip() not in client.config.client_certificate_data:
            await client.present(pair.certificate, pair.key)

    async def _use_for_serving(self, pair: Pair) -> None:
        path = str(self._certificates.directory / "kubelet-server-current.pem")
        if self._context is not None:
            # Counts for the handshakes from now on.
            await asyncio.to_thread(self._context.load_cert_chain, path, path)
            return
        from pilothouse.componentbase.serving.tls import server_context

        self._context = await asyncio.to_thread(
            server_context, path, path, self._config.client_ca_file
        )
        await self._serve(self._context)
