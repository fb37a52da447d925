"""kubectl top and autoscaling, without an add-on: stock kubectl, a fake node, a pretended load."""

from __future__ import annotations

import subprocess

import pytest
import transcripts

from pilothouse import Cluster
from pilothouse.kubeclient.resources import PODS

pytestmark = [pytest.mark.kubectl, pytest.mark.timeout(120)]
KUBECTLS = transcripts.kubectls()
LOAD = {
    "fake.pilothouse.dev/cpu-usage": "150m",
    "fake.pilothouse.dev/worker.cpu-usage": "50m",
    "fake.pilothouse.dev/memory-usage": "40Mi",
}


@pytest.mark.skipif(not KUBECTLS, reason="no kubectl here")
@pytest.mark.parametrize("version", sorted(KUBECTLS))
def test_top(version: str) -> None:
    with Cluster() as cluster:

        def kubectl(*args: str) -> list[list[str]]:
            done = subprocess.run(
                [str(KUBECTLS[version]), "--kubeconfig", str(cluster.kubeconfig), *args],
                capture_output=True, text=True, check=True,
            )  # fmt: skip
            return [line.split() for line in done.stdout.splitlines()]

        containers = [{"name": name, "image": "busybox"} for name in ("app", "worker")]
        pod = {
            "metadata": {"name": "web", "namespace": "default", "annotations": LOAD},
            "spec": {"containers": containers, "terminationGracePeriodSeconds": 0},
        }
        cluster.client.create(PODS, pod)
        cluster.settle()
        assert kubectl("top", "pods", "--no-headers") == [["web", "200m", "80Mi"]]
        assert kubectl("top", "pod", "web", "--containers", "--no-headers") == [
            ["web", "app", "150m", "40Mi"],
            ["web", "worker", "50m", "40Mi"],
        ]
        ((name, cpu, _, memory, _),) = kubectl("top", "nodes", "--no-headers")
        assert (name, cpu, memory) == ("pilothouse-1", "200m", "80Mi")
        services = kubectl("get", "apiservices", "v1beta1.metrics.k8s.io", "--no-headers")
        assert services[0][:3] == ["v1beta1.metrics.k8s.io", "Local", "True"]
