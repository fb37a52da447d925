"""KMS v2: values are encrypted with keys made of a seed that only a plugin can unlock.

The plugin (gRPC on a unix socket) encrypts one seed; it is kept beside each value. The plugin's
state is looked at every minute; when its key changes a new seed is made. Reading needs the
plugin only for seeds that are not known yet: ``decrypt`` raises :class:`LockedSeed` for these, and
whoever can wait calls ``unlock``.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections import OrderedDict
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from uuid import uuid4

from pilothouse.apiserver.storage.encryption import kms_messages as messages
from pilothouse.apiserver.storage.encryption.kms_messages import EncryptedObject
from pilothouse.apiserver.storage.encryption.transformers import AESGCM, Locked, TransformError

if TYPE_CHECKING:
    from pilothouse.apimachinery.clock import Clock

log = logging.getLogger(__name__)
HEALTHY_SECONDS, UNHEALTHY_SECONDS = 60.0, 10.0
WRITE_SECONDS = 180.0
"""How long seeds may be used for writing after the plugin was last seen healthy."""
_SERVICE = "/v2.KeyManagementService/"
_VERSIONS = ("v2", "v2beta1")
_INFO_SIZE = _SEED_SIZE = 32
_SEED = 1
_KNOWN_SEEDS = 1000
_LONGEST_KEY_ID = 1024


class LockedSeed(Locked):
    """The value's seed must be decrypted by the plugin first."""

    def __init__(self, provider: KMSTransformer, obj: EncryptedObject) -> None:
        super().__init__("the data encryption key is not known yet")
        self._provider, self._obj = provider, obj

    async def unlock(self) -> None:
        """:raises TransformError: the plugin can't or won't."""
        await self._provider.unlock(self._obj)


