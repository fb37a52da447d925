"""RuntimeClasses whose handler the node has, and others."""

from __future__ import annotations

from typing import Any

import pytest

from pilothouse.apimachinery.testing import FakeClock
from pilothouse.kubeclient.testing import FakeClient
from pilothouse.kubelet.runtime.errors import RuntimeFailure
from pilothouse.kubelet.runtime.handlers import handler_check


def runtime_class(name: str, handler: str) -> dict[str, Any]:
    return {
        "apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass", "metadata": {"name": name},
        "handler": handler,
    }  # fmt: skip


def pod(runtime_class_name: str | None = None) -> dict[str, Any]:
    return {"metadata": {"name": "p"}, "spec": {"runtimeClassName": runtime_class_name}}


async def test_only_known_handlers_run() -> None:
    classes = (runtime_class("plain", "crun"), runtime_class("vm", "kata"))
    check = handler_check(FakeClient(*classes, clock=FakeClock()), ("crun",))
    assert check is not None
    await check(pod())
    await check(pod("plain"))
    with pytest.raises(RuntimeFailure, match='no runtime for "kata" is configured'):
        await check(pod("vm"))
    with pytest.raises(RuntimeFailure, match='"gone" not found'):
        await check(pod("gone"))


def test_without_a_list_nothing_is_checked() -> None:
    assert handler_check(FakeClient(clock=FakeClock()), None) is None
