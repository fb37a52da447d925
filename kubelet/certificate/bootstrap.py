"""TLS bootstrap: from a token's kubeconfig to one with the node's own certificate
(pkg/kubelet/certificate/bootstrap).
"""

from __future__ import annotations

import logging
import os
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pilothouse.componentbase.der import pem_blocks, read_certificate
from pilothouse.kubeclient import kubeconfig
from pilothouse.kubelet.certificate.request import (
    Wanted,
    new_key,
    request_certificate,
    request_name,
)
from pilothouse.kubelet.certificate.store import CertificateStore

if TYPE_CHECKING:
    from pilothouse.apimachinery.clock import Clock

log = logging.getLogger(__name__)
CLIENT = "kubelet-client"
_PENDING_KEY = "kubelet-client.key.tmp"


def still_valid(path: Path, now: datetime) -> bool:
    """Whether the kubeconfig has a client certificate that can be used."""
    if not path.exists():
        return False
    try:
        config = kubeconfig.client_config(kubeconfig.load_merged(str(path)))
        certificates = [
            read_certificate(block) for block in pem_blocks(config.client_certificate_data)
        ]
    except (kubeconfig.KubeconfigError, ValueError) as error:
        log.error("unable to use the client certificate of %s: %s", path, error)
        return False
    if not certificates:
        log.error("unable to read TLS certificates from %s", path)
        return False
    expired = [each.not_after for each in certificates if now > each.not_after]
    if expired:
        log.error("part of the client certificate in %s is expired: %s", path, expired[0])
    return not expired


async def bootstrap(
    path: Path, bootstrap_path: Path, directory: Path, node_name: str, clock: Clock
) -> bool:
    """Makes the kubeconfig ``path`` unless it is there and good; ``directory`` holds certificates.
    Waits until somebody approves the request. False: there was nothing to do.

    :raises KubeconfigError, NotIssued, StatusError, ConnectionError, OSError:
    """
    from pilothouse.kubeclient.https import HTTPSClient

    if still_valid(path, clock.now()):
        return False
    config = kubeconfig.load_merged(str(bootstrap_path))
    client = HTTPSClient(kubeconfig.client_config(config), clock)
    store = CertificateStore(directory, CLIENT)
    key = _pending_key(directory)
    wanted = Wanted(node_name)
    log.info("requesting a client certificate for node %s", node_name)
    try:
        certificate = await request_certificate(
            client, clock, wanted, key, name=request_name(wanted, key)
        )
    finally:
        await client.close()
    store.update(certificate, key, clock.now())
    (directory / _PENDING_KEY).unlink(missing_ok=True)
    kubeconfig.write(path, _own(config, store.path))
    log.info("wrote %s with the new client certificate", path)
    return True


def _pending_key(directory: Path) -> bytes:
    """The key of a request that is under way; kept until it is answered."""
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    file = directory / _PENDING_KEY
    try:
        return file.read_bytes()
    except FileNotFoundError:
        key = new_key()
    descriptor = os.open(file, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    with os.fdopen(descriptor, "wb") as out:
        out.write(key)
    return key


def _own(bootstrap_config: dict[str, Any], pair: Path) -> dict[str, Any]:
    """The bootstrap kubeconfig's cluster with the certificate at ``pair`` as its user."""
    current = bootstrap_config["current-context"]
    context = next(
        each["context"] for each in bootstrap_config["contexts"] if each["name"] == current
    )
    cluster = next(
        each["cluster"]
        for each in bootstrap_config["clusters"]
        if each["name"] == context["cluster"]
    )
    name = "default-auth"
    user = {"client-certificate": str(pair), "client-key": str(pair)}
    own: dict[str, Any] = {"cluster": "default-cluster", "user": name}
    if context.get("namespace"):
        own["namespace"] = context["namespace"]
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "default-cluster", "cluster": cluster}],
        "contexts": [{"name": "default-context", "context": own}],
        "users": [{"name": name, "user": user}],
        "current-context": "default-context",
    }
