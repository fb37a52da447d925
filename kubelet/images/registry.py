"""Pulls from OCI distribution registries over aiohttp (imported on first use).

``RegistryClient.pull(reference, auth, store)``: manifest (index -> this machine's platform) ->
config -> the layers that the store lacks, three at a time -> unpacked -> registered. Digests are
verified; a download that breaks off goes on where it stopped. Proxies come from the environment.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
from typing import TYPE_CHECKING, Any

from pilothouse.kubelet.images import layout
from pilothouse.kubelet.images.layout import Descriptor, InvalidManifest, Manifest
from pilothouse.kubelet.images.reference import DEFAULT_DOMAIN, Reference, is_digest
from pilothouse.kubelet.images.registry_auth import basic_header, fetch_token, parse_challenge
from pilothouse.kubelet.images.store import diff_ids
from pilothouse.kubelet.images.unpack import DamagedLayer
from pilothouse.kubelet.runtime.errors import ImagePullError

if TYPE_CHECKING:
    from collections.abc import Mapping

    import aiohttp

    from pilothouse.apimachinery.clock import Clock
    from pilothouse.kubelet.images.store import ImageStore
    from pilothouse.kubelet.runtime.interfaces import PullAuth

DOCKER_HUB = "https://registry-1.docker.io"
MAX_DOCUMENT = 8 << 20
PARALLEL_LAYERS = 3
DOWNLOAD_ATTEMPTS = 5
FIRST_RETRY_DELAY = 0.5
CHUNK = 1 << 18


class _Broken(Exception):
    """A download that broke off; trying again may help."""


def endpoint(domain: str, endpoints: Mapping[str, str]) -> str:
    """Base URL of a registry. Plain http for loopback names, as other runtimes do."""
    if domain in endpoints:
        return endpoints[domain].rstrip("/")
    if domain == DEFAULT_DOMAIN:
        return DOCKER_HUB
    host = domain.rsplit(":", 1)[0] if not domain.startswith("[") else domain.split("]")[0][1:]
    loopback = host in ("localhost", "::1") or host.startswith("127.")
    return f"{'http' if loopback else 'https'}://{domain}"


class RegistryClient:
    """One per process; holds a connection pool. Close it."""

    def __init__(self, clock: Clock, *, endpoints: Mapping[str, str] | None = None) -> None:
        """``endpoints``: base URLs (mirrors, insecure registries) by registry domain."""
        self._clock = clock
        self._endpoints = endpoints or {}
        self._session: aiohttp.ClientSession | None = None
        self._layer_locks: dict[str, asyncio.Lock] = {}

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def pull(self, ref: Reference, auth: PullAuth | None, store: ImageStore) -> str:
        """The image id. :raises ImagePullError: with a message in upstream's words."""
        try:
            return await self._pull(ref, auth, store)
        except (InvalidManifest, DamagedLayer) as error:
            raise ImagePullError(f'failed to pull and unpack image "{ref}": {error}') from error
        except OSError as error:
            if error.errno is None:
                raise
            raise ImagePullError(
                f'failed to pull and unpack image "{ref}": {os.strerror(error.errno)}'
            ) from error

    async def _pull(self, ref: Reference, auth: PullAuth | None, store: ImageStore) -> str:
        pull = _Pull(self, self._open_session(), ref, auth)
        manifest, digest = await pull.manifest()
        config = await pull.blob(manifest.config)
        layers = diff_ids(config)
        if len(layers) != len(manifest.layers):
            raise InvalidManifest("malformed manifest: the config names other layers")
        limit = asyncio.Semaphore(PARALLEL_LAYERS)
        try:
            async with asyncio.TaskGroup() as group:
                for layer, diff_id in zip(manifest.layers, layers, strict=True):
                    group.create_task(self._layer(pull, limit, layer, diff_id, store))
        except BaseExceptionGroup as errors:
            raise errors.exceptions[0] from None
        names = tuple(n for n in (ref.tagged, f"{ref.repository}@{digest}") if n)
        return await asyncio.to_thread(
            store.add_image, config, size=manifest.size, names=names, source="registry"
        )

    async def _layer(
        self,
        pull: _Pull,
        limit: asyncio.Semaphore,
        layer: Descriptor,
        diff_id: str,
        store: ImageStore,
    ) -> None:
        # Two images that share a layer and are pulled at once download it once.
        lock = self._layer_locks.setdefault(diff_id, asyncio.Lock())
        async with lock, limit:
            if not store.has_layer(diff_id):
                claim = await asyncio.to_thread(store.claim, diff_id)
                with claim:  # against other processes
                    if not store.has_layer(diff_id):
                        path = store.incoming_path(layer.digest)
                        await self._download(pull, layer, path)
                        await asyncio.to_thread(_unpack, store, path, diff_id)
        if not lock.locked():
            self._layer_locks.pop(diff_id, None)

    async def _download(self, pull: _Pull, layer: Descriptor, path: str) -> None:
        delay = FIRST_RETRY_DELAY
        for attempt in range(1, DOWNLOAD_ATTEMPTS + 1):
            try:
                await pull.download(layer, path)
                return
            except _Broken as error:
                if attempt == DOWNLOAD_ATTEMPTS:
                    raise pull.failed(f"failed to copy: {error}") from error
                await self._clock.sleep(delay)
                delay *= 2

    def base_url(self, ref: Reference) -> str:
        return f"{endpoint(ref.domain, self._endpoints)}/v2/{ref.path}"

    def _open_session(self) -> aiohttp.ClientSession:
        if self._session is None:
            import aiohttp

            timeout = aiohttp.ClientTimeout(total=None, sock_connect=30, sock_read=60)
            self._session = aiohttp.ClientSession(
                timeout=timeout, trust_env=True, headers={"User-Agent": "pilothouse"}
            )
        return self._session


