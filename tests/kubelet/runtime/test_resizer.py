"""What is not done while more memory is in use than it would leave."""

from __future__ import annotations

import json
from typing import Any, cast

import pytest

from pilothouse.kubelet.pod_cache import PodCache
from pilothouse.kubelet.runtime.interfaces import (
    ContainerStats,
    ContainerStatus,
    Resources,
    SandboxStatus,
)
from pilothouse.kubelet.runtime.killing import Killer
from pilothouse.kubelet.runtime.pod_actions import PodRuntimeStatus
from pilothouse.kubelet.runtime.resizer import Resizer
from pilothouse.kubelet.runtime.resizes import RESOURCES_ANNOTATION

GIVEN = {"requests": {"memory": "15Mi"}, "limits": {"memory": "15Mi"}}


class Runtime:
    def __init__(self, used: int) -> None:
        self.used = used
        self.limits: list[int] = []

    async def container_stats(self, container_id: str) -> ContainerStats:
        return ContainerStats(container_id, 0.0, 0, 0, self.used)

    async def update_container_resources(self, container_id: str, resources: Resources) -> None:
        self.limits.append(resources.memory_limit)

    async def update_pod_sandbox_resources(self, sandbox_id: str, resources: Resources) -> None:
        self.pod_limit = resources.memory_limit


class Cache:
    def get(self, uid: str) -> PodRuntimeStatus:
        note = {RESOURCES_ANNOTATION: json.dumps(GIVEN)}
        running = ContainerStatus("id", "s", "c", 0, "running", "i", "sha", 1.0, annotations=note)
        box = SandboxStatus("s", "p", "ns", "u", 0, "ready", 1.0, ("10.0.0.9",), False, {}, {})
        return PodRuntimeStatus((box,), {"c": (running,)})


def pod(memory: str, **spec: Any) -> dict[str, Any]:
    resources = {"requests": {"memory": memory}, "limits": {"memory": memory}}
    containers = [{"name": "c", "resources": resources}]
    return {"metadata": {"uid": "u", "name": "p"}, "spec": {"containers": containers, **spec}}


def make(used: int) -> tuple[Resizer, Runtime]:
    runtime = Runtime(used)
    resizer = Resizer(cast(Any, runtime), cast(PodCache, Cache()), cast(Killer, None))
    resizer.note_sandbox("u", resizer.of_pod(pod("15Mi")))
    return resizer, runtime


async def test_less_than_what_is_in_use_is_refused() -> None:
    resizer, runtime = make(used=1 << 20)
    problem = await resizer.resize(pod("10Ki"))
    assert problem == (
        "cannot decrease memory limits: [attempting to set pod memory limit (10240) below current "
        'usage (1048576), attempting to set container "c" memory limit (10240) below current usage '
        "(1048576)]"
    )
    assert runtime.limits == []
    assert resizer.behind(pod("10Ki")) == {"id": GIVEN}
    given = resizer.pod_behind(pod("10Ki"))
    assert given is not None and given.memory_limit == 15 << 20


@pytest.mark.parametrize("memory", ["2Mi", "20Mi"])
async def test_enough_is_given(memory: str) -> None:
    resizer, runtime = make(used=1 << 20)
    assert await resizer.resize(pod(memory)) == ""
    assert len(runtime.limits) == 1
    assert resizer.behind(pod(memory)) == {}
    assert resizer.pod_behind(pod(memory)) is None
