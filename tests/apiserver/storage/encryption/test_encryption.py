"""Encryption at rest: formats, the store's contract through the ciphers, keys that change."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pilothouse.apimachinery.clock import RealClock
from pilothouse.apimachinery.errors import StatusError
from pilothouse.apimachinery.schema import GroupResource, GroupVersionResource
from pilothouse.apimachinery.testing import FakeClock
from pilothouse.apiserver.config import ServerConfig
from pilothouse.apiserver.server import APIServer
from pilothouse.apiserver.storage.encryption import secretbox
from pilothouse.apiserver.storage.encryption.configuration import load_rules
from pilothouse.apiserver.storage.encryption.storage import Encryption
from pilothouse.apiserver.storage.encryption.transformers import (
    AESCBC,
    AESGCM,
    Identity,
    PrefixTransformers,
    Secretbox,
    TransformError,
)
from pilothouse.apiserver.storage.errors import Untransformable
from pilothouse.apiserver.storage.interfaces import Storage
from pilothouse.apiserver.storage.memory import MemoryStorage
from pilothouse.apiserver.storage.testing import CONTRACT
from pilothouse.apiserver.testing import running_server

Obj = dict[str, Any]
SECRETS = GroupVersionResource("", "v1", "secrets")
CONFIG_MAPS = GroupVersionResource("", "v1", "configmaps")
KEY = "/registry/secrets/default/s"
ONE, TWO = b"1" * 32, b"2" * 32
CIPHERS = {"aescbc": AESCBC, "aesgcm": AESGCM, "secretbox": Secretbox}


def rule(*providers: Obj, resources: tuple[str, ...] = ("secrets",)) -> Obj:
    return {"resources": list(resources), "providers": list(providers)}


def provider(kind: str, *keys: tuple[str, bytes]) -> Obj:
    encoded = [{"name": n, "secret": base64.b64encode(s).decode()} for n, s in keys]
    return {kind: {"keys": encoded}}


def configuration(*rules: Obj) -> bytes:
    config = {
        "apiVersion": "apiserver.config.k8s.io/v1",
        "kind": "EncryptionConfiguration",
        "resources": list(rules),
    }
    return json.dumps(config).encode()


def test_secretbox_is_nacls() -> None:
    """The example of NaCl's own tests (secretbox.c)."""
    key = bytes.fromhex("1b27556473e985d462cd51197a9a46c76009549eac6474f206c4ee0844f68389")
    nonce = bytes.fromhex("69696ee955b62b73cd62bda875fc73d68219e0036b7a0b37")
    message = bytes.fromhex(
        "be075fc53c81f2d5cf141316ebeb0c7b5228c52a4c62cbd44b66849b64244ffce5ecbaaf33bd751a1ac728d4"
        "5e6c61296cdc3c01233561f41db66cce314adb310e3be8250c46f06dceea3a7fa1348057e2f6556ad6b1318a"
        "024a838f21af1fde048977eb48f59ffd4924ca1c60902e52f0a089bc76897040e082f937763848645e0705"
    )
    box = secretbox.seal(key, nonce, message)
    assert box.hex().startswith("f3ffc7703f9400e52a7dfb4b3d3305d98e993b9f48681273c29650ba32fc76ce")
    assert secretbox.unseal(key, nonce, box) == message
    assert secretbox.unseal(key, nonce, box[:-1] + b"\0") is None


@pytest.mark.parametrize("kind", CIPHERS)
@settings(max_examples=25, deadline=None)
@given(data=st.binary(max_size=300))
def test_round_trip(kind: str, data: bytes) -> None:
    cipher = CIPHERS[kind](b"p:", ONE)
    stored = cipher.encrypt(KEY, data)
    assert data not in stored or len(data) < 3
    assert cipher.decrypt(KEY, stored) == data
    assert stored != cipher.encrypt(KEY, data)


@pytest.mark.parametrize("kind", CIPHERS)
def test_another_key_is_an_error(kind: str) -> None:
    stored = CIPHERS[kind](b"p:", ONE).encrypt(KEY, b"value" * 5)
    with pytest.raises(TransformError):
        for secret in (TWO, b"3" * 32, b"4" * 32):  # CBC's padding may fit by chance
            plain = CIPHERS[kind](b"p:", secret).decrypt(KEY, stored)
            assert plain != b"value" * 5
    with pytest.raises(TransformError):
        CIPHERS[kind](b"p:", ONE).decrypt(KEY, b"short")


def test_gcm_values_stay_where_they_are() -> None:
    cipher = AESGCM(b"p:", ONE)
    with pytest.raises(TransformError, match="message authentication failed"):
        cipher.decrypt("/registry/secrets/other", cipher.encrypt(KEY, b"x"))


