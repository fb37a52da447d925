"""Pulling for real from a registry on loopback (``registry_server.py``)."""

from __future__ import annotations

import importlib.util
import json
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pilothouse.apimachinery.clock import RealClock
from pilothouse.kubelet.images.layout import machine_architecture
from pilothouse.kubelet.images.registry import RegistryClient, endpoint
from pilothouse.kubelet.images.registry_auth import parse_challenge
from pilothouse.kubelet.images.service import LocalImageService
from pilothouse.kubelet.images.store import ImageStore
from pilothouse.kubelet.runtime.errors import ImagePullError
from pilothouse.kubelet.runtime.interfaces import PullAuth

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

_spec = importlib.util.spec_from_file_location(
    "registry_server", Path(__file__).with_name("registry_server.py")
)
assert _spec and _spec.loader
server = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(server)

ARCHITECTURE = machine_architecture()
BASE = server.layer({"etc/": "", "etc/os": "base", "old": "gone soon"})
TOP = server.layer({"etc/": "", "etc/app": "top", ".wh.old": ""})


def text_of(*parts: str) -> str:
    return Path(*parts).read_text()


def write(path: str, data: bytes) -> None:
    Path(path).write_bytes(data)


@pytest.fixture
def registry() -> Iterator[server.Registry]:
    with server.Registry() as running:
        yield running


@pytest.fixture
async def images(tmp_path: Path) -> AsyncIterator[LocalImageService]:
    service = LocalImageService(ImageStore(str(tmp_path)), RegistryClient(RealClock()))
    yield service
    await service.close()


async def test_an_image_is_pulled_unpacked_and_found_by_every_name(registry, images) -> None:
    digest = registry.add("team/app", "v1", [BASE, TOP], {"User": "1000"})
    name = f"{registry.host}/team/app"
    image_id = await images.pull_image(f"{name}:v1", None)
    for text in (f"{name}:v1", f"{name}@{digest}", image_id, image_id.removeprefix("sha256:")):
        image = await images.image_status(text)
        assert image is not None, text
        assert image.id == image_id
    assert (image.user, image.repo_tags) == ("1000", (f"{name}:v1",))
    assert image.repo_digests == (f"{name}@{digest}",)
    lower, upper = images.store.layer_paths(images.store.find(image_id))
    assert text_of(lower, "etc/os") == "base"
    assert text_of(upper, "etc/app") == "top"
    if os.geteuid() == 0:
        assert stat.S_ISCHR(os.stat(f"{upper}/old").st_mode)
    assert await images.image_status(f"{name}:v2") is None


async def test_shared_layers_are_downloaded_once(registry, images) -> None:
    registry.add("a", "1", [BASE])
    registry.add("b", "1", [BASE, TOP])
    await images.pull_image(f"{registry.host}/a:1", None)
    before = len(registry.requests)
    await images.pull_image(f"{registry.host}/b:1", None)
    assert len([r for r in registry.requests[before:] if "/blobs/" in r]) == 2  # config and TOP


async def test_an_index_gives_this_machines_image(registry, images) -> None:
    ours = registry.add("multi", "ours", [BASE], architecture=ARCHITECTURE)
    other = registry.add("multi", "other", [TOP], architecture="s390x")
    digest = registry.add_index("multi", "latest", {"s390x": other, ARCHITECTURE: ours})
    image_id = await images.pull_image(f"{registry.host}/multi", None)
    assert images.store.config(image_id)["architecture"] == ARCHITECTURE
    image = await images.image_status(f"{registry.host}/multi@{digest}")
    assert image is not None
    registry.add_index("multi", "foreign", {"s390x": other})
    with pytest.raises(
        ImagePullError, match=f"no match for platform in manifest: linux/{ARCHITECTURE}"
    ):
        await images.pull_image(f"{registry.host}/multi:foreign", None)


async def test_a_broken_download_goes_on_where_it_stopped(registry, images) -> None:
    big = server.layer({"big": os.urandom(300_000).hex()})
    digest = registry.add("app", "1", [big])
    manifest = json.loads(registry.manifests["app", digest][1])
    await images.pull_image(f"{registry.host}/app:1", None)
    path = images.store.incoming_path(manifest["layers"][0]["digest"])
    await images.remove_image(f"{registry.host}/app:1")
    await images.remove_image(f"{registry.host}/app@{digest}")
    half = registry.blobs[manifest["layers"][0]["digest"]][:200_000]
    write(path, half)
    image_id = await images.pull_image(f"{registry.host}/app:1", None)
    assert images.store.layer_paths(images.store.find(image_id))


