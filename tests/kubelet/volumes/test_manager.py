"""emptyDir on disk and in memory."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

import pytest

from pilothouse.apimachinery.testing import FakeClock
from pilothouse.kubeclient.testing import FakeClient
from pilothouse.kubelet.interfaces import ContainerConfigError, MountedVolume
from pilothouse.kubelet.runtime.interfaces import Mount
from pilothouse.kubelet.volumes.manager import VolumeManager
from pilothouse.kubelet.volumes.projected import ObjectVolumes


@pytest.mark.parametrize(
    ("medium", "group", "mode"),
    [("", None, 0o777), ("", os.getgid(), 0o2777), ("Memory", None, 0o1777),
     ("Memory", os.getgid(), 0o3777)],
)  # fmt: skip
async def test_modes(tmp_path: Path, medium: str, group: int | None, mode: int) -> None:
    manager = a_manager(tmp_path)
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


def a_manager(tmp_path: Path, **options: Any) -> VolumeManager:
    clock = FakeClock()
    objects = ObjectVolumes(FakeClient(clock=clock), clock, allocatable=dict, host_ip="10.0.0.1")
    root, memory = str(tmp_path / "root"), str(tmp_path / "memory")
    return VolumeManager(root, objects, memory_dir=memory, **options)


class Tmpfs:
    def __init__(self) -> None:
        self.mounted: list[tuple[int, int, int]] = []

    async def mount_tmpfs(
        self, path: str, size: int = 0, mode: int = 0o777, group: int = 0
    ) -> None:
        assert path.endswith("/v")
        self.mounted.append((size, mode, group))

    async def show_mount(self, path: str) -> None:
        raise AssertionError("no device")

    async def unmount(self, path: str) -> None:
        raise AssertionError("nothing is mounted")


@pytest.mark.parametrize(
    ("limit", "memory", "size"),
    [("1Mi", None, 1 << 20), (None, "2Mi", 2 << 20), ("3Mi", "2Mi", 2 << 20), (None, None, 4 << 20),
     ("0", None, 4 << 20)],
)  # fmt: skip
async def test_a_volume_in_memory_is_as_large_as_it_may_be(
    tmp_path: Path, limit: str | None, memory: str | None, size: int
) -> None:
    tmpfs = Tmpfs()
    manager = a_manager(tmp_path, memory=tmpfs, node_memory=4 << 20)
    empty_dir = {"medium": "Memory"} | ({"sizeLimit": limit} if limit else {})
    pod: dict[str, Any] = {
        "metadata": {"uid": "u", "name": "p"},
        "spec": {"volumes": [{"name": "v", "emptyDir": empty_dir}], "containers": [{"name": "c"}],
                 "securityContext": {"fsGroup": 7}},
    }  # fmt: skip
    if memory:
        pod["spec"]["containers"][0]["resources"] = {"limits": {"memory": memory}}
    await manager.mount(pod)
    assert tmpfs.mounted == [(size, 0o3777, 7)]
    await manager.unmount(pod)


async def mounts_of(manager: VolumeManager, volume: Path, sub_path: str) -> Mount:
    container = {"name": "c", "volumeMounts": [
        {"name": "v", "mountPath": "/v", "subPath": sub_path}]}  # fmt: skip
    pod = {"metadata": {"uid": "u", "name": "p", "namespace": "n"}, "spec": {}}
    volumes = {"v": MountedVolume(str(volume))}
    mounts = await manager.container_mounts(pod, container, volumes, "", 0)
    return next(mount for mount in mounts if mount.container_path == "/v")


async def test_a_sub_path_is_made_and_told_with_its_volume(tmp_path: Path) -> None:
    volume = tmp_path / "data"
    volume.mkdir(mode=0o750)
    mount = await mounts_of(a_manager(tmp_path), volume, "a/b")
    assert (mount.host_path, mount.within) == (str(volume / "a/b"), str(volume))
    assert stat.S_IMODE((volume / "a/b").stat().st_mode) == 0o750


@pytest.mark.parametrize("target", ["../data-of-others", "/etc", ".."])
@pytest.mark.parametrize("sub_path", ["link", "link/made/here"])
async def test_a_link_out_of_the_volume_is_refused_and_nothing_made_there(
    tmp_path: Path, target: str, sub_path: str
) -> None:
    volume, other = tmp_path / "data", tmp_path / "data-of-others"
    volume.mkdir()
    other.mkdir()
    (volume / "link").symlink_to(target)
    with pytest.raises(ContainerConfigError, match="leads out of the volume"):
        await mounts_of(a_manager(tmp_path), volume, sub_path)
    assert not list(other.iterdir())
