"""Static pods: what files of a folder become."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from pilothouse.kubeclient.interfaces import DeleteOptions
from pilothouse.kubeclient.resources import PODS
from pilothouse.kubelet.static_pods import StaticPods, difference, read_manifests, wanted

from .test_kubelet import World, running

NODE = {"metadata": {"name": "n1", "uid": "node-uid"}}


def manifest(name: str = "web", image: str = "nginx") -> dict[str, Any]:
    return {
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name},
        "spec": {"containers": [{"name": "c", "image": image}],
                 "terminationGracePeriodSeconds": 1},
    }  # fmt: skip


def test_only_pods_are_read(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(yaml.safe_dump(manifest("a")))
    (tmp_path / ".hidden.yaml").write_text(yaml.safe_dump(manifest("hidden")))
    (tmp_path / "b.yaml").write_text("kind: [")
    (tmp_path / "c.yaml").write_text("apiVersion: v1\nkind: Service\nmetadata: {name: s}")
    (tmp_path / "d").mkdir()
    assert [m["metadata"]["name"] for m in read_manifests(str(tmp_path))] == ["a"]
    assert read_manifests(str(tmp_path / "nowhere")) == []


def test_a_mirror_pod_is_its_nodes() -> None:
    pod = wanted(manifest() | {"status": {"phase": "Failed"}}, NODE)
    metadata = pod["metadata"]
    assert (metadata["name"], metadata["namespace"]) == ("web-n1", "default")
    assert metadata["ownerReferences"][0]["uid"] == "node-uid"
    assert "status" not in pod and pod["spec"]["nodeName"] == "n1"
    assert pod["spec"]["tolerations"] == [{"operator": "Exists", "effect": "NoExecute"}]
    hashes = {wanted(manifest(image=i), NODE)["metadata"]["annotations"][
        "kubernetes.io/config.mirror"] for i in ("a", "b", "a")}  # fmt: skip
    assert len(hashes) == 2


def test_what_is_to_be_made_and_deleted() -> None:
    old, new = wanted(manifest(image="a"), NODE), wanted(manifest(image="b"), NODE)
    other = {"metadata": {"name": "x", "namespace": "default"}}
    assert difference([new], [], [other]) == ([new], [])
    assert difference([new], [], [old, other]) == ([new], [old])
    assert difference([new], [new], [new]) == ([], [])
    assert difference([], [old], [old, other]) == ([], []), "until its pod has ended"
    assert difference([], [], [old, other]) == ([], [old])
    old["metadata"]["deletionTimestamp"] = "now"
    assert difference([old], [old], [old]) == ([old], [old])


class Folder:
    def __init__(self, world: World, path: Path) -> None:
        self.world, self.path = world, path
        path.mkdir()
        world.kubelet.mirrors.static = StaticPods(
            world.client, str(path), lambda: world.kubelet.registration.node, world.kubelet.mirrors
        )

    def put(self, image: str = "nginx", node_name: str = "web") -> None:
        (self.path / "web.yaml").write_text(yaml.safe_dump(manifest(node_name, image)))

    async def look(self) -> dict[str, Any] | None:
        assert self.world.kubelet.mirrors.static is not None
        await self.world.kubelet.mirrors.static.look()
        await self.world.settle()
        await self.world.later(2)
        return self.mirror()

    def mirror(self) -> dict[str, Any] | None:
        return self.world.client.current(PODS, "web-n1", "default")

    def container(self) -> str:
        mirror = self.mirror()
        assert mirror is not None
        return str(mirror["status"]["containerStatuses"][0]["containerID"])


async def test_pods_follow_their_files(tmp_path: Path) -> None:
    async with running(tmp_path) as world:
        folder = Folder(world, tmp_path / "manifests")
        assert await folder.look() is None
        folder.put()
        first = await folder.look()
        assert first is not None and first["status"]["phase"] == "Running"
        (pod,) = world.kubelet.pods()
        assert pod["metadata"]["uid"] == first["metadata"]["annotations"][
            "kubernetes.io/config.hash"], "what runs has the uid of its manifest"  # fmt: skip
        assert await folder.look() == folder.mirror()
        folder.put(image="httpd")
        await folder.look()
        second = await folder.look()
        assert second is not None and second["metadata"]["uid"] != first["metadata"]["uid"]
        assert second["spec"]["containers"][0]["image"] == "httpd"
        assert second["status"]["phase"] == "Running"
        (folder.path / "web.yaml").unlink()
        await folder.look()
        assert await folder.look() is None
        assert world.kubelet.pods() == []
        assert await world.runtime.list_containers() == []


@pytest.mark.parametrize("grace", [None, 0])
async def test_a_deleted_mirror_comes_back_and_its_pod_goes_on(
    tmp_path: Path, grace: int | None
) -> None:
    async with running(tmp_path) as world:
        folder = Folder(world, tmp_path / "manifests")
        folder.put()
        first = await folder.look()
        assert first is not None
        container = folder.container()
        started = first["status"]["startTime"]
        world.clock.advance(100)
        await world.client.delete(
            PODS, "web-n1", "default", DeleteOptions(grace_period_seconds=grace)
        )
        await world.settle()
        await world.later(2)
        second = folder.mirror()
        assert second is not None and second["metadata"]["uid"] != first["metadata"]["uid"]
        assert "deletionTimestamp" not in second["metadata"]
        assert folder.container() == container
        assert second["status"]["startTime"] == started
        assert second["status"]["containerStatuses"][0]["restartCount"] == 0


async def test_a_mirror_of_nothing_is_not_run_and_goes(tmp_path: Path) -> None:
    mirror = wanted(manifest(), NODE)
    async with running(tmp_path, mirror) as world:
        assert await world.runtime.list_pod_sandboxes() == []
        folder = Folder(world, tmp_path / "manifests")
        assert await folder.look() is None
