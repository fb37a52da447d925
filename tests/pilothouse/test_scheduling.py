"""Volumes, profiles and devices in a whole in-process cluster."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from pilothouse import Cluster
from pilothouse.cli import main
from pilothouse.cluster.core import StartFailure
from pilothouse.kubeclient.resources import (
    EVENTS_V1,
    PERSISTENT_VOLUME_CLAIMS,
    PERSISTENT_VOLUMES,
    PODS,
    STATEFUL_SETS,
    STORAGE_CLASSES,
)

CLAIM_SPEC = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}


def pod(name: str, **spec: Any) -> dict[str, Any]:
    container = {"name": "c", "image": "busybox"}
    return {
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name},
        "spec": {"containers": [container], **spec},
    }  # fmt: skip


def stateful_set(**fields: Any) -> dict[str, Any]:
    labels = {"app": "db"}
    return {
        "apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": "db"},
        "spec": {
            "serviceName": "db", "replicas": 2, "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": pod("x")["spec"]},
            "volumeClaimTemplates": [{"metadata": {"name": "data"}, "spec": CLAIM_SPEC}],
            **fields,
        },
    }  # fmt: skip


async def test_stateful_set_keeps_its_volumes_until_they_are_not_wanted() -> None:
    async with Cluster(nodes=2) as c:
        (standard,) = (await c.client.list(STORAGE_CLASSES)).items
        assert standard["provisioner"] == "pilothouse.dev/local-path"
        policy = {"whenDeleted": "Delete", "whenScaled": "Retain"}
        await c.client.create(
            STATEFUL_SETS, stateful_set(persistentVolumeClaimRetentionPolicy=policy), "default"
        )
        await c.settle()
        before = await volumes_by_claim(c)
        assert sorted(before) == ["data-db-0", "data-db-1"]
        pods = {p["metadata"]["name"]: p for p in (await c.client.list(PODS)).items}
        assert all(p["status"]["phase"] == "Running" for p in pods.values())

        await c.client.delete(PODS, "db-0", "default")
        await c.settle()
        again = await c.client.get(PODS, "db-0", "default")
        assert again["metadata"]["uid"] != pods["db-0"]["metadata"]["uid"]
        assert again["spec"]["nodeName"] == pods["db-0"]["spec"]["nodeName"]
        await c.client.patch(
            STATEFUL_SETS, "db", {"spec": {"replicas": 1}}, "application/merge-patch+json",
            "default",
        )  # fmt: skip
        await c.settle()
        assert await volumes_by_claim(c) == before, "scaled: retained"
        await c.client.delete(STATEFUL_SETS, "db", "default")
        await c.settle()
        assert sorted(await volumes_by_claim(c)) == []
        assert (await c.client.list(PERSISTENT_VOLUMES)).items == []


async def volumes_by_claim(c: Any) -> dict[str, str]:
    claims = (await c.client.list(PERSISTENT_VOLUME_CLAIMS)).items
    return {p["metadata"]["name"]: p["spec"]["volumeName"] for p in claims}


async def test_profiles_of_a_file(tmp_path: Path) -> None:
    file = tmp_path / "scheduler.yaml"
    file.write_text(
        """
apiVersion: kubescheduler.config.k8s.io/v1
kind: KubeSchedulerConfiguration
profiles:
- schedulerName: default-scheduler
- schedulerName: packing
"""
    )
    async with Cluster(scheduler_config=str(file)) as c:
        await c.client.create(PODS, pod("a", schedulerName="packing"), "default")
        await c.client.create(PODS, pod("b"), "default")
        await c.settle()
        events = [
            (e["reportingController"], e["action"], e["reason"])
            for e in (await c.client.list(EVENTS_V1)).items
            if e.get("action")
        ]
        assert sorted(events) == [
            ("default-scheduler", "Binding", "Scheduled"),
            ("packing", "Binding", "Scheduled"),
        ]


async def test_a_file_that_means_nothing(tmp_path: Path) -> None:
    with pytest.raises(StartFailure, match="--scheduler-config"):
        async with Cluster(scheduler_config=str(tmp_path / "none.yaml")):
            pass


def test_explain_pod(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "pod.yaml"
    file.write_text(
        "{apiVersion: v1, kind: Pod, metadata: {name: x}, spec: {nodeName: '', containers: "
        "[{name: c, image: busybox, resources: {requests: {cpu: '9999'}}}]}}"
    )
    with Cluster(nodes=2) as c:
        c.client.create(PODS, pod("a"), "default")
        c.settle()
        assert main(["explain-pod", "a", "--kubeconfig", str(c.kubeconfig)]) == 0
        assert "fits on 2 of 2 nodes" in capsys.readouterr().out
        arguments = ["-f", str(file), "-o", "json", "--kubeconfig", str(c.kubeconfig)]
        assert main(["explain-pod", *arguments]) == 0
        assert '"Insufficient cpu"' in capsys.readouterr().out
        assert len(c.client.list(PODS).items) == 1, "nothing was created"
    assert main(["explain-pod", "--kubeconfig", "x"]) == 1
    assert "give the name of a pod" in capsys.readouterr().err
    sys.stdout.flush()


async def test_volumes_survive_a_restart(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"storage": "sqlite", "data_dir": str(tmp_path / "cluster")}
    async with Cluster(**settings) as c:
        await c.client.create(STATEFUL_SETS, stateful_set(), "default")
        await c.settle()
        before = await volumes_by_claim(c)
        assert len(before) == 2
    async with Cluster(**settings) as c:
        await c.settle()
        assert await volumes_by_claim(c) == before
        volumes = (await c.client.list(PERSISTENT_VOLUMES)).items
        assert [v["status"]["phase"] for v in volumes] == ["Bound", "Bound"]
        assert len((await c.client.list(STORAGE_CLASSES)).items) == 1
