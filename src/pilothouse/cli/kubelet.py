"""Run only a kubelet, in the foreground, against the API server of a kubeconfig. With
`--runtime oci` (root) pods are real containers with addresses of --pod-cidr.
"""

from __future__ import annotations

import argparse
import asyncio
import os
from pathlib import Path
from typing import Any

from pilothouse.cli import CommandError
from pilothouse.cli import component as shared
from pilothouse.cli.kubelet_certificates import Certificates
from pilothouse.kubeclient.interfaces import Component, Environment
from pilothouse.kubelet import config as kubelet_config
from pilothouse.kubelet.certificate import config as certificate_config
from pilothouse.kubelet.certificate.config import CertificateConfig


def add_arguments(parser: argparse.ArgumentParser) -> None:
    shared.add_common(parser)
    kubelet_config.add_flags(parser)
    certificate_config.add_flags(parser)


def run(args: argparse.Namespace) -> int:
    config = kubelet_config.from_args(args)
    return shared.run(args, lambda stopping: _run(args, config, stopping))


async def _run(
    args: argparse.Namespace, config: kubelet_config.KubeletConfig, stopping: asyncio.Event
) -> int:
    certificates = certificate_config.from_args(args)
    if certificates.bootstrap_kubeconfig and not await _bootstrap(
        Path(args.kubeconfig), certificates, config.node_name, stopping
    ):
        return 0
    holder: list[KubeletProcess] = []

    async def make(env: Environment) -> Component:
        holder.append(KubeletProcess(env, config, args.runtime, certificates))
        return holder[0]

    return await shared.run_component(args, stopping, make, f"kubelet/{config.node_name}")


async def _bootstrap(
    path: Path, config: CertificateConfig, node_name: str, stopping: asyncio.Event
) -> bool:
    """Waits for the client certificate, or for a signal (False)."""
    from pilothouse.apimachinery.clock import RealClock
    from pilothouse.apimachinery.errors import StatusError
    from pilothouse.kubeclient.kubeconfig import KubeconfigError
    from pilothouse.kubelet.certificate.bootstrap import bootstrap
    from pilothouse.kubelet.certificate.request import NotIssued

    loop = asyncio.get_running_loop()
    asking = loop.create_task(
        bootstrap(
            path, Path(config.bootstrap_kubeconfig), config.directory, node_name, RealClock()
        ),
        name="bootstrap",
    )
    signal = loop.create_task(stopping.wait(), name="stop-signal")
    await asyncio.wait((asking, signal), return_when=asyncio.FIRST_COMPLETED)
    signal.cancel()
    if not asking.done():
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        return False
    try:
        asking.result()
    except (KubeconfigError, NotIssued, StatusError, OSError) as error:
        raise CommandError(f"failed to run Kubelet: bootstrap: {error}") from error
    return True


class KubeletProcess:
    """The kubelet with its runtime, its HTTPS port and its certificates."""

    def __init__(
        self,
        env: Environment,
        config: kubelet_config.KubeletConfig,
        runtime_name: str,
        certificates: CertificateConfig,
    ) -> None:
        from pilothouse.cluster.kubelets import make_kubelet

        self._config = config
        self._runtime = make_runtime(env, config, runtime_name)
        self._kubelet = make_kubelet(
            env, config, self._runtime, self._runtime, real=runtime_name != "fake"
        )
        self._server: Any = None
        self._certificates = Certificates(env, config, certificates, self._serve)
        self.name = self._kubelet.name

    async def start(self) -> None:
        if hasattr(self._runtime, "start"):
            await self._runtime.start()
        await self._kubelet.start()
        if self._config.tls_cert_file:
            await self._serve(None)
        self._certificates.start()

    async def _serve(self, tls: Any) -> None:
        from pilothouse.kubelet.server.https import serve

        self._server = await serve(self._kubelet, self._config, tls)

    async def stop(self) -> None:
        await self._kubelet.shutdown.run()
        await self._certificates.close()
        if self._server is not None:
            await self._server.stop()
        await self._kubelet.stop()
        await self._runtime.close()

    def health(self) -> str | None:
        return self._kubelet.health()


def make_runtime(env: Environment, config: kubelet_config.KubeletConfig, name: str) -> Any:
    """:raises CommandError: no such runtime here."""
    from random import Random

    random = Random(env.random.getrandbits(64))
    if name == "fake":
        from pilothouse.kubelet.runtime.fake import FakeRuntime

        return FakeRuntime(
            env.clock, random, pod_cidr=config.pod_cidr or "10.244.0.0/24", node_ip=config.node_ip
        )
    from pilothouse.cluster.state import images_directory
    from pilothouse.kubelet.images.builtin import NoBusybox, ensure_builtin_images
    from pilothouse.kubelet.images.registry import RegistryClient
    from pilothouse.kubelet.images.service import LocalImageService
    from pilothouse.kubelet.images.store import ImageStore

    store = ImageStore(str(images_directory()))
    try:
        ensure_builtin_images(store)
    except NoBusybox:
        pass
    images = LocalImageService(store, RegistryClient(env.clock))
    root = Path(config.root_dir)
    if name == "process" or (name == "auto" and os.geteuid() != 0):
        from pilothouse.kubelet.runtime.process import ProcessRuntime

        return ProcessRuntime(env.clock, random, str(root / "process"), images)
    if os.geteuid() != 0:
        raise CommandError("--runtime oci needs root; use --runtime process or fake")
    from pilothouse.kubelet.runtime.oci import OCIRuntime
    from pilothouse.kubelet.runtime.shim_client import ShimConfig

    return OCIRuntime(
        ShimConfig(
            state_dir=str(root / "shim"),
            netns=config.netns or "",
            pod_cidr=config.pod_cidr,
            node_ip=config.node_ip,
            cgroup_root=f"/kubepods-{config.node_name}",
        ),
        images,
    )