class _Pull:
    """The requests of one pull: one repository, one identity, one token."""

    def __init__(
        self,
        client: RegistryClient,
        session: aiohttp.ClientSession,
        ref: Reference,
        auth: PullAuth | None,
    ) -> None:
        self._session = session
        self._ref = ref
        self._auth = auth
        self._url = client.base_url(ref)
        self._authorization = (
            f"Bearer {auth.registry_token}" if auth and auth.registry_token else ""
        )

    def failed(self, reason: str) -> ImagePullError:
        return ImagePullError(f'failed to pull and unpack image "{self._ref}": {reason}')

    async def manifest(self) -> tuple[Manifest, str]:
        """The manifest for this machine, and the digest that the reference stands for."""
        body, digest = await self._document(self._ref.target)
        document = _parse(body)
        if layout.is_index(document):
            chosen = layout.choose_manifest(document, layout.machine_architecture())
            body, _ = await self._document(chosen.digest)
            document = _parse(body)
        return layout.parse_manifest(document), digest

    async def _document(self, target: str) -> tuple[bytes, str]:
        response = await self._get(f"manifests/{target}", {"Accept": layout.ACCEPT})
        async with response:
            body = await _read_limited(response)
        digest = f"sha256:{hashlib.sha256(body).hexdigest()}"
        expected = target if is_digest(target) else response.headers.get("Docker-Content-Digest")
        if expected and is_digest(expected) and expected != digest:
            raise self.failed(f"manifest has digest {digest}, expected {expected}")
        return body, digest

    async def blob(self, wanted: Descriptor) -> bytes:
        response = await self._get(f"blobs/{wanted.digest}", {})
        async with response:
            body = await _read_limited(response)
        if f"sha256:{hashlib.sha256(body).hexdigest()}" != wanted.digest:
            raise self.failed(f"blob {wanted.digest} does not have its digest")
        return body

    async def download(self, wanted: Descriptor, path: str) -> None:
        """Into the file ``path``, going on after what is there.

        :raises _Broken: the connection ended early, or the content was wrong (then the file is
            gone and the next try starts anew).
        """
        import aiohttp

        have = await asyncio.to_thread(_size, path)
        if have < wanted.size or not have:
            headers = {"Range": f"bytes={have}-"} if have else {}
            response = await self._get(f"blobs/{wanted.digest}", headers)
            resumed = response.status == 206
            try:
                async with response:
                    file = await asyncio.to_thread(open, path, "ab" if resumed else "wb")
                    with file:
                        async for chunk in response.content.iter_chunked(CHUNK):
                            await asyncio.to_thread(file.write, chunk)
            except (aiohttp.ClientError, TimeoutError, ConnectionError) as error:
                raise _Broken(str(error) or type(error).__name__) from error
        if await asyncio.to_thread(_file_digest, path) != wanted.digest:
            os.unlink(path)
            raise _Broken(f"unexpected commit digest, expected {wanted.digest}")

    async def _get(self, path: str, headers: dict[str, str]) -> aiohttp.ClientResponse:
        """A response with status 200 or 206, authenticated when the registry asks for it."""
        url = f"{self._url}/{path}"
        response = await self._send(url, headers)
        if response.status == 401:
            challenge = response.headers.get("WWW-Authenticate", "")
            response.release()
            if await self._answer(challenge):
                response = await self._send(url, headers)
        if response.status in (200, 206):
            return response
        reason = await _refusal(self._ref, response)
        raise self.failed(f'failed to resolve reference "{self._ref}": {reason}')

    async def _send(self, url: str, headers: dict[str, str]) -> aiohttp.ClientResponse:
        import aiohttp

        if self._authorization:
            headers = {**headers, "Authorization": self._authorization}
        try:
            return await self._session.get(url, headers=headers)
        except (aiohttp.ClientError, TimeoutError, ConnectionError) as error:
            reason = str(error) or type(error).__name__
            raise self.failed(
                f'failed to resolve reference "{self._ref}": failed to do request: '
                f'Head "{url}": {reason}'
            ) from error

    async def _answer(self, header: str) -> bool:
        """Answers an authentication challenge; false when we have nothing to say."""
        import aiohttp

        challenge = parse_challenge(header)
        if challenge.scheme == "basic" and self._auth and self._auth.username:
            self._authorization = basic_header(self._auth)
            return True
        if challenge.scheme != "bearer":
            return False
        scope = f"repository:{self._ref.path}:pull"
        try:
            token = await fetch_token(self._session, challenge, scope, self._auth)
        except (aiohttp.ClientError, TimeoutError, ConnectionError, ValueError) as error:
            raise self.failed(f"failed to authorize: failed to fetch token: {error}") from error
        self._authorization = f"Bearer {token}" if token else ""
        return bool(token)


