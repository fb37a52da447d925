"""KubeletConfiguration files: what becomes of their fields, and what is refused."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import pytest
import yaml

from pilothouse.kubelet import config as kubelet_config
from pilothouse.kubelet.certificate import config as certificate_config
from pilothouse.kubelet.config_file import shutdown_periods, values

HEAD = {"apiVersion": "kubelet.config.k8s.io/v1beta1", "kind": "KubeletConfiguration"}


def parsed(path: Path, fields: dict[str, Any], *flags: str) -> argparse.Namespace:
    path.write_text(yaml.safe_dump(HEAD | fields))
    parser = argparse.ArgumentParser()
    kubelet_config.add_flags(parser)
    certificate_config.add_flags(parser)
    return parser.parse_args(["--config", str(path), *flags])


def test_fields_are_defaults_of_flags(tmp_path: Path) -> None:
    fields = {
        "maxPods": 20, "clusterDNS": ["10.96.0.10"], "evictionHard": {"memory.available": "1Gi"},
        "authentication": {"x509": {"clientCAFile": "/ca"}}, "port": 10300,
        "registerWithTaints": [{"key": "k", "effect": "NoSchedule"}], "rotateCertificates": True,
        "shutdownGracePeriod": "30s", "shutdownGracePeriodCriticalPods": "10s",
        "cgroupDriver": "systemd",
    }  # fmt: skip
    args = parsed(tmp_path / "c.yaml", fields, "--port", "10400")
    config = kubelet_config.from_args(args)
    assert (config.max_pods, config.port, config.client_ca_file) == (20, 10400, "/ca")
    assert config.cluster_dns == ("10.96.0.10",)
    assert config.eviction_hard == "memory.available<1Gi"
    assert config.register_with_taints == ({"key": "k", "effect": "NoSchedule"},)
    assert config.shutdown_periods == ((0, 20), (2_000_000_000, 10))
    assert certificate_config.from_args(args).rotate_client


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"maxPodz": 1}, 'strict decoding error: unknown field "maxPodz"'),
        ({"kind": "Pod"}, "no kind 'KubeletConfiguration'"),
        ({"apiVersion": "v1"}, 'is registered for version "v1"'),
        ({"shutdownGracePeriodCriticalPods": "10s"}, "must be <= shutdownGracePeriod"),
    ],
)
def test_mistakes(
    fields: dict[str, Any], why: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        parsed(tmp_path / "c.yaml", fields)
    told = capsys.readouterr().err
    assert "failed to load kubelet config file" in told
    assert why in told


def test_shutdown_periods() -> None:
    by_priority = [
        {"priority": 1000, "shutdownGracePeriodSeconds": 20},
        {"priority": 0, "shutdownGracePeriodSeconds": 60},
    ]
    assert shutdown_periods({"shutdownGracePeriodByPodPriority": by_priority}) == (
        (0, 60), (1000, 20),
    )  # fmt: skip
    assert values(HEAD)["shutdown_periods"] == ()
    with pytest.raises(ValueError, match="Cannot specify both"):
        shutdown_periods(
            {"shutdownGracePeriodByPodPriority": by_priority, "shutdownGracePeriod": "9s"}
        )
    with pytest.raises(ValueError, match=">= 1 sec"):
        shutdown_periods({"shutdownGracePeriod": "100ms"})
