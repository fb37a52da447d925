"""Calls to an etcd cluster over grpc.aio: endpoints, TLS, login, deadlines.

One channel per endpoint, used in turn; an endpoint that failed is passed over for a moment. Each
call has a deadline, and an operation that may be repeated (reads, and writes guarded by a
compare) goes on to the next endpoint until its own deadline. Failures become the errors of
``storage/errors.py`` here and nowhere else.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import grpc
import grpc.aio

from pilothouse.apiserver.storage.errors import StorageError, TooLarge, Unavailable
from pilothouse.apiserver.storage.etcd3 import messages as pb

if TYPE_CHECKING:
    from pilothouse.apimachinery.clock import Clock

_AVOID_SECONDS = 1.0
_RETRY_SECONDS = 0.05
# As upstream's etcd client; etcd cuts clients that ping more often than every 5 s.
_OPTIONS = (
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1_000),
    # Many stores may run in one process, each with its own connections.
    ("grpc.use_local_subchannel_pool", 1),
)
_MAY_HAVE_HAPPENED = frozenset(
    (
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.CANCELLED,
        grpc.StatusCode.UNKNOWN,
        grpc.StatusCode.INTERNAL,
    )
)


@dataclass(frozen=True, slots=True)
class EtcdConfig:
    """How to reach etcd (kube-apiserver's ``--etcd-*`` flags)."""

    servers: tuple[str, ...] = ("http://127.0.0.1:2379",)
    """URLs; ``https`` uses TLS."""
    ca_file: str = ""
    cert_file: str = ""
    key_file: str = ""
    username: str = ""
    password: str = ""
    call_timeout: float = 2.0
    """Seconds for one call to one member."""
    timeout: float = 3.0
    """Seconds for an operation, with all its repetitions."""
    start_timeout: float = 20.0
    """Seconds to wait for a cluster that is still coming up (upstream's dial timeout)."""


class Ambiguous(Exception):
    """No answer: the call may have taken effect."""

    def __init__(self, error: grpc.aio.AioRpcError) -> None:
        super().__init__(f"etcd: {error.code().name}: {error.details()}")


class _Endpoint:
    __slots__ = ("avoid_until", "channel", "methods", "url")

    def __init__(self, url: str, channel: grpc.aio.Channel) -> None:
        self.url = url
        self.channel = channel
        self.avoid_until = 0.0
        self.methods = {
            name: channel.unary_unary(
                path,
                request_serializer=request.SerializeToString,
                response_deserializer=response.FromString,
            )
            for name, (path, request, response) in pb.METHODS.items()
            if name != "watch"
        }

    def watch(self, metadata: tuple[tuple[str, str], ...]) -> Any:
        path, request, response = pb.METHODS["watch"]
        method = self.channel.stream_stream(
            path,
            request_serializer=request.SerializeToString,
            response_deserializer=response.FromString,
        )
        return method(metadata=metadata)


class EtcdClient:
    """Knows no keys and no revisions. ``connect`` first; needs a running loop."""

    def __init__(self, config: EtcdConfig, clock: Clock) -> None:
        if not config.servers:
            raise StorageError("no etcd servers given")
        self.config = config
        self._clock = clock
        self._endpoints: list[_Endpoint] = []
        self._next = 0
        self._metadata: tuple[tuple[str, str], ...] = ()

    async def connect(self) -> None:
        """Opens channels and logs in if a user is configured. :raises Unavailable: nobody there."""
        credentials = self._credentials()
        for server in self.config.servers:
            url = urlsplit(server if "://" in server else f"http://{server}")
            target = f"{url.hostname}:{url.port or 2379}"
            if ":" in (url.hostname or ""):
                target = f"[{url.hostname}]:{url.port or 2379}"
            if url.scheme in ("https", "unixs"):
                if credentials is None:
                    credentials = grpc.ssl_channel_credentials()  # type: ignore[no-untyped-call]
                channel = grpc.aio.secure_channel(target, credentials, options=_OPTIONS)
            else:
                channel = grpc.aio.insecure_channel(target, options=_OPTIONS)
            self._endpoints.append(_Endpoint(server, channel))
        await self._login(self.config.start_timeout)

    def _credentials(self) -> Any:
        config = self.config
        if not (config.ca_file or config.cert_file):
            return None
        try:
            parts = [
                Path(name).read_bytes() if name else None
                for name in (config.ca_file, config.key_file, config.cert_file)
            ]
        except OSError as error:
            raise StorageError(f"etcd: {error.filename}: {error.strerror}") from error
        return grpc.ssl_channel_credentials(*parts)  # type: ignore[no-untyped-call]

    async def log_in_again(self, error: Exception) -> None:
        """Gets a new token if ``error`` may come from an old one (watches say so in words)."""
        if self.config.username and ("auth" in str(error) or "token" in str(error)):
            await self._login()

    async def _login(self, timeout: float | None = None) -> None:
        if not self.config.username:
            return
        self._metadata = ()
        request = pb.AuthenticateRequest(name=self.config.username, password=self.config.password)
        answer = await self.read("authenticate", request, timeout)
        self._metadata = (("token", answer.token),)

    async def close(self) -> None:
        endpoints, self._endpoints = self._endpoints, []
        for endpoint in endpoints:
            await endpoint.channel.close()

    def pick(self) -> _Endpoint:
        """The next endpoint in turn that has not just failed; else the next one."""
        count = len(self._endpoints)
        if not count:
            raise Unavailable("the store is closed")
        now = self._clock.monotonic()
        for step in range(count):
            endpoint = self._endpoints[(self._next + step) % count]
            if endpoint.avoid_until <= now:
                self._next += step + 1
                return endpoint
        self._next += 1
        return self._endpoints[self._next % count]

    def avoid(self, endpoint: _Endpoint) -> None:
        endpoint.avoid_until = self._clock.monotonic() + _AVOID_SECONDS

    async def call_once(self, method: str, request: Any, timeout: float) -> Any:
        """One call. :raises Ambiguous: no answer. :raises StorageError: a refusal."""
        endpoint = self.pick()
        try:
            return await endpoint.methods[method](request, timeout=timeout, metadata=self._metadata)
        except grpc.aio.AioRpcError as error:
            if error.code() in _MAY_HAVE_HAPPENED:
                self.avoid(endpoint)
                raise Ambiguous(error) from error
            if error.code() is grpc.StatusCode.UNAUTHENTICATED and self.config.username:
                await self._login()
                return await self._again(method, request, timeout)
            raise refusal(error) from error

    async def _again(self, method: str, request: Any, timeout: float) -> Any:
        try:
            return await self.pick().methods[method](
                request, timeout=timeout, metadata=self._metadata
            )
        except grpc.aio.AioRpcError as error:
            if error.code() in _MAY_HAVE_HAPPENED:
                raise Ambiguous(error) from error
            raise refusal(error) from error

    async def read(self, method: str, request: Any, timeout: float | None = None) -> Any:
        """A call that may be repeated. :raises Unavailable: no member answered in time."""
        budget = self.budget(timeout)
        while True:
            try:
                return await self.call_once(method, request, budget.for_call())
            except Ambiguous as error:
                if not await budget.pause():
                    raise Unavailable(str(error)) from error

    def budget(self, timeout: float | None = None) -> Budget:
        whole = self.config.timeout if timeout is None else timeout
        return Budget(self._clock, self.config.call_timeout, whole)

    def watch_call(self, endpoint: _Endpoint) -> Any:
        """A new watch stream to ``endpoint``."""
        return endpoint.watch(self._metadata)


class Budget:
    """How long an operation may still take."""

    def __init__(self, clock: Clock, call_timeout: float, timeout: float) -> None:
        self._clock = clock
        self._call_timeout = call_timeout
        self._deadline = clock.monotonic() + timeout

    def left(self) -> float:
        return self._deadline - self._clock.monotonic()

    def for_call(self) -> float:
        return max(0.01, min(self._call_timeout, self.left()))

    async def pause(self) -> bool:
        """A breath before the next try; false when there is no time for one."""
        if self.left() <= 2 * _RETRY_SECONDS:
            return False
        await self._clock.sleep(_RETRY_SECONDS)
        return True


def refusal(error: grpc.aio.AioRpcError) -> StorageError:
    """etcd's answer that it did not do it, as a store error."""
    text = f"etcd: {error.code().name}: {error.details()}"
    details = error.details() or ""
    if "larger than max" in details or "request is too large" in details:
        return TooLarge()
    if error.code() in (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.PERMISSION_DENIED):
        return StorageError(text)
    if error.code() is grpc.StatusCode.OUT_OF_RANGE:
        return OutOfRange(text)
    return Unavailable(text)


class OutOfRange(StorageError):
    """A revision that etcd doesn't have; the text says whether compacted or future."""

    @property
    def compacted(self) -> bool:
        return "compacted" in str(self)
