"""The store of one machine: names, garbage, leases, other processes; archives; built-in images."""

from __future__ import annotations

import hashlib
import io
import json
import os
import tarfile
import time
from pathlib import Path
from typing import Any

import pytest

from pilothouse.kubelet.images.archive import ImportFailed, import_images
from pilothouse.kubelet.images.builtin import BUSYBOX_NAME, NoBusybox, ensure_builtin_images
from pilothouse.kubelet.images.layout import machine_architecture
from pilothouse.kubelet.images.store import YOUNG, ImageStore
from pilothouse.kubelet.images.unpack import DamagedLayer


def digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def layer(name: str, text: str = "x") -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        member = tarfile.TarInfo(name)
        member.size = len(text)
        archive.addfile(member, io.BytesIO(text.encode()))
    return buffer.getvalue()


def config(*layers: bytes, **run: Any) -> bytes:
    document = {
        "architecture": machine_architecture(),
        "os": "linux",
        "config": run,
        "rootfs": {"type": "layers", "diff_ids": [digest(item) for item in layers]},
    }
    return json.dumps(document).encode()


def add(store: ImageStore, *layers: bytes, names: tuple[str, ...] = ()) -> str:
    for item in layers:
        store.add_layer(io.BytesIO(item), digest(item))
    return store.add_image(config(*layers), size=10, names=names)


@pytest.fixture
def store(tmp_path: Path) -> ImageStore:
    return ImageStore(str(tmp_path / "store"))


def test_a_name_moves_to_the_newer_image(store: ImageStore) -> None:
    first = add(store, layer("a"), names=("docker.io/library/x:latest",))
    second = add(store, layer("b"), names=("docker.io/library/x:latest",))
    found = store.find("x")
    assert found is not None
    assert found.id == second
    assert store.find(first) is not None
    assert store.image(store.find(first)).repo_tags == ()


def test_nobody_else_can_start_what_is_in_the_images(store: ImageStore) -> None:
    assert os.stat(store.directory).st_mode & 0o077 == 0


def test_removal_keeps_shared_and_leased_layers(store: ImageStore) -> None:
    shared, own, used = layer("shared"), layer("own"), layer("used")
    add(store, shared, own, used, names=("docker.io/library/a:1", "docker.io/library/a:2"))
    add(store, shared, names=("docker.io/library/b:1",))
    store.lease("container", [digest(used)])
    assert store.remove("a:1")
    assert store.find("a:2") is not None
    assert store.remove("a:2")
    assert not store.remove("a:2")
    assert [store.has_layer(digest(item)) for item in (shared, own, used)] == [True, False, True]
    store.release("container")
    os.utime(store.layer_path(digest(used)), (0, time.time() - 2 * YOUNG))
    assert store.collect_garbage() == 1
    assert not store.has_layer(digest(used))


def test_a_lease_ends_with_its_owners_directory(store: ImageStore, tmp_path: Path) -> None:
    (tmp_path / "container").mkdir()
    store.lease("c", [digest(b"x")], str(tmp_path / "container"))
    assert store.leases() == {"c": [digest(b"x")]}
    (tmp_path / "container").rmdir()
    assert store.leases() == {}
    assert os.listdir(f"{store.directory}/leases") == []


def test_a_pull_under_way_is_no_garbage(store: ImageStore) -> None:
    young = layer("young")
    store.add_layer(io.BytesIO(young), digest(young))
    assert store.collect_garbage() == 0
    assert store.has_layer(digest(young))


def test_two_stores_on_one_directory_see_each_other(store: ImageStore) -> None:
    other = ImageStore(store.directory)
    assert other.records() == []
    add(store, layer("a"), names=("docker.io/library/x:1",))
    assert other.find("x:1") is not None
    other.remove("x:1")
    assert store.find("x:1") is None


def test_wrong_content_is_refused(store: ImageStore) -> None:
    with pytest.raises(DamagedLayer, match="has the content of"):
        store.add_layer(io.BytesIO(layer("a")), digest(b"other"))
    assert os.listdir(f"{store.directory}/layers") == []
    assert os.listdir(f"{store.directory}/incoming") == []
    with pytest.raises(DamagedLayer, match="is missing"):
        store.add_image(config(layer("never")), size=1, names=())
    with pytest.raises(DamagedLayer, match="not an image config"):
        store.add_image(b"[]", size=1, names=())


def test_a_damaged_index_says_what_to_do(store: ImageStore) -> None:
    Path(store.directory, "index.json").write_text("{")
    with pytest.raises(DamagedLayer, match="remove the directory"):
        store.records()


