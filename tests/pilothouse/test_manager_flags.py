"""Flags of kube-controller-manager that `pilothouse up` and ``Cluster`` pass on."""

from __future__ import annotations

import argparse

import pytest

from pilothouse import Cluster
from pilothouse.cli import up
from pilothouse.cluster.config import ClusterConfig
from pilothouse.cluster.core import StartFailure
from pilothouse.cluster.manager_flags import settings_of


def config_of(*arguments: str) -> ClusterConfig:
    parser = argparse.ArgumentParser()
    up.add_arguments(parser)
    return up.config_from(parser.parse_args(list(arguments)))


def test_from_the_command_line_to_the_controllers() -> None:
    config = config_of(
        "--terminated-pod-gc-threshold=100",
        "--horizontal-pod-autoscaler-tolerance=0.2",
        "--horizontal-pod-autoscaler-sync-period=1m30s",
    )
    assert ClusterConfig.from_json(config.to_json()) == config
    assert settings_of(config.manager_flags) == {
        "terminated_pod_gc_threshold": 100,
        "horizontal_pod_autoscaler_tolerance": 0.2,
        "horizontal_pod_autoscaler_sync_period": 90.0,
    }
    assert config_of().manager_flags == ()


@pytest.mark.parametrize(
    "flag", ["--root-ca-file=x", "--nonsense", "--terminated-pod-gc-threshold=x"]
)
def test_what_is_not_passed_on(flag: str) -> None:
    with pytest.raises(ValueError, match="--"):
        settings_of((flag,))


async def test_a_cluster_with_such_flags() -> None:
    flags = ("--terminated-pod-gc-threshold=1",)
    components = ("apiserver", "controller-manager")
    async with Cluster(components=components, nodes=0, manager_flags=flags) as cluster:
        assert cluster.config.manager_flags == flags
    with pytest.raises(StartFailure, match="unrecognized"):
        async with Cluster(components=components, nodes=0, manager_flags=("--x=1",)):
            pass
