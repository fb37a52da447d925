"""The HTTPS port of a kubelet that lives in the cluster's own process.

The API server calls such a kubelet directly; the port is for everybody else: pods and monitoring
that ask a node's address on 10250, as on any cluster.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pilothouse.componentbase.certs import ClusterPKI
    from pilothouse.componentbase.serving.http_server import HTTPServer
    from pilothouse.kubelet.config import KubeletConfig
    from pilothouse.kubelet.server.https import ServedKubelet

log = logging.getLogger(__name__)


class NodeHTTPS:
    """A component beside the kubelet's. Without its port a node works all the same."""

    def __init__(self, kubelet: ServedKubelet, config: KubeletConfig, pki: ClusterPKI) -> None:
        self.name = f"kubelet-https/{config.node_name}"
        self._kubelet = kubelet
        self._config = config
        self._pki = pki
        self._server: HTTPServer | None = None

    async def start(self) -> None:
        from pilothouse.kubelet.server.https import serve

        try:
            self._server = await serve(self._kubelet, await asyncio.to_thread(self._with_files))
        except (OSError, ssl.SSLError) as error:
            where = f"{self._config.node_ip}:{self._config.port}"
            log.warning("%s: nothing listens on %s: %s", self._config.node_name, where, error)

    def _with_files(self) -> KubeletConfig:
        name = f"kubelet-{self._config.node_name}"
        self._pki.kubelet(self._config.node_name, [self._config.node_ip])
        return replace(
            self._config,
            tls_cert_file=str(self._pki.crt(name)),
            tls_private_key_file=str(self._pki.key(name)),
            client_ca_file=str(self._pki.crt("ca")),
        )

    async def stop(self) -> None:
        if self._server is not None:
            await self._server.stop()

    def health(self) -> str | None:
        return None
