"""The client over HTTPS: ``interfaces.Client`` for components in processes of their own.

aiohttp is imported when the first request is made. As client-go does, a request is tried again
when the server says so (429 or 5xx with Retry-After) and a GET also when the connection broke.
"""

from __future__ import annotations

import os
import ssl
import tempfile
from collections.abc import AsyncIterator, Mapping
from time import perf_counter
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

import orjson

from pilothouse.apimachinery.clock import Clock, RealClock
from pilothouse.apimachinery.errors import StatusError, from_status
from pilothouse.apimachinery.object import Obj, meta
from pilothouse.kubeclient.client_metrics import ClientMetrics
from pilothouse.kubeclient.interfaces import (
    DeleteOptions,
    ListOptions,
    ObjectList,
    PatchType,
    WatchEvent,
)
from pilothouse.kubeclient.parameters import (
    delete_options_body,
    list_parameters,
    watch_parameters,
    write_parameters,
)

if TYPE_CHECKING:
    import aiohttp

    from pilothouse.apimachinery.schema import GroupVersionResource
    from pilothouse.kubeclient.kubeconfig import ClientConfig

MAX_RETRIES = 10
CONNECTION_RETRY_SECONDS = 1.0
TOKEN_FILE_SECONDS = 60.0
_LIST = ListOptions()
_DELETE = DeleteOptions()
_REASONS = {
    400: "BadRequest",
    401: "Unauthorized",
    403: "Forbidden",
    404: "NotFound",
    405: "MethodNotAllowed",
    406: "NotAcceptable",
    409: "Conflict",
    410: "Gone",
    413: "RequestEntityTooLarge",
    415: "UnsupportedMediaType",
    422: "Invalid",
    429: "TooManyRequests",
    500: "InternalError",
    503: "ServiceUnavailable",
    504: "Timeout",
}


