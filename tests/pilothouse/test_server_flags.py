"""Flags of kube-apiserver that `pilothouse up` and ``Cluster`` pass on."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import pytest

from pilothouse import Cluster
from pilothouse.cli import up
from pilothouse.cluster.config import ClusterConfig
from pilothouse.cluster.core import StartFailure
from pilothouse.cluster.server_flags import settings_of
from pilothouse.kubeclient.resources import CONFIG_MAPS

POLICY = {"apiVersion": "audit.k8s.io/v1", "kind": "Policy", "rules": [{"level": "Metadata"}]}


def config_of(*arguments: str) -> ClusterConfig:
    parser = argparse.ArgumentParser()
    up.add_arguments(parser)
    return up.config_from(parser.parse_args(list(arguments)))


def test_from_the_command_line_to_the_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    config = config_of(
        "--audit-policy-file", "policy.yaml", "--audit-log-path=-", "--audit-log-maxage", "3",
        "--audit-log-batch-max-wait", "1m30s", "--audit-log-compress", "--oidc-signing-algs",
        "RS256,ES256", "--tracing-config-file", "/t.yaml", "--storage", "memory",
    )  # fmt: skip
    assert ClusterConfig.from_json(config.to_json()) == config
    assert settings_of(config.server_flags) == {
        "audit_policy_file": str(tmp_path / "policy.yaml"),
        "audit_log_path": "-",
        "audit_log_maxage": 3,
        "audit_log_batch_max_wait": 90.0,
        "audit_log_compress": True,
        "oidc_signing_algs": ("RS256", "ES256"),
        "tracing_config_file": "/t.yaml",
    }
    assert config_of().server_flags == ()


@pytest.mark.parametrize("flag", ["--storage=etcd", "--nonsense", "--audit-log-maxage=x"])
def test_what_is_not_passed_on(flag: str) -> None:
    with pytest.raises(ValueError, match="--"):
        settings_of((flag,))


async def test_a_cluster_with_an_audit_log(tmp_path: Path) -> None:
    policy, log = tmp_path / "policy.json", tmp_path / "audit.log"
    policy.write_text(json.dumps(POLICY))
    flags = (f"--audit-policy-file={policy}", f"--audit-log-path={log}")
    async with Cluster(components=("apiserver",), nodes=0, server_flags=flags) as cluster:
        await cluster.client.create(CONFIG_MAPS, {"metadata": {"name": "a"}}, "default")
    events = [json.loads(line) for line in log.read_text().splitlines()]
    assert any(
        (event["verb"], event["objectRef"].get("resource")) == ("create", "configmaps")
        for event in events
        if "objectRef" in event
    )


async def test_a_flag_that_the_server_refuses() -> None:
    flags = ("--audit-log-path=-", "--audit-log-mode=sometimes")
    cluster = Cluster(components=("apiserver",), nodes=0, server_flags=flags)
    with pytest.raises(StartFailure, match="API server: invalid audit log mode sometimes"):
        async with cluster:
            pass
