"""helm: a chart with a CRD, one of its objects, a hook Job and a Deployment, through its life."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from programs import HERE, TEST_SECONDS, Run, built, shell

from pilothouse import Cluster
from pilothouse.apimachinery.schema import GroupVersionResource
from pilothouse.kubeclient.resources import CONFIG_MAPS, DEPLOYMENTS, JOBS

pytestmark = [pytest.mark.kubectl, pytest.mark.timeout(TEST_SECONDS)]
CHART = str(HERE / "helm" / "chart")
GIZMOS = GroupVersionResource("clients.pilothouse.dev", "v1", "gizmos")
Helm = Callable[..., str]


@pytest.fixture(scope="module")
def program() -> str:
    def build(sources: Path, into: Path) -> None:
        module = (sources / "MODULE").read_text().strip()
        shell("go", "install", module, cwd=into, GOBIN=str(into), GOFLAGS="-buildvcs=false")

    return str(built("helm", "go", build) / "helm")


@pytest.fixture
def helm(program: str, run: Run) -> Helm:
    return lambda *arguments: run([program, *arguments])


def releases(helm: Helm) -> dict[str, tuple[str, str]]:
    listed: list[dict[str, Any]] = json.loads(helm("list", "-A", "-o", "json"))
    return {r["name"]: (r["revision"], r["status"]) for r in listed}


def test_a_release_from_install_to_uninstall(helm: Helm, rsa_cluster: Cluster) -> None:
    client = rsa_cluster.client
    helm("install", "demo", CHART, "--wait", "--timeout", "60s")
    assert releases(helm) == {"demo": ("1", "deployed")}
    deployment = client.get(DEPLOYMENTS, "demo", "default")
    assert deployment["status"]["readyReplicas"] == 2
    assert client.get(GIZMOS, "demo", "default")["spec"]["color"] == "blue"
    assert not client.list(JOBS, "default").items, "the hook has succeeded and is gone"

    helm("upgrade", "demo", CHART, "--set", "replicas=3,color=red", "--wait", "--timeout", "60s")
    assert releases(helm) == {"demo": ("2", "deployed")}
    assert client.get(DEPLOYMENTS, "demo", "default")["status"]["readyReplicas"] == 3
    with pytest.raises(AssertionError, match='Unsupported value: "green"'):
        helm("upgrade", "demo", CHART, "--set", "color=green")

    helm("rollback", "demo", "1", "--wait", "--timeout", "60s")
    assert client.get(DEPLOYMENTS, "demo", "default")["spec"]["replicas"] == 2
    history = json.loads(helm("history", "demo", "-o", "json"))
    assert [h["status"] for h in history][-1] == "deployed" and len(history) == 4
    assert "kind: Gizmo" in helm("get", "manifest", "demo")

    helm("uninstall", "demo", "--wait")
    assert releases(helm) == {}
    assert not client.list(DEPLOYMENTS, "default").items


def test_dry_run_of_the_server_and_lookup(helm: Helm, tmp_path: Path) -> None:
    chart = tmp_path / "lookup"
    (chart / "templates").mkdir(parents=True)
    shutil.copy(HERE / "helm" / "chart" / "Chart.yaml", chart)
    (chart / "templates" / "map.yaml").write_text(
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: looked}\n"
        'data: {uid: {{ (lookup "v1" "Namespace" "" "kube-system").metadata.uid | quote }}, '
        "version: {{ .Capabilities.KubeVersion.Version }}}\n"
    )
    shown = helm("install", "looked", str(chart), "--dry-run=server")
    assert "version: v1.37" in shown and 'uid: ""' not in shown
    assert releases(helm) == {}


def chart_of(folder: Path, **templates: str) -> str:
    (folder / "templates").mkdir(parents=True)
    shutil.copy(HERE / "helm" / "chart" / "Chart.yaml", folder)
    for name, text in templates.items():
        (folder / "templates" / f"{name}.yaml").write_text(text)
    return str(folder)


def test_what_others_changed_stays_in_an_upgrade(
    helm: Helm, rsa_cluster: Cluster, tmp_path: Path
) -> None:
    client = rsa_cluster.client
    chart = chart_of(
        tmp_path / "three",
        map="apiVersion: v1\nkind: ConfigMap\nmetadata: {name: shared}\n"
        "data: {a: {{ .Values.a | quote }}, b: 'b'}\n",
    )
    helm("install", "three", chart, "--set", "a=1")
    client.patch(
        CONFIG_MAPS, "shared", {"data": {"c": "mine"}}, "application/merge-patch+json", "default"
    )
    helm("upgrade", "three", chart, "--set", "a=2")
    assert client.get(CONFIG_MAPS, "shared", "default")["data"] == {"a": "2", "b": "b", "c": "mine"}
    helm("rollback", "three", "1")
    assert client.get(CONFIG_MAPS, "shared", "default")["data"] == {"a": "1", "b": "b", "c": "mine"}
    client.delete(CONFIG_MAPS, "shared", "default")
    helm("upgrade", "three", chart, "--reuse-values")
    assert client.get(CONFIG_MAPS, "shared", "default")["data"] == {"a": "1", "b": "b"}
    helm("uninstall", "three", "--keep-history")
    assert json.loads(helm("history", "three", "-o", "json"))[-1]["status"] == "uninstalled"


def test_a_failed_upgrade_is_rolled_back(helm: Helm, rsa_cluster: Cluster, tmp_path: Path) -> None:
    chart = chart_of(
        tmp_path / "fails",
        map="apiVersion: v1\nkind: ConfigMap\nmetadata: {name: kept}\n"
        "data: {a: {{ .Values.a | quote }}}\n",
        quota="{{ if .Values.bad }}apiVersion: v1\nkind: Service\nmetadata: {name: bad}\n"
        "spec: {ports: [{port: 70000}]}\n{{ end }}\n",
    )
    helm("install", "fails", chart, "--set", "a=1")
    with pytest.raises(AssertionError, match="must be between 1 and 65535"):
        helm("upgrade", "fails", chart, "--set", "a=2,bad=1", "--rollback-on-failure")
    history = json.loads(helm("history", "fails", "-o", "json"))
    assert [h["status"] for h in history] == ["superseded", "failed", "deployed"]
    assert rsa_cluster.client.get(CONFIG_MAPS, "kept", "default")["data"] == {"a": "1"}
    assert releases(helm) == {"fails": ("3", "deployed")}


def test_test_hooks_run_in_the_order_of_their_weights(
    helm: Helm, rsa_cluster: Cluster, tmp_path: Path
) -> None:
    def check(name: str, weight: int) -> str:
        return (
            f"apiVersion: batch/v1\nkind: Job\nmetadata:\n  name: {name}\n  annotations:\n"
            f"    helm.sh/hook: test\n    helm.sh/hook-weight: '{weight}'\n"
            "    helm.sh/hook-delete-policy: before-hook-creation\n"
            "spec: {template: {spec: {restartPolicy: Never,\n"
            "  containers: [{name: c, image: busybox, command: ['true']}]}}}\n"
        )

    chart = chart_of(tmp_path / "tested", one=check("second", 5), two=check("first", -5))
    helm("install", "tested", chart)
    for _ in range(2):  # the second one deletes the jobs of the first
        said = helm("test", "tested", "--timeout", "60s")
        assert said.count("Succeeded") == 2
        done = {j["metadata"]["name"]: j for j in rsa_cluster.client.list(JOBS, "default").items}
        revisions = [int(done[n]["metadata"]["resourceVersion"]) for n in ("first", "second")]
        assert revisions == sorted(revisions)