# --- archives


def tar_of(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def docker_archive() -> dict[str, bytes]:
    content = layer("hello", "docker")
    manifest = [{"Config": "c.json", "RepoTags": ["team/app:1"], "Layers": ["l/layer.tar"]}]
    return {
        "c.json": config(content, Cmd=["x"]),
        "l/layer.tar": content,
        "manifest.json": json.dumps(manifest).encode(),
    }


def oci_layout(name: str = "docker.io/team/app:1") -> dict[str, bytes]:
    content = layer("hello", "oci")
    raw = config(content)
    files = {"oci-layout": b'{"imageLayoutVersion":"1.0.0"}'}

    def blob(data: bytes, media_type: str) -> dict[str, Any]:
        files[f"blobs/sha256/{hashlib.sha256(data).hexdigest()}"] = data
        return {"mediaType": media_type, "digest": digest(data), "size": len(data)}

    manifest = {
        "schemaVersion": 2,
        "config": blob(raw, "application/vnd.oci.image.config.v1+json"),
        "layers": [blob(content, "application/vnd.oci.image.layer.v1.tar")],
    }
    entry = blob(json.dumps(manifest).encode(), "application/vnd.oci.image.manifest.v1+json")
    entry["annotations"] = {"org.opencontainers.image.ref.name": name}
    index = {"schemaVersion": 2, "manifests": [entry]}
    return {**files, "index.json": json.dumps(index).encode()}


@pytest.mark.parametrize("kind", ["docker file", "docker stream", "oci file", "oci directory"])
def test_imports(store: ImageStore, tmp_path: Path, kind: str) -> None:
    files = docker_archive() if "docker" in kind else oci_layout()
    source: Any = str(tmp_path / "image")
    if "directory" in kind:
        for name, content in files.items():
            path = tmp_path / "image" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
    elif "stream" in kind:
        source = io.BytesIO(tar_of(files))
    else:
        Path(source).write_bytes(tar_of(files))
    ((image_id, names),) = import_images(store, source)
    assert "docker.io/team/app:1" in names
    record = store.find("team/app:1")
    assert record is not None
    assert record.id == image_id
    assert Path(store.layer_paths(record)[0], "hello").read_text() == kind.split()[0]


def test_an_archive_without_a_name_can_be_given_one(store: ImageStore) -> None:
    source = io.BytesIO(tar_of(oci_layout("1.0")))
    assert import_images(store, source)[0][1] == ()
    source.seek(0)
    names = import_images(store, source, name="mine:2")[0][1]
    assert "docker.io/library/mine:2" in names


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"x": b""}, "neither index.json"),
        ({**docker_archive(), "l/layer.tar": layer("other")}, "has the content of"),
        ({**docker_archive(), "manifest.json": b"{"}, "malformed"),
        ({**docker_archive(), "manifest.json": b"[{}]"}, "malformed"),
        ({**docker_archive(), "manifest.json": b"[]"}, "no image"),
        ({k: v for k, v in docker_archive().items() if k != "c.json"}, "c.json is missing"),
        ({**oci_layout(), "index.json": b'{"manifests":[{"digest":"../../x"}]}'}, "damaged"),
        (
            {k: (b"{}" if "blobs" in k else v) for k, v in oci_layout().items()},
            "does not have its digest",
        ),
    ],
)
def test_bad_archives(store: ImageStore, files: dict[str, bytes], message: str) -> None:
    with pytest.raises(ImportFailed, match=message):
        import_images(store, io.BytesIO(tar_of(files)))
    assert store.records() == []


def test_no_archive_at_all(store: ImageStore, tmp_path: Path) -> None:
    with pytest.raises(ImportFailed, match="not an image archive"):
        import_images(store, io.BytesIO(b"hello"))
    with pytest.raises(ImportFailed, match="cannot read"):
        import_images(store, str(tmp_path / "missing.tar"))


def test_built_in_images_are_made_once(store: ImageStore) -> None:
    try:
        names = ensure_builtin_images(store)
    except NoBusybox:
        pytest.skip("no static busybox on this machine")
    assert BUSYBOX_NAME in names
    record = store.find("busybox")
    assert record is not None
    root = store.layer_paths(record)[0]
    assert os.path.samefile(f"{root}/bin/sh", f"{root}/bin/busybox")
    stamp = os.stat(f"{store.directory}/index.json").st_mtime_ns
    ensure_builtin_images(store)
    assert os.stat(f"{store.directory}/index.json").st_mtime_ns == stamp
