"""Network probes of containers that only pretend to run succeed."""

from __future__ import annotations

import pytest

from pilothouse.kubelet.probes.pretend import PretendGetter, PretendProber
from pilothouse.kubelet.probes.results import ProbeSpec

CONTAINER = {"name": "c", "ports": [{"name": "web", "containerPort": 80}]}
POD = {"metadata": {"name": "p"}, "spec": {"containers": [CONTAINER]}}


@pytest.mark.parametrize(
    ("handler", "success"),
    [
        ({"httpGet": {"path": "/", "port": "web"}}, True),
        ({"httpGet": {"path": "/", "port": "other"}}, False),
        ({"tcpSocket": {"port": 80}}, True),
        ({"tcpSocket": {"port": "other"}}, False),
        ({"grpc": {"port": 80}}, True),
    ],
)
async def test_answers(handler, success):
    prober = PretendProber(None, PretendGetter())
    spec = ProbeSpec(handler, 0.0, 1.0, 10.0, 1, 3)
    outcome, _ = await prober.probe(spec, POD, CONTAINER, "id", "192.0.2.1")
    assert outcome is success
