"""The in-process cluster, the fixture and ``settle``: what a user's own tests rely on."""

from __future__ import annotations

import asyncio
import json
import stat
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from pilothouse import Cluster
from pilothouse.apimachinery.errors import StatusError
from pilothouse.apimachinery.schema import GroupVersionResource
from pilothouse.cluster.config import ClusterConfig, ConfigError
from pilothouse.kubeclient.resources import (
    CONFIG_MAPS,
    DEPLOYMENTS,
    NAMESPACES,
    NODES,
    PODS,
    REPLICA_SETS,
)

KUBECTL = Path(sys.executable).parent / "kubectl"


def deployment(name: str, replicas: int) -> dict[str, Any]:
    labels = {"app": name}
    return {
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name},
        "spec": {
            "replicas": replicas, "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": {"containers": [{"name": "c", "image": "busybox"}]},
            },
        },
    }  # fmt: skip


def config_map(name: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}}


def test_settle_waits_for_the_whole_chain(cluster: Cluster) -> None:
    cluster.client.create(DEPLOYMENTS, deployment("web", 5), "default")
    cluster.settle()
    found = cluster.client.get(DEPLOYMENTS, "web", "default")
    assert found["status"]["availableReplicas"] == 5
    pods = cluster.client.list(PODS, "default").items
    assert [p["status"]["phase"] for p in pods] == ["Running"] * 5
    assert len({p["status"]["podIP"] for p in pods}) == 5


def test_it_says_how_it_is(cluster: Cluster) -> None:
    statuses = cluster.client.list(GroupVersionResource("", "v1", "componentstatuses")).items
    said = {each["metadata"]["name"]: each["conditions"][0]["status"] for each in statuses}
    assert said == {"controller-manager": "True", "etcd-0": "True", "scheduler": "True"}
    assert cluster.core.server is not None
    for checks in cluster.core.server.health.values():
        assert checks.results and all(checks.results.values())


def test_rolling_update_and_cascading_delete(cluster: Cluster) -> None:
    cluster.client.create(DEPLOYMENTS, deployment("web", 3), "default")
    cluster.settle()
    patch = {"spec": {"template": {"spec": {"containers": [{"name": "c", "image": "busybox:1"}]}}}}
    cluster.client.patch(
        DEPLOYMENTS, "web", patch, "application/strategic-merge-patch+json", "default"
    )
    cluster.settle()
    sets = cluster.client.list(REPLICA_SETS, "default").items
    assert sorted(s["spec"]["replicas"] for s in sets) == [0, 3]
    cluster.client.delete(DEPLOYMENTS, "web", "default")
    cluster.settle()
    assert cluster.client.list(REPLICA_SETS, "default").items == []
    assert cluster.client.list(PODS, "default").items == []


def test_namespace_goes_with_all_that_is_in_it(cluster: Cluster) -> None:
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "team"}}
    cluster.client.create(NAMESPACES, namespace)
    cluster.settle()
    cluster.client.create(DEPLOYMENTS, deployment("web", 2), "team")
    cluster.settle()
    cluster.client.delete(NAMESPACES, "team")
    cluster.settle()
    with pytest.raises(StatusError, match="not found"):
        cluster.client.get(NAMESPACES, "team")


@pytest.mark.cluster(nodes=3)
def test_marker_changes_the_fixture(cluster: Cluster) -> None:
    assert len(cluster.client.list(NODES).items) == 3


def test_two_clusters_share_nothing() -> None:
    with Cluster(name="a") as one, Cluster(name="b") as two:
        one.client.create(CONFIG_MAPS, config_map("only-in-one"), "default")
        assert one.server != two.server and one.kubeconfig != two.kubeconfig
        with pytest.raises(StatusError, match="not found"):
            two.client.get(CONFIG_MAPS, "only-in-one", "default")
        assert one.client.list(NODES).items[0]["metadata"]["name"] == "a-1"
        assert one.kubeconfig.read_bytes() != two.kubeconfig.read_bytes()


