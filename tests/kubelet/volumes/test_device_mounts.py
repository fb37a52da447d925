"""Filesystems on local devices, with a real loop device in a mount namespace of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pilothouse.apimachinery.testing import FakeClock, make_object
from pilothouse.kubeclient.resources import PERSISTENT_VOLUME_CLAIMS
from pilothouse.kubeclient.testing import FakeClient
from pilothouse.kubelet.volumes.claims import ClaimedVolume
from pilothouse.kubelet.volumes.device_mounts import DeviceMounts, is_device
from pilothouse.kubelet.volumes.expansion import expand, grown_status, is_due

SCRIPT = """
import asyncio, os, subprocess, sys
from pilothouse.kubelet.volumes.device_mounts import DeviceMounts, is_device
from pilothouse.kubelet.interfaces import MountError

root = sys.argv[1]
disk = f"{root}/disk"
def truncate(size):
    with open(disk, "ab") as file:
        file.truncate(size)
truncate(8 << 20)
device = subprocess.check_output(["losetup", "-f", "--show", disk], text=True).strip()
assert is_device(device) and not is_device(disk)
volume = {"metadata": {"name": "v"}, "spec": {"local": {"path": device}}}
def size(path):
    return os.statvfs(path).f_blocks * os.statvfs(path).f_frsize
with open("/proc/self/status") as file:  # the kernel wants CAP_SYS_RESOURCE
    may_resize = any(l.startswith("CapEff") and int(l.split()[1], 16) >> 24 & 1 for l in file)
async def main():
    devices = DeviceMounts(root, None)
    path = await devices.mount(volume, "one", readonly=False)
    assert await devices.mount(volume, "two", readonly=False) == path
    assert os.path.ismount(path)
    with open(f"{path}/kept", "w") as file:
        file.write("x")
    await devices.release("one")
    assert devices.uses("two") and not devices.uses("one") and os.path.ismount(path)
    before = size(path)
    truncate(16 << 20)
    subprocess.check_call(["losetup", "-c", device])
    if may_resize:
        await devices.grow(volume)
        assert size(path) > before * 1.5, (before, size(path))
    else:
        try:
            await devices.grow(volume)
        except MountError as error:
            assert "resize2fs" in str(error)
    await devices.release("two")
    assert not os.path.ismount(path)
    assert await devices.mount(volume, "three", readonly=True) == path  # not made anew
    assert os.listdir(path).count("kept") == 1 and os.statvfs(path).f_flag & os.ST_RDONLY
    await devices.release("three")
try:
    asyncio.run(main())
finally:
    subprocess.run(["losetup", "-d", device])
print("done")
"""


@pytest.mark.root
@pytest.mark.skipif(
    os.geteuid() != 0 or not os.path.exists("/dev/loop-control")
    or not all(map(shutil.which, ("unshare", "losetup", "mkfs.ext4", "blkid", "resize2fs"))),
    reason="needs root, loop devices and e2fsprogs",
)  # fmt: skip
def test_a_filesystem_is_made_shared_grown_and_kept(tmp_path: Path) -> None:
    command = ["unshare", "--mount", sys.executable, "-c", SCRIPT, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout.endswith("done\n"), done.stderr


class Grown(DeviceMounts):
    def __init__(self) -> None:
        super().__init__("/nowhere", None)
        self.count = 0

    async def grow(self, volume: object) -> None:
        self.count += 1


async def test_the_claim_is_told_when_its_filesystem_has_grown() -> None:
    claim = make_object("v1", "PersistentVolumeClaim", "c", "default")
    claim["spec"] = {"resources": {"requests": {"storage": "20Mi"}}}
    claim["status"] = {
        "capacity": {"storage": "10Mi"},
        "allocatedResourceStatuses": {"storage": "NodeResizePending"},
        "conditions": [{"type": "FileSystemResizePending", "status": "True"}],
    }
    volume = make_object("v1", "PersistentVolume", "v", spec={"capacity": {"storage": "15Mi"}})
    client = FakeClient(claim, clock=FakeClock())
    devices = Grown()
    args = (client, "default", "c", ClaimedVolume(volume, False), devices)
    assert not await expand(*args)  # not yet all that it wants
    volume["spec"]["capacity"]["storage"] = "20Mi"
    assert await expand(*args)
    live = client.current(PERSISTENT_VOLUME_CLAIMS, "c", "default")
    assert live is not None and live["status"] == {"capacity": {"storage": "20Mi"}}
    assert not await expand(*args)
    assert devices.count == 1


def test_conditions_of_others_stay() -> None:
    claim = {"status": {"conditions": [{"type": "Resizing"}, {"type": "ModifyingVolume"}]}}
    volume = {"spec": {"capacity": {"storage": "1Gi"}}}
    assert grown_status(claim, volume)["conditions"] == [{"type": "ModifyingVolume"}]
    assert is_due({"spec": {}}, volume)
    assert not is_device("/dev/null") and not is_device("/nowhere")
