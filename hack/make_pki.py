"""Certificates and kubeconfigs for hack/local-up-cluster.sh.

usage: make_pki.py DIR SERVER_URL NODE NODE_IP [EXTRA_SERVER_IP...]
"""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime
from pathlib import Path

from pilothouse.cluster.state import write_private
from pilothouse.componentbase.certs import ClusterPKI, ensure_cluster_pki, kubeconfig


def main() -> int:
    directory, server, node, node_ip, *ips = sys.argv[1:]
    root = Path(directory)
    pki = ensure_cluster_pki(
        root / "pki", now=datetime.now(UTC), ips=["10.96.0.1", *ips], nodes={node: [node_ip]}
    )
    for name in ("admin", "controller-manager", "scheduler", "proxy"):
        write(root, pki, name, server, pki.client(name))
    write(root, pki, "kubelet", server, pki.node_client(node))
    return 0


def write(root: Path, pki: ClusterPKI, name: str, server: str, client: object) -> None:
    config = kubeconfig(
        "local", server, ca=pki.crt("ca").read_bytes(), user=name, client=client  # type: ignore[arg-type]
    )  # fmt: skip
    write_private(root / f"{name}.kubeconfig", json.dumps(config, indent=1))


if __name__ == "__main__":
    sys.exit(main())
