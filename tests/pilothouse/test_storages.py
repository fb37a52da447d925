"""The same cluster on each store; with SQLite and etcd it is still there after a restart."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pilothouse import Cluster
from pilothouse.kubeclient.resources import DEPLOYMENTS, PODS

ETCD = Path(sys.executable).parent / "etcd"


@pytest.fixture
def etcd(tmp_path: Path) -> Iterator[str]:
    ports = []
    for _ in range(2):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            ports.append(probe.getsockname()[1])
    client, peer = (f"http://127.0.0.1:{port}" for port in ports)
    process = subprocess.Popen(
        [
            str(ETCD), "--data-dir", str(tmp_path / "etcd"), "--unsafe-no-fsync",
            "--listen-client-urls", client, "--advertise-client-urls", client,
            "--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer,
            "--initial-cluster", f"default={peer}", "--log-level", "error",
        ],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    yield client
    process.terminate()
    process.wait()


def deployment() -> dict[str, Any]:
    labels = {"app": "web"}
    return {
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"},
        "spec": {
            "replicas": 3, "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": {"containers": [{"name": "c", "image": "busybox"}]},
            },
        },
    }  # fmt: skip


def check(settings: dict[str, Any]) -> None:
    with Cluster(**settings) as cluster:
        cluster.client.create(DEPLOYMENTS, deployment(), "default")
        cluster.settle()
        before = cluster.client.get(DEPLOYMENTS, "web", "default")
        assert before["status"]["readyReplicas"] == 3
    with Cluster(**settings) as cluster:
        cluster.settle()
        after = cluster.client.get(DEPLOYMENTS, "web", "default")
        assert after["metadata"]["uid"] == before["metadata"]["uid"]
        phases = [p["status"]["phase"] for p in cluster.client.list(PODS, "default").items]
        assert phases == ["Running"] * 3


@pytest.mark.parametrize("durability", ["normal", "full"])
def test_sqlite(tmp_path: Path, durability: str) -> None:
    check({"storage": "sqlite", "durability": durability, "data_dir": str(tmp_path / "c")})


@pytest.mark.etcd
def test_etcd(tmp_path: Path, etcd: str) -> None:
    check({"storage": "etcd", "etcd_servers": (etcd,), "data_dir": str(tmp_path / "c")})
