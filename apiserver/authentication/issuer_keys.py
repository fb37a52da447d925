"""The keys of a remote issuer: discovered once, fetched when a token needs one that is not known.

The shell around ``jwk.py``: HTTPS to the issuer, in the background at start and on demand after.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from typing import TYPE_CHECKING, Any

import orjson

from pilothouse.apiserver.authentication.jwk import PublicKey, read_keys, verifies

if TYPE_CHECKING:
    from collections.abc import Callable

    from pilothouse.apimachinery.clock import Clock

log = logging.getLogger(__name__)
RETRY_SECONDS = 10.0
_TIMEOUT = 30.0
_LARGEST = 4 << 20
_WELL_KNOWN = "/.well-known/openid-configuration"


class KeysUnavailable(Exception):
    """The issuer could not be asked, or gave no usable answer."""


class IssuerKeys:
    """``run`` looks for the issuer until it is found; then ``verify`` works."""

    def __init__(
        self,
        issuer: str,
        clock: Clock,
        *,
        discovery_url: str = "",
        ca: str = "",
        on_fetch: Callable[[bytes | None], None] | None = None,
    ) -> None:
        """``ca``: PEM; empty: the machine's own trust. ``on_fetch`` is told of each key set, or of
        None when there was none to be had. :raises ssl.SSLError: ``ca`` is none."""
        self._on_fetch = on_fetch
        self._ca = ca
        self._issuer = issuer
        self._clock = clock
        self._discovery_url = discovery_url or issuer.rstrip("/") + _WELL_KNOWN
        self._context = ssl.create_default_context(cadata=ca or None)
        self._jwks_uri = ""
        self._keys: list[PublicKey] = []
        self._fetching: asyncio.Task[None] | None = None
        self.problem: str = f'oidc: authenticator for issuer "{issuer}" is not initialized'
        """Why it can't be used yet; empty when it can."""

    async def run(self) -> None:
        """Returns when the issuer has been found."""
        while True:
            try:
                await self.discover()
            except KeysUnavailable as error:
                self.problem = str(error)
                log.error("oidc authenticator: initializing plugin: %s", error)
            else:
                return
            await self._clock.sleep(RETRY_SECONDS)

    async def discover(self) -> None:
        """:raises KeysUnavailable: not there, or it says another name than ours."""
        provider = await self._get(self._discovery_url)
        if not isinstance(provider, dict):
            raise KeysUnavailable("oidc: failed to decode provider discovery object")
        if provider.get("issuer") != self._issuer:
            raise KeysUnavailable(
                "oidc: issuer did not match the issuer returned by provider, expected "
                f'"{self._issuer}" got "{provider.get("issuer")}"'
            )
        if not provider.get("jwks_uri"):
            raise KeysUnavailable("provider did not return JWKS URL")
        self._jwks_uri = str(provider["jwks_uri"])
        self.problem = ""

    async def verify(self, key_id: str, algorithm: str, data: bytes, signature: bytes) -> bool:
        """Fetches the keys anew when those at hand did not make the signature.

        :raises KeysUnavailable: they could not be fetched.
        """
        if self._keys and verifies(self._keys, key_id, algorithm, data, signature):
            return True
        if self._fetching is None:
            loop = asyncio.get_running_loop()
            self._fetching = loop.create_task(self._fetch(), name="issuer-keys")
            self._fetching.add_done_callback(self._fetched)
        # Others may wait for the same keys.
        await asyncio.shield(self._fetching)
        return verifies(self._keys, key_id, algorithm, data, signature)

    def _fetched(self, task: asyncio.Task[None]) -> None:
        self._fetching = None
        if not task.cancelled():
            task.exception()  # whoever waits has seen it

    async def _fetch(self) -> None:
        body: bytes | None = None
        try:
            document = await self._get(self._jwks_uri)
            self._keys = read_keys(document)
            body = orjson.dumps(document)
        except ValueError as error:
            raise KeysUnavailable(str(error)) from error
        finally:
            if self._on_fetch is not None:
                self._on_fetch(body)

    def of(self, issuer: str) -> IssuerKeys:
        """The keys of another issuer, reached in the same way."""
        return IssuerKeys(issuer, self._clock, ca=self._ca)

    async def _get(self, url: str) -> Any:
        body = await self.download(url)
        try:
            return orjson.loads(body)
        except ValueError as error:
            raise KeysUnavailable(f'Get "{url}": {error}') from error

    async def download(self, url: str, bearer: str = "") -> bytes:
        """:raises KeysUnavailable: it could not be had."""
        import aiohttp

        headers = {"Authorization": f"Bearer {bearer}"} if bearer else None
        timeout = aiohttp.ClientTimeout(total=_TIMEOUT)
        connector = aiohttp.TCPConnector(ssl=self._context)
        try:
            async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
                async with session.get(url, headers=headers, allow_redirects=True) as response:
                    body = b""
                    while len(body) <= _LARGEST and (part := await response.content.readany()):
                        body += part
                    if not 200 <= response.status <= 226:
                        shown = body[:200].decode("utf-8", "replace")
                        raise KeysUnavailable(f"{response.status} {response.reason}: {shown}")
            return body
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
            raise KeysUnavailable(f'Get "{url}": {error or type(error).__name__}') from error

    def close(self) -> None:
        if self._fetching is not None:
            self._fetching.cancel()
