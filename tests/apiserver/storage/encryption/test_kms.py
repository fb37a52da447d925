"""KMS v2 with a real plugin: gRPC on a unix socket."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc.aio
import pytest

from pilothouse.apimachinery import protobuf_wire
from pilothouse.apimachinery.clock import RealClock
from pilothouse.apimachinery.errors import StatusError
from pilothouse.apimachinery.schema import GroupVersionResource
from pilothouse.apimachinery.testing import FakeClock
from pilothouse.apiserver.storage.encryption import kms_messages as messages
from pilothouse.apiserver.storage.encryption.configuration import load_rules
from pilothouse.apiserver.storage.encryption.kms import KMSTransformer, derived_key
from pilothouse.apiserver.storage.encryption.kms_messages import EncryptedObject
from pilothouse.apiserver.storage.encryption.storage import Encryption
from pilothouse.apiserver.storage.encryption.transformers import Locked, TransformError
from pilothouse.apiserver.storage.memory import MemoryStorage
from pilothouse.apiserver.storage.testing import CONTRACT, RecordingSink
from pilothouse.apiserver.testing import running_server

Obj = dict[str, Any]
SECRETS = GroupVersionResource("", "v1", "secrets")
KEY = "/registry/secrets/default/s"


def by_number(data: bytes) -> dict[int, Any]:
    return {number: value for number, _, value in protobuf_wire.fields(data)}


class Plugin:
    """Turns bytes around; its key's name goes in front."""

    def __init__(self, socket: Path) -> None:
        self.endpoint = f"unix://{socket}"
        self.key_id = "1"
        self.healthz = "ok"
        self.calls: list[str] = []

    async def start(self) -> None:
        self._server = grpc.aio.server()
        self._server.add_insecure_port(self.endpoint.replace("unix://", "unix:"))
        methods = {
            name: grpc.unary_unary_rpc_method_handler(getattr(self, f"_{name.lower()}"))
            for name in ("Status", "Encrypt", "Decrypt")
        }
        handler = grpc.method_handlers_generic_handler("v2.KeyManagementService", methods)
        self._server.add_generic_rpc_handlers((handler,))
        await self._server.start()

    async def stop(self) -> None:
        await self._server.stop(None)

    async def _status(self, request: bytes, context: Any) -> bytes:
        self.calls.append("Status")
        return message({1: b"v2", 2: self.healthz.encode(), 3: self.key_id.encode()})

    async def _encrypt(self, request: bytes, context: Any) -> bytes:
        self.calls.append("Encrypt")
        plain = by_number(request)[1]
        assert isinstance(plain, bytes)
        note = message({1: b"note.example.com", 2: b"x"})
        return message({1: plain[::-1], 2: self.key_id.encode(), 3: note})

    async def _decrypt(self, request: bytes, context: Any) -> bytes:
        self.calls.append("Decrypt")
        fields = by_number(request)
        assert fields[4] == message({1: b"note.example.com", 2: b"x"})
        cipher = fields[1]
        assert isinstance(cipher, bytes)
        return message({1: cipher[::-1]})


def message(fields: dict[int, bytes]) -> bytes:
    return b"".join(messages._bytes(field, value) for field, value in fields.items())


@pytest.fixture
async def plugin(tmp_path: Path) -> AsyncIterator[Plugin]:
    made = Plugin(tmp_path / "kms.sock")
    await made.start()
    yield made
    await made.stop()


def configuration(plugin: Plugin, **more: Any) -> bytes:
    kms = {"name": "p", "endpoint": plugin.endpoint, "apiVersion": "v2"} | more
    rule = {"resources": ["secrets"], "providers": [{"kms": kms}, {"identity": {}}]}
    config = {
        "apiVersion": "apiserver.config.k8s.io/v1",
        "kind": "EncryptionConfiguration",
        "resources": [rule],
    }
    return json.dumps(config).encode()


def test_messages() -> None:
    obj = EncryptedObject(b"data", "key", b"seed", (("a.b", b"1"), ("c.d", b"")), 1)
    assert EncryptedObject.decode(obj.encode()) == obj
    for cut in (b"", obj.encode()[:-3], b"\xff" * 20):
        with pytest.raises(ValueError):
            EncryptedObject.decode(cut)


def test_derived_key_is_hkdf() -> None:
    """RFC 5869, test case 1: the first block of the expansion."""
    seed = bytes.fromhex("077709362c2e32df0ddc3f0dc47bba6390b6c73bb50f9c3122ec844ad7c2b3e5")
    info = bytes.fromhex("f0f1f2f3f4f5f6f7f8f9")
    assert derived_key(seed, info).hex() == (
        "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf"
    )


async def test_seeds_are_unlocked_when_they_are_needed(plugin: Plugin) -> None:
    clock = FakeClock()
    writer = KMSTransformer("p", plugin.endpoint, 3)
    assert await writer.probe(clock)
    stored = writer.encrypt(KEY, b"value")
    assert b"value" not in stored
    assert writer.decrypt(KEY, stored) == b"value"
    reader = KMSTransformer("p", plugin.endpoint, 3)
    with pytest.raises(Locked) as caught:
        reader.decrypt(KEY, stored)
    await caught.value.unlock()
    assert reader.decrypt(KEY, stored) == b"value"
    assert plugin.calls == ["Status", "Encrypt", "Decrypt"]
    with pytest.raises(TransformError, match="authentication failed"):
        reader.decrypt("/registry/secrets/default/other", stored)
    await writer.close()
    await reader.close()