async def _refusal(ref: Reference, response: aiohttp.ClientResponse) -> str:
    """Why the registry said no, in the words that users know."""
    async with response:
        if response.status == 404:
            return f"{ref}: not found"
        if response.status in (401, 403):
            return (
                "pull access denied, repository does not exist or may require authorization: "
                "authorization failed: no basic auth credentials"
            )
        return f"unexpected status from GET request to {response.url}: {response.status}"


async def _read_limited(response: aiohttp.ClientResponse) -> bytes:
    import aiohttp

    try:
        body = await response.content.read(MAX_DOCUMENT + 1)
        while not response.content.at_eof() and len(body) <= MAX_DOCUMENT:
            body += await response.content.read(MAX_DOCUMENT + 1)
    except (aiohttp.ClientError, TimeoutError, ConnectionError) as error:
        raise InvalidManifest(f"the registry's answer broke off: {error}") from error
    if len(body) > MAX_DOCUMENT:
        raise InvalidManifest("the registry's answer is too large for a manifest or config")
    return body


def _parse(body: bytes) -> dict[str, Any]:
    try:
        document = json.loads(body)
    except ValueError as error:
        raise InvalidManifest(f"malformed manifest: {error}") from error
    if not isinstance(document, dict):
        raise InvalidManifest("malformed manifest: not an object")
    return document


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size
    except FileNotFoundError:
        return 0


def _file_digest(path: str) -> str:
    with open(path, "rb") as file:
        return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"


def _unpack(store: ImageStore, path: str, diff_id: str) -> None:
    with open(path, "rb") as file:
        store.add_layer(file, diff_id)
    os.unlink(path)