async def test_a_connection_that_breaks_off_is_retried(registry, images) -> None:
    from pilothouse.kubelet.images import registry as module

    registry.add("app", "1", [server.layer({"big": os.urandom(200_000).hex()})])
    real_pull = module._Pull.download
    calls = []

    async def download(self, wanted, path):
        calls.append(path)
        if len(calls) == 1:
            registry.cut_after = 50_000
        await real_pull(self, wanted, path)

    module._Pull.download = download
    try:
        await images.pull_image(f"{registry.host}/app:1", None)
    finally:
        module._Pull.download = real_pull
    assert len(calls) == 2


async def test_tokens_and_passwords(images) -> None:
    for bearer in (True, False):
        with server.Registry(user="me", password="secret", bearer=bearer) as registry:
            registry.add("app", "1", [BASE])
            name = f"{registry.host}/app:1"
            with pytest.raises(ImagePullError, match="pull access denied"):
                await images.pull_image(name, None)
            with pytest.raises(ImagePullError, match="pull access denied"):
                await images.pull_image(name, PullAuth("me", "wrong"))
            assert await images.pull_image(name, PullAuth("me", "secret"))
    with server.Registry(bearer=True) as registry:  # anonymous tokens, as Docker Hub gives
        registry.add("app", "1", [TOP])
        assert await images.pull_image(f"{registry.host}/app:1", None)


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("{host}/app:nope", "not found"),
        ("{host}/missing", "not found"),
        ("{host}/UPPER", "repository name must be lowercase"),
        ("{host}/app@sha256:12", "invalid reference format"),
    ],
)
async def test_what_is_not_there_is_said(registry, images, reference, message) -> None:
    registry.add("app", "1", [BASE])
    with pytest.raises(ImagePullError, match=message):
        await images.pull_image(reference.format(host=registry.host), None)


async def test_a_dead_registry_is_said(images) -> None:
    with pytest.raises(ImagePullError, match="failed to do request"):
        await images.pull_image("127.0.0.1:1/app", None)


async def test_wrong_content_is_refused(registry, images) -> None:
    digest = registry.add("app", "1", [BASE])
    manifest = json.loads(registry.manifests["app", digest][1])
    registry.blobs[manifest["config"]["digest"]] = b'{"rootfs":{"diff_ids":[]}}'
    with pytest.raises(ImagePullError, match="does not have its digest"):
        await images.pull_image(f"{registry.host}/app:1", None)
    registry.manifests["app", digest] = (manifest["mediaType"], b"{}")
    with pytest.raises(ImagePullError, match="manifest has digest"):
        await images.pull_image(f"{registry.host}/app@{digest}", None)
    assert images.store.records() == []


async def test_a_layer_that_is_not_what_the_config_promises_is_refused(registry, images) -> None:
    registry.add("app", "1", [BASE])
    _, raw = registry.manifests["app", "1"]
    manifest = json.loads(raw)
    config = json.loads(registry.blobs[manifest["config"]["digest"]])
    config["rootfs"]["diff_ids"] = [server.digest_of(b"other")]
    blob = json.dumps(config).encode()
    registry.blobs[server.digest_of(blob)] = blob
    manifest["config"] |= {"digest": server.digest_of(blob), "size": len(blob)}
    registry.put("app", "1", manifest)
    with pytest.raises(ImagePullError, match="has the content of"):
        await images.pull_image(f"{registry.host}/app:1", None)


async def test_one_pull_for_many_callers(registry, images) -> None:
    import asyncio

    registry.add("app", "1", [BASE])
    name = f"{registry.host}/app:1"
    ids = await asyncio.gather(*(images.pull_image(name, None) for _ in range(5)))
    assert len(set(ids)) == 1
    assert len([r for r in registry.requests if "/manifests/" in r]) == 1


def test_endpoints() -> None:
    assert endpoint("docker.io", {}) == "https://registry-1.docker.io"
    assert endpoint("localhost:5000", {}) == "http://localhost:5000"
    assert endpoint("[::1]:5000", {}) == "http://[::1]:5000"
    assert endpoint("quay.io", {}) == "https://quay.io"
    assert endpoint("quay.io", {"quay.io": "http://mirror:80/"}) == "http://mirror:80"


def test_challenges() -> None:
    header = 'Bearer realm="https://a/b?c=d",service="x y",scope="repository:a/b:pull"'
    challenge = parse_challenge(header)
    assert challenge.scheme == "bearer"
    assert challenge.parameters["realm"] == "https://a/b?c=d"
    assert challenge.parameters["scope"] == "repository:a/b:pull"