class HTTPSWatch:
    """A watch response; each chunk that arrives gives the batch of lines that it completes."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._response = response

    async def __aiter__(self) -> AsyncIterator[list[WatchEvent]]:
        import aiohttp

        rest = b""
        try:
            async for chunk in self._response.content.iter_any():
                *lines, rest = (rest + chunk).split(b"\n")
                batch: list[WatchEvent] = []
                for line in lines:
                    if line:
                        event = _watch_event(orjson.loads(line))
                        if isinstance(event, StatusError):
                            if batch:
                                yield batch
                            raise event
                        batch.append(event)
                if batch:
                    yield batch
        except (aiohttp.ClientPayloadError, aiohttp.ClientConnectionError) as error:
            raise ConnectionError(f"the watch broke: {error}") from error

    async def close(self) -> None:
        self._response.close()


def _watch_event(line: Obj) -> WatchEvent | StatusError:
    if line["type"] == "ERROR":
        return from_status(line["object"])
    return WatchEvent(line["type"], line["object"])


class HTTPSClient:
    """Implements ``interfaces.Client`` for a :class:`ClientConfig`."""

    def __init__(self, config: ClientConfig, clock: Clock | None = None) -> None:
        self.config = config
        self._clock = clock or RealClock()
        self.metrics = ClientMetrics(config.server)
        self._session: aiohttp.ClientSession | None = None
        self._ssl: ssl.SSLContext | None = None
        self._token = config.token
        self._token_read = float("-inf")

    async def get(
        self,
        resource: GroupVersionResource,
        name: str,
        namespace: str = "",
        *,
        subresource: str = "",
    ) -> Obj:
        return await self._json("GET", path_of(resource, namespace, name, subresource))

    async def list(
        self,
        resource: GroupVersionResource,
        namespace: str = "",
        options: ListOptions = _LIST,
    ) -> ObjectList:
        body = await self._json("GET", path_of(resource, namespace), list_parameters(options))
        items = body.get("items") or []
        kind = body.get("kind", "").removesuffix("List")
        for item in items:  # the items of a list don't repeat what the list says
            item.setdefault("apiVersion", body.get("apiVersion"))
            item.setdefault("kind", kind)
        return ObjectList(
            items, meta(body).get("resourceVersion") or "", meta(body).get("continue") or ""
        )

    async def watch(
        self,
        resource: GroupVersionResource,
        namespace: str = "",
        options: ListOptions = _LIST,
        *,
        send_initial_events: bool = False,
        allow_bookmarks: bool = True,
        timeout_seconds: int = 0,
    ) -> HTTPSWatch:
        query = watch_parameters(
            options,
            send_initial_events=send_initial_events,
            allow_bookmarks=allow_bookmarks,
            timeout_seconds=timeout_seconds,
        )
        response = await self._open("GET", path_of(resource, namespace), query, stream=True)
        return HTTPSWatch(response)

    async def create(
        self,
        resource: GroupVersionResource,
        obj: Obj,
        namespace: str = "",
        *,
        name: str = "",
        subresource: str = "",
        field_manager: str = "",
        dry_run: bool = False,
    ) -> Obj:
        path = path_of(resource, namespace or meta(obj).get("namespace") or "", name, subresource)
        return await self._json("POST", path, write_parameters(field_manager, dry_run), obj)

    async def update(
        self,
        resource: GroupVersionResource,
        obj: Obj,
        *,
        subresource: str = "",
        field_manager: str = "",
        dry_run: bool = False,
    ) -> Obj:
        metadata = meta(obj)
        path = path_of(resource, metadata.get("namespace") or "", metadata["name"], subresource)
        return await self._json("PUT", path, write_parameters(field_manager, dry_run), obj)

    async def patch(
        self,
        resource: GroupVersionResource,
        name: str,
        patch: Any,
        patch_type: PatchType,
        namespace: str = "",
        *,
        subresource: str = "",
        field_manager: str = "",
        force: bool = False,
        dry_run: bool = False,
    ) -> Obj:
        query = write_parameters(field_manager, dry_run, force=force)
        path = path_of(resource, namespace, name, subresource)
        return await self._json("PATCH", path, query, patch, content_type=patch_type)

    async def delete(
        self,
        resource: GroupVersionResource,
        name: str,
        namespace: str = "",
        options: DeleteOptions = _DELETE,
    ) -> Obj:
        path = path_of(resource, namespace, name)
        return await self._json("DELETE", path, body=delete_options_body(options))

    async def delete_collection(
        self,
        resource: GroupVersionResource,
        namespace: str = "",
        options: ListOptions = _LIST,
        delete: DeleteOptions = _DELETE,
    ) -> None:
        await self._json(
            "DELETE",
            path_of(resource, namespace),
            list_parameters(options),
            delete_options_body(delete),
        )

    async def request(self, method: str, path: str, body: Any = None) -> Any:
        response = await self._open(method, path, body=body)
        data = await _read(response)
        if response.content_type == "application/json":
            return orjson.loads(data) if data else None
        return data.decode("utf-8", "replace")

    async def close(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def _json(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None = None,
        body: Any = None,
        *,
        content_type: str = "application/json",
    ) -> Obj:
        response = await self._open(method, path, query, body, content_type=content_type)
        read = await _read(response)
        self.metrics.read(method, len(read))
        return orjson.loads(read)  # type: ignore[no-any-return]

    async def _open(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None = None,
        body: Any = None,
        *,
        content_type: str = "application/json",
        stream: bool = False,
    ) -> aiohttp.ClientResponse:
        """Sends the request until it is answered for good. :raises StatusError: status >= 400."""
        url = self.config.server + path + (f"?{urlencode(query)}" if query else "")
        data = None if body is None else orjson.dumps(body)
        for attempt in range(MAX_RETRIES + 1):
            headers = self._headers() | ({"Content-Type": content_type} if data else {})
            try:
                response = await self._send(method, url, headers, data, stream)
            except ConnectionError:
                if method != "GET" or stream or attempt == MAX_RETRIES:
                    raise
                await self._clock.sleep(CONNECTION_RETRY_SECONDS)
                continue
            if response.status < 400:
                return response
            error = _status_error(response, await _read(response), method, path)
            wait = _retry_after(response)
            if wait is None or attempt == MAX_RETRIES:
                raise error
            await self._clock.sleep(wait)
        raise AssertionError("unreachable: the last attempt returns or raises")

    async def _send(
        self, method: str, url: str, headers: dict[str, str], data: bytes | None, stream: bool
    ) -> aiohttp.ClientResponse:
        import aiohttp

        session = self._session or self._connect()
        config = self.config
        groups = [("Impersonate-Group", group) for group in config.impersonate_groups]
        timeout = aiohttp.ClientTimeout(
            total=None if stream else self.config.timeout, sock_connect=30
        )
        start = perf_counter()
        code = "<error>"
        try:
            response = await session.request(
                method,
                url,
                headers=[*headers.items(), *groups],
                data=data,
                timeout=timeout,
                allow_redirects=False,
                server_hostname=config.tls_server_name or None,
            )
            code = str(response.status)
            return response
        except TimeoutError:
            raise
        except aiohttp.ClientConnectionError as error:
            raise ConnectionError(f"{self.config.server}: {error}") from error
        finally:
            seconds = perf_counter() - start
            self.metrics.answered(method, code, seconds, len(data) if data else 0)

    async def present(self, certificate: bytes, key: bytes) -> None:
        """Another client certificate from now on (PEM). Open connections are closed, watches
        with them, as client-go does: they are somebody's whose certificate runs out."""
        import dataclasses

        self.config = dataclasses.replace(
            self.config, client_certificate_data=certificate, client_key_data=key
        )
        session, self._session, self._ssl = self._session, None, None
        if session is not None:
            await session.close()

    def _connect(self) -> aiohttp.ClientSession:
        import aiohttp

        context: ssl.SSLContext | bool = True
        if self.config.server.startswith("https"):
            context = self._ssl = self._ssl or tls_context(self.config)
        connector = aiohttp.TCPConnector(limit=0, ssl=context, keepalive_timeout=90)
        # Unpacking costs more here than the bytes do on the way between components.
        self._session = aiohttp.ClientSession(
            connector=connector, headers={"Accept-Encoding": "identity"}, read_bufsize=1 << 20
        )
        return self._session

    def _headers(self) -> dict[str, str]:
        config = self.config
        headers = {"Accept": "application/json", "User-Agent": config.user_agent}
        token = self._bearer_token()
        if token:
            headers["Authorization"] = f"Bearer {token}"
        elif config.username:
            import base64

            pair = f"{config.username}:{config.password}".encode()
            headers["Authorization"] = f"Basic {base64.b64encode(pair).decode()}"
        if config.impersonate:
            headers["Impersonate-User"] = config.impersonate
        return headers

    def _bearer_token(self) -> str:
        if self.config.token_file:
            now = self._clock.monotonic()
            if now - self._token_read > TOKEN_FILE_SECONDS:
                self._token_read = now
                try:
                    with open(self.config.token_file) as file:
                        self._token = file.read().strip()
                except OSError:
                    if not self._token:
                        raise
        return self._token


