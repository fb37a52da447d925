"""Client programs in four languages: built once, run against a cluster of their own.

A program is built from the published library into the cache folder, which is named after its
sources; a machine without the toolchain skips it.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pilothouse import Cluster

sys.path.insert(0, str(Path(__file__).parent))

from programs import Run


@pytest.fixture
def rsa_cluster() -> Iterator[Cluster]:
    """As `pilothouse up` makes it: Java clients take no elliptic curve as they come."""
    with Cluster(rsa_admin_key=True) as cluster:
        yield cluster


@pytest.fixture
def run(rsa_cluster: Cluster) -> Run:
    """Runs a program with the cluster's kubeconfig; returns what it printed."""

    def run(program: list[str]) -> str:
        environment = os.environ | {"KUBECONFIG": str(rsa_cluster.kubeconfig)}
        done = subprocess.run(program, env=environment, capture_output=True, text=True, timeout=90)
        assert done.returncode == 0, done.stderr + done.stdout
        return done.stdout

    return run