def test_the_first_writes_and_all_read() -> None:
    old = PrefixTransformers([AESCBC(b"k8s:enc:aescbc:v1:a:", ONE), Identity()])
    new = PrefixTransformers(
        [AESGCM(b"k8s:enc:aesgcm:v1:b:", TWO), AESCBC(b"k8s:enc:aescbc:v1:a:", ONE), Identity()]
    )
    stored = old.encrypt(KEY, b"{}")
    assert stored.startswith(b"k8s:enc:aescbc:v1:a:")
    assert new.decrypt(KEY, stored) == (b"{}", old.tag)
    assert new.decrypt(KEY, b"plain")[0] == b"plain"
    assert new.encrypt(KEY, b"{}").startswith(b"k8s:enc:aesgcm:v1:b:")
    with pytest.raises(TransformError, match="no matching prefix found"):
        old.decrypt(KEY, b"k8s:enc:kms:v2:x")


@pytest.mark.parametrize("kind", ["aescbc", "aesgcm"])
@pytest.mark.parametrize("run", CONTRACT, ids=lambda run: run.__name__.removeprefix("run_"))
async def test_contract(run: Callable[[Storage, str], Awaitable[None]], kind: str) -> None:
    encryption = Encryption(load_rules(configuration(rule(provider(kind, ("k", ONE))))))
    below = MemoryStorage(FakeClock())
    await below.start()
    storage = encryption.wrap(below, GroupResource("", "secrets"))
    assert storage is not below
    await run(storage, "/registry/test/")
    await below.close()


def test_kinds_without_a_rule_pay_nothing() -> None:
    encryption = Encryption(load_rules(configuration(rule(provider("aescbc", ("k", ONE))))))
    below = MemoryStorage(FakeClock())
    assert encryption.wrap(below, GroupResource("", "pods")) is below


@pytest.mark.parametrize(
    ("resources", "covered"),
    [
        (("*.",), {"secrets": True, "deployments.apps": False}),
        (("*.apps",), {"secrets": False, "deployments.apps": True}),
        (("*.*",), {"secrets": True, "deployments.apps": True, "bears.example.com": True}),
        (("bears.example.com",), {"bears.example.com": True, "bears": False}),
    ],
)
def test_wildcards(resources: tuple[str, ...], covered: dict[str, bool]) -> None:
    rules = load_rules(configuration(rule(provider("aescbc", ("k", ONE)), resources=resources)))
    for text, wanted in covered.items():
        name, _, group = text.partition(".")
        assert (rules.configured(GroupResource(group, name)) is not None) is wanted


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ([], "resources: Required value: at least one resources is required"),
        ([rule()], "at least one resources[0].providers is required"),
        ([rule({"identity": {}}, resources=())], "at least one resources[0].resources is required"),
        (
            [rule({"identity": {}}, resources=("secrets", "*."))],
            "using overlapping resources such as 'secrets' and '*.' in the same resource list",
        ),
        (
            [rule({"identity": {}}, resources=("Secrets",))],
            "resource name should not contain capital letters",
        ),
        ([rule({"identity": {}}, resources=("*",))], "use '*.' to encrypt all the resources"),
        (
            [rule(provider("aescbc", ("k", b"short")))],
            'resources[0].providers[0].aescbc.keys[0].secret: Invalid value: "REDACTED": secret '
            "is not of the expected length, got 5, expected one of [16 24 32]",
        ),
        ([rule(provider("secretbox", ("", ONE)))], "name is a mandatory field for a key"),
        ([rule({"aescbc": {"keys": []}, "identity": {}})], "more than one provider specified"),
        (
            [
                rule({"identity": {}}, resources=("*.*",)),
                rule({"identity": {}}, resources=("secrets",)),
            ],
            'resource "secrets" is masked by earlier rule "*.*"',
        ),
    ],
)
def test_configurations_that_are_refused(rules: list[Obj], message: str) -> None:
    with pytest.raises(ValueError) as caught:
        load_rules(configuration(*rules))
    assert message in str(caught.value)


def secret(name: str = "s") -> Obj:
    return {"metadata": {"name": name, "namespace": "default"}, "data": {"k": "c2VjcmV0"}}


async def stored(storage: Storage, key: str = KEY) -> bytes:
    found = await storage.get(key)
    assert found is not None
    return found.value