async def test_a_new_key_makes_a_new_seed(plugin: Plugin) -> None:
    clock = FakeClock()
    transformer = KMSTransformer("p", plugin.endpoint, 3)
    await transformer.probe(clock)
    old, tag = transformer.encrypt(KEY, b"v"), transformer.tag
    assert await transformer.probe(clock)
    assert transformer.tag == tag
    plugin.key_id = "2"
    assert await transformer.probe(clock)
    assert transformer.tag != tag == transformer.tag_of(old)
    assert transformer.decrypt(KEY, old) == b"v"
    await transformer.close()


async def test_a_plugin_that_is_away(plugin: Plugin) -> None:
    clock = FakeClock()
    transformer = KMSTransformer("p", plugin.endpoint, 3)
    await transformer.probe(clock)
    plugin.healthz = "on fire"
    assert not await transformer.probe(clock)
    assert transformer.problem == (
        "kmsv2 Provider p is not healthy, error: got unexpected healthz status: on fire"
    )
    stored = transformer.encrypt(KEY, b"v")
    clock.advance(181)
    with pytest.raises(TransformError, match="encryptedDEKSource expired"):
        transformer.encrypt(KEY, b"v")
    assert transformer.decrypt(KEY, stored) == b"v"
    await transformer.close()


@pytest.mark.parametrize("run", CONTRACT, ids=lambda run: run.__name__.removeprefix("run_"))
async def test_contract(run: Any, plugin: Plugin) -> None:
    rules = load_rules(configuration(plugin))
    await rules.plugins[0].probe(RealClock())
    below = MemoryStorage(FakeClock())
    await below.start()
    await run(Encryption(rules).wrap(below, SECRETS.group_resource), "/registry/test/")
    await below.close()
    await rules.plugins[0].close()


async def test_events_of_another_server(plugin: Plugin) -> None:
    """Their seeds have to be unlocked first; the order stays."""
    below = MemoryStorage(FakeClock())
    await below.start()
    wrapped = []
    plugins = []
    for _ in range(2):
        rules = load_rules(configuration(plugin))
        await rules.plugins[0].probe(RealClock())
        plugins += rules.plugins
        wrapped.append(Encryption(rules).wrap(below, SECRETS.group_resource))
    mine, theirs = wrapped
    sink = RecordingSink()
    mine.watch("/registry/", 1, sink)
    await theirs.create("/registry/a", b"1")
    await mine.create("/registry/b", b"2")
    await sink.until(lambda: len(sink.events) == 2)
    assert [(e.key, e.value) for e in sink.events] == [("/registry/a", b"1"), ("/registry/b", b"2")]
    await mine.create("/registry/c", b"3")
    assert sink.events[-1].value == b"3"  # at once
    await below.close()
    for each in plugins:
        await each.close()


async def test_a_server(plugin: Plugin, tmp_path: Path) -> None:
    file = tmp_path / "encryption.json"
    file.write_bytes(configuration(plugin))
    store = MemoryStorage(RealClock())
    settings = {"encryption_provider_config": str(file)}
    data = {"k": base64.b64encode(b"v").decode()}
    secret = {"metadata": {"name": "s", "namespace": "default"}, "data": data}
    async with running_server(clock=RealClock(), store=store, **settings) as server:
        await server.local_client().create(SECRETS, secret, "default")
        found = await store.get(KEY)
        assert found is not None
        assert found.value.startswith(b"k8s:enc:kms:v2:p:")
        assert await server.health["readyz"].checks["kms-providers"]() is None
        copy = store.fork()
    async with running_server(clock=RealClock(), store=copy.fork(), **settings) as server:
        assert (await server.local_client().get(SECRETS, "s", "default"))["data"] == data
    await plugin.stop()
    async with running_server(clock=RealClock(), store=copy.fork(), **settings) as server:
        with pytest.raises(StatusError) as caught:
            await server.local_client().get(SECRETS, "s", "default")
        assert caught.value.code == 500
        assert await server.health["livez"].checks["kms-providers"]()
        assert "failed to decrypt DEK, error: rpc error: code = UNAVAILABLE" in caught.value.message
    await plugin.start()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "a:b"}, "invalid KMS provider name a:b, must not contain ':'"),
        ({"endpoint": "http://x"}, "unsupported scheme http for KMS provider"),
        ({"endpoint": ""}, "endpoint is a mandatory field for a kms"),
        ({"apiVersion": "v1"}, "use apiVersion v2"),
        ({"cachesize": 3}, "cachesize is not supported in v2"),
        ({"timeout": "-1s"}, "timeout should be a positive value"),
    ],
)
def test_configurations_that_are_refused(tmp_path: Path, change: Obj, message: str) -> None:
    plugin = Plugin(tmp_path / "kms.sock")
    with pytest.raises(ValueError) as caught:
        load_rules(configuration(plugin, **change))
    assert message in str(caught.value)