def path_of(
    resource: GroupVersionResource, namespace: str = "", name: str = "", subresource: str = ""
) -> str:
    """The URL path of a resource or an object."""
    parts = ["api" if not resource.group else f"apis/{resource.group}", resource.version]
    if namespace:
        parts += ["namespaces", quote(namespace, safe="")]
    parts.append(resource.resource)
    if name:
        parts.append(quote(name, safe=":"))
    if subresource:
        parts.append(subresource)
    return "/" + "/".join(parts)


def tls_context(config: ClientConfig) -> ssl.SSLContext:
    """Trusts the config's CA only and presents its client certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if config.insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    elif config.ca_data:
        context.load_verify_locations(cadata=config.ca_data.decode())
    else:
        context.load_default_certs()
    if config.client_certificate_data:
        # The ssl module reads key pairs from files only: one that nobody else can open.
        descriptor, path = tempfile.mkstemp(prefix="pilothouse-")
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(config.client_certificate_data + b"\n" + config.client_key_data)
            context.load_cert_chain(path)
        finally:
            os.unlink(path)
    return context


async def _read(response: aiohttp.ClientResponse) -> bytes:
    import aiohttp

    try:
        return await response.read()
    except (aiohttp.ClientPayloadError, aiohttp.ClientConnectionError) as error:
        raise ConnectionError(str(error)) from error


def _retry_after(response: aiohttp.ClientResponse) -> float | None:
    """Seconds that the server asks to wait, for the codes where client-go obeys."""
    if response.status != 429 and response.status < 500:
        return None
    try:
        return max(0.0, float(response.headers.get("Retry-After", "")))
    except ValueError:
        return None


def _status_error(
    response: aiohttp.ClientResponse, body: bytes, method: str, path: str
) -> StatusError:
    try:
        status = orjson.loads(body)
    except ValueError:
        status = None
    if isinstance(status, dict) and status.get("kind") == "Status":
        return from_status(status | {"code": status.get("code") or response.status})
    text = body.decode("utf-8", "replace").strip() or response.reason or "unknown"
    return StatusError(
        response.status,
        _REASONS.get(response.status, ""),
        f"{method} {path}: {text[:2048]}",
    )


async def wait_ready(client: HTTPSClient, *, clock: Clock, timeout: float = 30.0) -> None:
    """Until ``/readyz`` answers ok: for a component that starts beside its server.

    :raises TimeoutError: it did not within ``timeout``.
    """
    deadline = clock.monotonic() + timeout
    delay = 0.02
    while True:
        try:
            await client.request("GET", "/readyz")
            return
        except (TimeoutError, StatusError, ConnectionError) as error:
            if clock.monotonic() >= deadline:
                raise TimeoutError(f"{client.config.server} is not ready: {error}") from error
        await clock.sleep(delay)
        delay = min(delay * 2, 0.5)