async def test_a_server_with_keys_that_rotate(tmp_path: Path) -> None:
    """Plain, then encrypted, then with another key; each write brings an object up to date."""
    store = MemoryStorage(RealClock())
    file = tmp_path / "encryption.json"
    async with running_server(clock=RealClock(), store=store.fork()) as server:
        await server.local_client().create(SECRETS, secret(), "default")
        store = server.storage.fork()  # type: ignore[attr-defined]
    assert (await stored(store)).startswith(b"{")
    settings = {
        "encryption_provider_config": str(file),
        "encryption_provider_config_automatic_reload": True,
    }
    file.write_bytes(configuration(rule(provider("aescbc", ("one", ONE)), {"identity": {}})))
    async with running_server(clock=RealClock(), store=store, **settings) as server:
        client = server.local_client()
        read = await client.get(SECRETS, "s", "default")
        assert read["data"] == {"k": "c2VjcmV0"}
        await client.update(SECRETS, read)
        value = await stored(store)
        assert value.startswith(b"k8s:enc:aescbc:v1:one:")
        assert b"c2VjcmV0" not in value
        again = await client.update(SECRETS, await client.get(SECRETS, "s", "default"))
        assert await stored(store) == value  # nothing to do
        await client.create(CONFIG_MAPS, {"metadata": {"name": "c"}, "data": {}}, "default")
        assert (await stored(store, "/registry/configmaps/default/c")).startswith(b"{")
        rules = server.context.encryption.rules
        rotated = provider("secretbox", ("two", TWO))
        file.write_bytes(configuration(rule(rotated, provider("aescbc", ("one", ONE)))))
        for _ in range(500):
            if server.context.encryption.rules is not rules:
                break
            await asyncio.sleep(0.01)
        await client.update(SECRETS, again)
        assert (await stored(store)).startswith(b"k8s:enc:secretbox:v1:two:")
        listed = await client.list(SECRETS, "default")
        assert [s["data"] for s in listed.items] == [{"k": "c2VjcmV0"}]
        last = store.fork()
    assert (await stored(last)).startswith(b"k8s:enc:secretbox:v1:two:")


async def test_a_server_without_the_configuration(tmp_path: Path) -> None:
    """It serves the kinds that it can read, in the words of upstream's identity transformer."""
    store = MemoryStorage(RealClock())
    file = tmp_path / "encryption.json"
    file.write_bytes(configuration(rule(provider("aescbc", ("k", ONE)))))
    encrypting = {"encryption_provider_config": str(file)}
    async with running_server(clock=RealClock(), store=store, **encrypting) as server:
        await server.local_client().create(SECRETS, secret(), "default")
        copy = store.fork()
    async with running_server(clock=RealClock(), store=copy) as server:
        client = server.local_client()
        for asking in (client.get(SECRETS, "s", "default"), client.list(SECRETS, "default")):
            with pytest.raises(StatusError) as caught:
                await asking
            assert caught.value.code == 500
            assert caught.value.message == (
                f'Internal error occurred: unable to transform key "{KEY}": '
                "identity transformer tried to read encrypted data"
            )
        assert await client.list(CONFIG_MAPS, "default")


async def test_a_server_that_needs_what_it_cannot_read_says_so(tmp_path: Path) -> None:
    store = MemoryStorage(RealClock())
    file = tmp_path / "encryption.json"
    everything = rule(provider("aescbc", ("k", ONE)), resources=("*.*",))
    file.write_bytes(configuration(everything))
    encrypting = {"encryption_provider_config": str(file)}
    async with running_server(clock=RealClock(), store=store, **encrypting):
        copy = store.fork()
    server = APIServer(ServerConfig(), RealClock(), storage=copy)
    with pytest.raises(Untransformable, match="identity transformer tried to read encrypted"):
        await server.start(serve=False)
    await server.stop()


async def test_the_wrong_key(tmp_path: Path) -> None:
    """The server runs; whoever asks for what it can't read is told so."""
    store = MemoryStorage(RealClock())
    file = tmp_path / "encryption.json"
    file.write_bytes(configuration(rule(provider("aesgcm", ("k", ONE)))))
    settings = {"encryption_provider_config": str(file)}
    async with running_server(clock=RealClock(), store=store, **settings) as server:
        await server.local_client().create(SECRETS, secret(), "default")
        copy = store.fork()
    file.write_bytes(configuration(rule(provider("aesgcm", ("k", TWO)))))
    async with running_server(clock=RealClock(), store=copy, **settings) as server:
        client = server.local_client()
        with pytest.raises(StatusError) as caught:
            await client.get(SECRETS, "s", "default")
        assert caught.value.code == 500
        assert caught.value.message == (
            f'Internal error occurred: unable to transform key "{KEY}": '
            "cipher: message authentication failed"
        )
        assert await client.list(CONFIG_MAPS, "default")
