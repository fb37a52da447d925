"""PVC volumes of a pod: what must hold before they are mounted, and who owns the files."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

import pytest

from pilothouse.apimachinery.testing import FakeClock, make_object, make_pod
from pilothouse.kubeclient.testing import FakeClient
from pilothouse.kubelet.interfaces import MountError
from pilothouse.kubelet.volumes.claims import (
    ClaimedVolume,
    ClaimVolumes,
    prepare_block,
    prepare_claimed,
    set_group,
)

PROVISIONED = {"pv.kubernetes.io/provisioned-by": "pilothouse.dev/local-path"}


def claim(**fields: Any) -> dict[str, Any]:
    made = make_object("v1", "PersistentVolumeClaim", "c", "default", spec={"volumeName": "v"})
    made["metadata"]["uid"] = "claim-uid"
    return made | {"status": {"phase": "Bound"}} | fields


def volume(uid: str = "claim-uid", **spec: Any) -> dict[str, Any]:
    made = make_object("v1", "PersistentVolume", "v", spec=spec)
    made["spec"]["claimRef"] = {"namespace": "default", "name": "c", "uid": uid}
    return made


def pod(**source: Any) -> dict[str, Any]:
    made = make_pod("p")
    made["metadata"]["uid"] = "pod-uid"
    made["spec"]["volumes"] = [
        {"name": "data", "persistentVolumeClaim": {"claimName": "c", **source}}
    ]
    return made


async def find(target: dict[str, Any], *objects: dict[str, Any]) -> ClaimedVolume | None:
    client = FakeClient(clock=FakeClock())
    for obj in objects:
        client.seed(obj)
    return await ClaimVolumes(client).find(target, target["spec"]["volumes"][0])


async def test_bound_claim() -> None:
    found = await find(pod(readOnly=True), claim(), volume(hostPath={"path": "/x"}))
    assert found is not None and found.readonly
    assert found.volume["metadata"]["name"] == "v"


async def test_other_volumes_are_nobodys_business_here() -> None:
    other = make_pod("p")
    other["spec"]["volumes"] = [{"name": "e", "emptyDir": {}}]
    assert await find(other) is None


@pytest.mark.parametrize(
    ("objects", "message"),
    [
        ([], "failed to fetch PVC from API server"),
        ([claim(status={"phase": "Pending"})], "PVC is not bound"),
        ([claim(spec={})], "PVC has empty pvc.Spec.VolumeName"),
        ([claim()], "failed to fetch PV v from API server"),
        ([claim(), volume("other")], "does not point to claim.UID claim-uid"),
    ],
)
async def test_what_is_in_the_way(objects: list[Any], message: str) -> None:
    with pytest.raises(MountError, match=message):
        await find(pod(), *objects)


@pytest.mark.parametrize(
    ("mode", "use"), [("Block", "volumeMounts"), ("Filesystem", "volumeDevices")]
)
async def test_containers_use_the_volume_as_what_it_is(mode: str, use: str) -> None:
    target = pod()
    target["spec"]["containers"][0][use] = [{"name": "data"}]
    with pytest.raises(MountError, match=f"has volumeMode {mode}, but is specified in {use}"):
        await find(target, claim(), volume(volumeMode=mode))


def test_only_local_devices_are_block_volumes(tmp_path: Path) -> None:
    with pytest.raises(MountError, match="is not a block device"):
        prepare_block(ClaimedVolume(volume(local={"path": str(tmp_path)}), False))
    with pytest.raises(MountError, match="no volume plugin matched"):
        prepare_block(ClaimedVolume(volume(nfs={"path": "/x"}), False))


async def test_ephemeral_claim_must_be_the_pods_own() -> None:
    mine = pod()
    mine["spec"]["volumes"] = [{"name": "e", "ephemeral": {}}]
    foreign = claim()
    foreign["metadata"]["name"] = "p-e"
    with pytest.raises(MountError, match="was not created for pod default/p"):
        await find(mine, foreign)


def prepared(volume_object: dict[str, Any], **security: Any) -> str:
    return prepare_claimed(ClaimedVolume(volume_object, False), security).host_path


def test_local_path_is_made_for_everybody(tmp_path: Any) -> None:
    made = volume(hostPath={"path": str(tmp_path / "a" / "b")})
    made["metadata"]["annotations"] = PROVISIONED
    path = prepared(made, fsGroup=4321)
    status = os.stat(path)
    assert status.st_gid == 4321 and stat.S_IMODE(status.st_mode) == 0o2777


def test_administrators_host_paths_keep_their_owner(tmp_path: Any) -> None:
    before = os.stat(tmp_path).st_gid
    prepared(volume(hostPath={"path": str(tmp_path)}), fsGroup=4321)
    assert os.stat(tmp_path).st_gid == before


def test_local_volume_must_be_there(tmp_path: Any) -> None:
    assert prepared(volume(local={"path": str(tmp_path)})) == str(tmp_path)
    with pytest.raises(MountError, match="does not exist"):
        prepared(volume(local={"path": str(tmp_path / "missing")}))


def test_volumes_that_need_a_driver() -> None:
    with pytest.raises(MountError, match="volumes of kind csi need a driver"):
        prepared(volume(csi={"driver": "d"}))


def test_group_owns_what_is_below_but_not_what_links_point_at(tmp_path: Any) -> None:
    inside, outside = tmp_path / "volume", tmp_path / "outside"
    (inside / "sub").mkdir(parents=True)
    outside.mkdir()
    file = inside / "sub" / "file"
    file.write_text("x")
    file.chmod(0o600)
    (inside / "link").symlink_to(outside)
    before = os.stat(outside)
    set_group(str(inside), 4321)
    assert os.stat(file).st_gid == 4321 and stat.S_IMODE(os.stat(file).st_mode) == 0o660
    assert os.stat(inside / "sub").st_mode & stat.S_ISGID
    assert os.stat(outside) == before
    file.chmod(0o600)
    set_group(str(inside), 4321, only_if_different=True)
    assert stat.S_IMODE(os.stat(file).st_mode) == 0o600, "the root is right: nothing is touched"


def test_group_owns_the_folder_that_a_volume_is_a_link_to(tmp_path: Any) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    (tmp_path / "volume").symlink_to(folder)
    set_group(str(tmp_path / "volume"), 4321)
    assert os.stat(folder).st_gid == 4321 and os.stat(folder).st_mode & stat.S_ISGID
