"""Static pods: what files of a folder become."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

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
    assert difference([new], [other]) == ([new], [])
    assert difference([new], [old, other]) == ([], [old])
    assert difference([new], [new]) == ([], [])
    assert difference([], [old, other]) == ([], [old])
    old["metadata"]["deletionTimestamp"] = "now"
    assert difference([new], [old]) == ([], [])


async def test_pods_follow_their_files(tmp_path: Path) -> None:
    folder = tmp_path / "manifests"
    folder.mkdir()
    async with running(tmp_path) as world:
        static = StaticPods(
            world.client, str(folder), lambda: world.kubelet.registration.node, world.kubelet.pods
        )

        async def look() -> dict[str, Any] | None:
            await static.look()
            await world.settle()
            await world.later(2)
            return world.client.current(PODS, "web-n1", "default")

        assert await look() is None
        (folder / "web.yaml").write_text(yaml.safe_dump(manifest()))
        first = await look()
        assert first is not None and first["status"]["phase"] == "Running"
        same = await look()
        assert same is not None and same["metadata"]["uid"] == first["metadata"]["uid"]
        (folder / "web.yaml").write_text(yaml.safe_dump(manifest(image="httpd")))
        await look()
        second = await look()
        assert second is not None and second["metadata"]["uid"] != first["metadata"]["uid"]
        assert second["spec"]["containers"][0]["image"] == "httpd"
        (folder / "web.yaml").unlink()
        assert await look() is None
        assert _images(world) == []


def _images(world: World) -> list[str]:
    return [pod["metadata"]["name"] for pod in world.kubelet.pods()]