class KMSTransformer:
    """One plugin. ``run`` watches it; ``probe`` looks once."""

    def __init__(self, name: str, endpoint: str, timeout: float) -> None:
        self.prefix = f"k8s:enc:kms:v2:{name}:".encode()
        self.name = name
        self._target = _target(endpoint)
        self._timeout = timeout
        self._channel: Any = None
        self._clock: Clock | None = None
        self._current: EncryptedObject | None = None
        """Without data: what new values get."""
        self._seed = b""
        self._expires = 0.0
        self._version = ""
        self._seeds: OrderedDict[tuple[Any, ...], bytes] = OrderedDict()
        self.problem = "the plugin has not been asked yet"

    @property
    def tag(self) -> bytes:
        return self.prefix + (self._current.key_id.encode() if self._current else b"")

    def tag_of(self, data: bytes) -> bytes:
        return self.prefix + EncryptedObject.decode(data).key_id.encode()

    # values

    def encrypt(self, key: str, data: bytes) -> bytes:
        """:raises TransformError: the plugin is not there, or has been away for too long."""
        if self._current is None:
            raise TransformError(f"kmsv2 Provider {self.name} is not healthy: {self.problem}")
        assert self._clock is not None
        if self._clock.monotonic() > self._expires:
            raise TransformError(f"encryptedDEKSource expired: {self.problem}")
        info = os.urandom(_INFO_SIZE)
        sealed = info + AESGCM(b"", derived_key(self._seed, info)).encrypt(key, data)
        return self._current._replace(data=sealed).encode()

    def decrypt(self, key: str, data: bytes) -> bytes:
        """:raises Locked: ``unlock`` it and try again. :raises TransformError."""
        try:
            obj = EncryptedObject.decode(data)
        except ValueError as error:
            raise TransformError(str(error)) from error
        source = self._seeds.get(_cache_key(obj))
        if source is None:
            raise LockedSeed(self, obj)
        if obj.source_type != _SEED:
            return AESGCM(b"", source).decrypt(key, obj.data)
        if len(obj.data) < _INFO_SIZE:
            raise TransformError("the stored data was shorter than the required size")
        info, sealed = obj.data[:_INFO_SIZE], obj.data[_INFO_SIZE:]
        return AESGCM(b"", derived_key(source, info)).decrypt(key, sealed)

    async def unlock(self, obj: EncryptedObject) -> None:
        request = messages.decrypt_request(obj, str(uuid4()))
        try:
            answer = await self._call("Decrypt", request)
            source = messages.decrypt_response(answer)
            if obj.source_type == _SEED and len(source) < _SEED_SIZE:
                raise ValueError(f"invalid seed length {len(source)} used for key generation")
        except (KMSError, ValueError) as error:
            raise TransformError(f"failed to decrypt DEK, error: {error}") from error
        self._remember(obj, source)

    def _remember(self, obj: EncryptedObject, source: bytes) -> None:
        self._seeds[_cache_key(obj)] = source
        if len(self._seeds) > _KNOWN_SEEDS:
            self._seeds.popitem(last=False)

    # the plugin

    async def run(self, clock: Clock) -> None:
        """After a first ``probe``."""
        while True:
            await clock.sleep(UNHEALTHY_SECONDS if self.problem else HEALTHY_SECONDS)
            await self.probe(clock)

    async def probe(self, clock: Clock) -> bool:
        """Whether the plugin is healthy; makes a new seed when its key has changed."""
        self._clock = clock
        expires = clock.monotonic() + WRITE_SECONDS
        try:
            status = messages.status_response(await self._call("Status", b""))
            self._check(status)
            if self._current is None or self._current.key_id != status.key_id:
                await self._rotate(status.key_id)
        except (KMSError, ValueError) as error:
            self.problem = f"kmsv2 Provider {self.name} is not healthy, error: {error}"
            log.error("%s", self.problem)
            return False
        self._expires, self.problem = expires, ""
        return True

    def _check(self, status: messages.Status) -> None:
        if status.healthz != "ok":
            raise KMSError(f"got unexpected healthz status: {status.healthz}")
        if status.version not in _VERSIONS:
            raise KMSError(f"expected KMSv2 API version v2, got {status.version}")
        if self._version and self._version != status.version:
            raise KMSError(
                "KMSv2 API version should not change after the initial status response version "
                f"{self._version}, got {status.version}"
            )
        self._version = status.version
        if not status.key_id or len(status.key_id) > _LONGEST_KEY_ID:
            raise KMSError("got invalid KMSv2 KeyID")

    async def _rotate(self, key_id: str) -> None:
        seed = os.urandom(_SEED_SIZE)
        request = messages.encrypt_request(seed, str(uuid4()))
        answer = messages.encrypt_response(await self._call("Encrypt", request))
        if answer.key_id != key_id:
            raise KMSError(
                "failed to rotate DEK: the plugin encrypts with another key than it says"
            )
        if not answer.ciphertext or len(answer.ciphertext) > _LONGEST_KEY_ID:
            raise KMSError("failed to rotate DEK: invalid encrypted DEK source")
        obj = EncryptedObject(b"", key_id, answer.ciphertext, answer.annotations, _SEED)
        self._current, self._seed = obj, seed
        self._remember(obj, seed)

    async def _call(self, method: str, request: bytes) -> bytes:
        try:
            import grpc
            import grpc.aio
        except ImportError as error:
            raise KMSError("KMS needs grpc: install pilothouse[etcd]") from error
        if asyncio.current_task() is None:
            await asyncio.sleep(0)  # as in ``webhook/client.py``
        if self._channel is None:
            options = [("grpc.use_local_subchannel_pool", 1)]
            self._channel = grpc.aio.insecure_channel(self._target, options=options)
        call = self._channel.unary_unary(_SERVICE + method)
        try:
            return bytes(await call(request, timeout=self._timeout))
        except grpc.aio.AioRpcError as error:
            code = error.code().name
            raise KMSError(f"rpc error: code = {code} desc = {error.details()}") from error

    async def close(self) -> None:
        channel, self._channel = self._channel, None
        if channel is not None:
            await channel.close()


class KMSError(Exception):
    """The plugin did not do what it was asked for."""


def derived_key(seed: bytes, info: bytes) -> bytes:
    """HKDF's expansion with SHA-256 to 32 bytes: one block."""
    import hashlib
    import hmac

    return hmac.digest(seed, info + b"\x01", hashlib.sha256)


def _cache_key(obj: EncryptedObject) -> tuple[Any, ...]:
    return obj.source_type, obj.source, obj.key_id, obj.annotations


def _target(endpoint: str) -> str:
    path = urlsplit(endpoint).path
    return f"unix-abstract:{path[2:]}" if path.startswith("/@") else f"unix:{path}"