async def test_async_cluster() -> None:
    async with Cluster() as cluster:
        await cluster.client.create(DEPLOYMENTS, deployment("web", 2), "default")
        await cluster.settle()
        found = await cluster.client.get(DEPLOYMENTS, "web", "default")
        assert found["status"]["readyReplicas"] == 2


def test_watch_of_the_synchronous_client(cluster: Cluster) -> None:
    start = cluster.client.list(CONFIG_MAPS, "default").resource_version
    from pilothouse.kubeclient.interfaces import ListOptions

    with cluster.client.watch(
        CONFIG_MAPS, "default", ListOptions(resource_version=start)
    ) as events:
        cluster.client.create(CONFIG_MAPS, config_map("seen"), "default")
        event = next(iter(events))
    assert (event.type, event.object["metadata"]["name"]) == ("ADDED", "seen")


@pytest.mark.kubectl
def test_kubeconfig_works_for_kubectl_and_is_private(cluster: Cluster) -> None:
    assert stat.S_IMODE(cluster.kubeconfig.stat().st_mode) == 0o600
    done = subprocess.run(
        [str(KUBECTL), "--kubeconfig", str(cluster.kubeconfig), "get", "nodes", "-o", "json"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert len(json.loads(done.stdout)["items"]) == 1


def test_files_go_with_the_cluster() -> None:
    with Cluster() as cluster:
        directory = cluster.kubeconfig.parent
        assert directory.exists()
    assert not directory.exists()


def test_api_server_alone_is_what_envtest_gives() -> None:
    with Cluster(components=("apiserver",)) as cluster:
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"},
               "spec": {"containers": [{"name": "c", "image": "i"}]}}  # fmt: skip
        cluster.client.create(PODS, pod, "default")
        cluster.settle()
        assert cluster.client.get(PODS, "p", "default")["status"]["phase"] == "Pending"
        assert cluster.client.list(NODES).items == []


def test_client_outside_of_with_says_so() -> None:
    with pytest.raises(RuntimeError, match="with Cluster"):
        _ = Cluster(data_dir="/nonexistent").client


@pytest.mark.parametrize(
    ("settings", "word"),
    [
        ({"name": "Bad Name"}, "--name"),
        ({"nodes": -1}, "--nodes"),
        ({"runtime": "docker"}, "--runtime"),
        ({"storage": "etcd"}, "--etcd-servers"),
        ({"port": 99999}, "--port"),
        ({"bind_address": "localhost"}, "--bind-address"),
        ({"service_cidr": "10.96.0.1/16"}, "--service-cidr"),
        ({"service_cidr": "10.244.0.0/16"}, "overlap"),
        ({"components": ("scheduler",)}, "apiserver"),
    ],
)
def test_bad_settings_are_named(settings: dict[str, Any], word: str) -> None:
    with pytest.raises(ConfigError, match=word):
        ClusterConfig(**settings).validate()


def test_configuration_survives_json() -> None:
    config = ClusterConfig(name="x", etcd_servers=("http://a",), storage="etcd", seed=3)
    assert ClusterConfig.from_json(config.to_json()) == config


def test_nothing_is_on_disk_before_it_starts_or_after_it_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with pytest.raises(ConfigError):
        Cluster(runtime="docker")
    twice = Cluster(components=("apiserver",))
    assert not list(tmp_path.iterdir())
    for _ in range(2):
        with twice as running:
            assert running.kubeconfig.is_relative_to(tmp_path)
        assert not list(tmp_path.iterdir())


def test_an_interrupt_ends_what_was_waited_for(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    began, ended = threading.Event(), threading.Event()

    async def for_ever() -> None:
        began.set()
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            ended.set()

    def interrupt(self: object, timeout: float | None = None) -> None:
        assert began.wait(10)
        raise KeyboardInterrupt

    monkeypatch.setattr("concurrent.futures.Future.result", interrupt)
    with pytest.raises(KeyboardInterrupt):
        cluster._run(for_ever())
    monkeypatch.undo()
    assert ended.wait(10)
