"""What ``up`` suggests next: only what works on this cluster."""

from __future__ import annotations

import pytest

from pilothouse.cluster.config import COMPONENTS
from pilothouse.cluster.daemon import next_commands


@pytest.mark.parametrize(
    ("runtime", "components", "first"),
    [
        ("oci", COMPONENTS, "create deployment hello --image=busybox --replicas=2 -- httpd"),
        ("process", COMPONENTS, "create deployment hello --image=busybox -- httpd -f -p 8080"),
        ("oci", ("apiserver",), "api-resources"),
        ("fake", ("apiserver", "scheduler", "controller-manager"), "api-resources"),
    ],
)
def test_next_commands(runtime: str, components: tuple[str, ...], first: str) -> None:
    commands = next_commands(runtime, components)
    assert len(commands) == 3
    assert commands[0].startswith(first)
