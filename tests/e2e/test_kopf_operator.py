"""The example operator in crds/, unchanged, with stock kopf and the stock kubernetes package."""

from __future__ import annotations

import datetime
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pilothouse import Cluster

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "crds" / "scheduledscale"
BIN = Path(sys.executable).parent
pytestmark = pytest.mark.kubectl


@pytest.fixture
def kubectl(cluster: Cluster) -> Iterator[Kubectl]:
    yield Kubectl(cluster)


class Kubectl:
    def __init__(self, cluster: Cluster) -> None:
        self.environment = os.environ | {"KUBECONFIG": str(cluster.kubeconfig)}

    def __call__(self, *arguments: str, input: str = "") -> str:
        done = subprocess.run(
            [str(BIN / "kubectl"), *arguments], env=self.environment, input=input,
            capture_output=True, text=True,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()


def test_operator_scales_by_the_time_of_day(kubectl: Kubectl) -> None:
    kubectl("create", "deployment", "hello", "--image=busybox")
    kubectl("apply", "-f", str(EXAMPLE / "crd.yaml"))
    kubectl("wait", "--for=condition=Established", "crd/scaleschedules.examples.pilothouse.dev")
    operator = subprocess.Popen(
        [str(BIN / "kopf"), "run", str(EXAMPLE / "operator.py"), "--all-namespaces"],
        env=kubectl.environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        kubectl("apply", "-f", str(EXAMPLE / "example.yaml"))
        kubectl("wait", "--for=jsonpath={.status.replicas}", "scs/office-hours", "--timeout=30s")
        day = datetime.time(7) <= datetime.datetime.now(datetime.UTC).time() < datetime.time(19)
        expected = ("day", "3") if day else ("night", "1")
        fields = "{.status.period} {.status.replicas}"
        status = kubectl("get", "scs", "office-hours", "-o", f"jsonpath={fields}").split()
        assert tuple(status) == expected
        replicas = f"jsonpath={{.spec.replicas}}={expected[1]}"
        kubectl("wait", f"--for={replicas}", "deployment/hello", "--timeout=10s")
        every = '[{"name": "all", "start": "00:00", "replicas": 5}]'
        patch = f'{{"spec": {{"periods": {every}}}}}'
        kubectl("patch", "scs", "office-hours", "--type=merge", "-p", patch)
        kubectl("wait", "--for=jsonpath={.spec.replicas}=5", "deployment/hello", "--timeout=20s")
        kubectl("delete", "scs", "office-hours", "--timeout=20s")
    finally:
        operator.send_signal(signal.SIGTERM)
        assert operator.stderr is not None
        log = operator.stderr.read()
        code = operator.wait(20)
    assert code == 0, log
    assert "Traceback" not in log, log


def test_schema_is_enforced(kubectl: Kubectl) -> None:
    kubectl("apply", "-f", str(EXAMPLE / "crd.yaml"))
    kubectl("wait", "--for=condition=Established", "crd/scaleschedules.examples.pilothouse.dev")
    bad = (EXAMPLE / "example.yaml").read_text().replace('"07:00"', '"7 o\'clock"')
    with pytest.raises(AssertionError, match=r"spec.periods\[0\].start: Invalid value"):
        kubectl("apply", "-f", "-", input=bad)


@pytest.mark.parametrize(
    ("now", "expected"),
    [
        ("06:59", "night"),
        ("07:00", "day"),
        ("18:59", "day"),
        ("19:00", "night"),
        ("00:00", "night"),
    ],
)
def test_decision(now: str, expected: str) -> None:
    import importlib.util

    spec = importlib.util.spec_from_file_location("scheduledscale", EXAMPLE / "operator.py")
    assert spec is not None and spec.loader is not None
    operator = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(operator)
    periods = [
        {"name": "day", "start": "07:00", "replicas": 3},
        {"name": "night", "start": "19:00", "replicas": 1},
    ]
    assert operator.period_at(periods, datetime.time.fromisoformat(now))["name"] == expected
