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
from pilothouse.kubeclient.resources import DEPLOYMENTS, JOBS

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
