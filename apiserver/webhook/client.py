"""Posts reviews to webhooks over connections that stay open (the shell of this package).

One :class:`WebhookClient` per API server. Callers give a target, the encoded review and the
seconds they are ready to wait; every failure is a :class:`~.errors.CallError` in Go's words.
"""

from __future__ import annotations

import asyncio
import math
import ssl
from typing import TYPE_CHECKING, Any

import orjson

from pilothouse.apiserver.trace_context import span
from pilothouse.apiserver.webhook.connection import Answer, Closed, Connection, open_connection
from pilothouse.apiserver.webhook.errors import (
    DEADLINE,
    CallError,
    answered,
    dial_reason,
    post_failed,
)
from pilothouse.apiserver.webhook.reviews import decoded
from pilothouse.apiserver.webhook.services import ResolveError, ServiceResolver

if TYPE_CHECKING:
    from pilothouse.apimachinery.clock import Clock
    from pilothouse.apiserver.registry.context import RegistryContext
    from pilothouse.apiserver.webhook.client_config import Target

_MAX_IDLE_PER_TARGET = 25
_MAX_TARGETS = 200
_IDLE_SECONDS = 90.0
DEFAULT_TIMEOUT = 30.0
_VERIFY_X509_PARTIAL_CHAIN = getattr(ssl, "VERIFY_X509_PARTIAL_CHAIN", 0x80000)


def webhook_client(context: RegistryContext) -> WebhookClient:
    """The client of an API server, made when the first webhook is called."""
    if context.webhooks is None:
        endpoints = bool(getattr(context.config, "enable_aggregator_routing", False))
        resolver = ServiceResolver(context.listers, context.random, endpoints=endpoints)
        context.webhooks = WebhookClient(resolver, context.clock)
    client: WebhookClient = context.webhooks
    return client


class WebhookClient:
    """Backends by target: their TLS settings and idle connections."""

    def __init__(self, resolver: ServiceResolver, clock: Clock) -> None:
        self._resolver = resolver
        self._clock = clock
        self._backends: dict[Target, _Backend] = {}

    async def post(self, target: Target, review: Any, timeout: float) -> dict[str, Any]:
        """The answer to ``review``, decoded. :raises CallError: there is none."""
        body = orjson.dumps(review)
        seconds = max(1, math.ceil(timeout))
        url = target.url(seconds)
        if asyncio.current_task() is None:
            # The first step of a GET runs outside of any task, where there is no timeout.
            await asyncio.sleep(0)
        try:
            async with asyncio.timeout(timeout):
                with span("Call webhook", url=url):
                    path = f"{target.path}?timeout={seconds}s"
                    answer = await self._exchange(target, path, url, body)
        except TimeoutError:
            raise post_failed(url, DEADLINE) from None
        if not 200 <= answer.status < 300:
            raise answered(answer.status, answer.body, answer.content_type)
        if not answer.body:
            raise CallError(
                f"0-length response with status code: {answer.status} and content type: "
                f"{answer.content_type}"
            )
        return decoded(answer.body)

    async def _exchange(self, target: Target, path: str, url: str, body: bytes) -> Answer:
        backend = self._backend(target)
        while True:
            connection = backend.idle(self._clock.monotonic())
            fresh = connection is None
            if connection is None:
                connection = await self._open(target, backend, url)
            try:
                answer = await connection.post(path, target.authority, "kube-apiserver", body)
            except Closed:
                # An idle connection may have been closed meanwhile: that is nobody's failure.
                if fresh:
                    raise post_failed(url, "EOF") from None
                continue
            except (OSError, ValueError) as error:
                raise post_failed(url, str(error)) from error
            finally:
                if not connection.reusable:
                    connection.close()
            backend.keep(connection, self._clock.monotonic())
            return answer

    async def _open(self, target: Target, backend: _Backend, url: str) -> Connection:
        host, port = target.host, target.port
        if target.service is not None:
            service = target.service
            try:
                host, port = await self._resolver.resolve(
                    service.namespace, service.name, service.port
                )
            except ResolveError as error:
                raise post_failed(url, str(error)) from error
        try:
            return await open_connection(host, port, backend.context, target.server_name)
        except (OSError, ValueError) as error:
            shown = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
            raise post_failed(url, dial_reason(error, shown)) from error

    def _backend(self, target: Target) -> _Backend:
        backend = self._backends.pop(target, None)
        if backend is None:
            try:
                backend = _Backend(target.ca_bundle)
            except ssl.SSLError as error:
                raise CallError("unable to load root certificates") from error
            while len(self._backends) >= _MAX_TARGETS:
                self._backends.pop(next(iter(self._backends))).close()
        self._backends[target] = backend
        return backend

    async def close(self) -> None:
        for backend in self._backends.values():
            backend.close()
        self._backends.clear()
        # Transports report their end to the loop that they belong to.
        await asyncio.sleep(0)


class _Backend:
    def __init__(self, ca_bundle: bytes) -> None:
        if ca_bundle:
            self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            # As Go: whatever is in the bundle is trusted, be it a root or not.
            self.context.verify_flags |= _VERIFY_X509_PARTIAL_CHAIN
            self.context.load_verify_locations(cadata=ca_bundle.decode("latin-1"))
        else:
            self.context = ssl.create_default_context()
        self.context.set_alpn_protocols(["http/1.1"])
        self._idle: list[Connection] = []

    def idle(self, now: float) -> Connection | None:
        """The connection that was used last, if it can be used still."""
        while self._idle:
            connection = self._idle.pop()
            if connection.usable and now - connection.idle_since < _IDLE_SECONDS:
                return connection
            connection.close()
        return None

    def keep(self, connection: Connection, now: float) -> None:
        if not connection.usable:
            connection.close()
            return
        connection.idle_since = now
        self._idle.append(connection)
        if len(self._idle) > _MAX_IDLE_PER_TARGET:
            self._idle.pop(0).close()

    def close(self) -> None:
        for connection in self._idle:
            connection.close()
        self._idle.clear()
