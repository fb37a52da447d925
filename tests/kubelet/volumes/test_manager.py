"""emptyDir on disk and in memory."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

import pytest

from pilothouse.apimachinery.testing import FakeClock
from pilothouse.kubeclient.testing import FakeClient
from pilothouse.kubelet.volumes.manager import VolumeManager
from pilothouse.kubelet.volumes.projected import ObjectVolumes


@pytest.mark.parametrize(
    ("medium", "group", "mode"),
    [("", None, 0o777), ("", os.getgid(), 0o2777), ("Memory", None, 0o1777),
     ("Memory", os.getgid(), 0o3777)],
)  # fmt: skip
async def test_modes(tmp_path: Path, medium: str, group: int | None, mode: int) -> None:
    clock = FakeClock()
    objects = ObjectVolumes(FakeClient(clock=clock), clock, allocatable=dict, host_ip="10.0.0.1")
    manager = VolumeManager(str(tmp_path / "root"), objects, memory_dir=str(tmp_path / "memory"))
    context = {} if group is None else {"fsGroup": group}
    pod: dict[str, Any] = {
        "metadata": {"uid": "u", "name": "p"},
        "spec": {"volumes": [{"name": "v", "emptyDir": {"medium": medium}}],
                 "securityContext": context},
    }  # fmt: skip
    mounted = await manager.mount(pod)
    assert stat.S_IMODE(os.stat(mounted["v"].host_path).st_mode) == mode
    await manager.unmount(pod)
    assert not list((tmp_path / "root").glob("pods/u*")) and not list(
        (tmp_path / "memory").glob("*/u")
    )
