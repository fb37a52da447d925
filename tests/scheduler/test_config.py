"""Flags of ``pilothouse scheduler``."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from pilothouse.scheduler.config import SchedulerConfig, add_flags, from_args

FILE = """\
apiVersion: kubescheduler.config.k8s.io/v1
kind: KubeSchedulerConfiguration
leaderElection: {leaderElect: false, resourceName: mine}
"""


def parsed(*arguments: str) -> SchedulerConfig:
    parser = argparse.ArgumentParser()
    add_flags(parser)
    return from_args(parser.parse_args(arguments))


@pytest.mark.parametrize(
    ("arguments", "elects"),
    [
        ((), True),
        (("--leader-elect=false",), False),
        (("--config", "FILE"), False),
        (("--config", "FILE", "--leader-elect"), True),
    ],
)
def test_one_leads_unless_told_otherwise(
    arguments: tuple[str, ...], elects: bool, tmp_path: Path
) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(FILE)
    config = parsed(*(str(file) if word == "FILE" else word for word in arguments))
    assert config.leader_elect is elects
    assert config.leader_elect_name == ("mine" if "FILE" in arguments else "kube-scheduler")
