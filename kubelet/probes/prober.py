"""One probe: exec, HTTP GET, TCP connect or gRPC health check (pkg/probe). I/O only.

Connections to a pod are made from the node's side; ``connect`` (given by the composition root)
opens them where the node lives when that is a network namespace of its own.
"""

from __future__ import annotations

import asyncio
import re
import ssl
from collections.abc import Awaitable, Callable, Iterable
from typing import Any
from urllib.parse import quote, urljoin, urlsplit

from pilothouse.apimachinery.object import Obj
from pilothouse.kubelet.probes.results import ProbeSpec
from pilothouse.kubelet.runtime.errors import ExecTimeout, RuntimeFailure
from pilothouse.kubelet.runtime.interfaces import RuntimeService

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Connect = Callable[[str, int], Awaitable[Streams]]
"""(host, port) -> streams; raises OSError."""
MAX_BODY = 10 * 1024
MAX_REDIRECTS = 10
_PORTS = {"http": 80, "https": 443}
ENDED_REDIRECTS = "Probe terminated redirects"
"""How the text of a success begins that deserves a warning."""
USER_AGENT = "kube-probe/1.37"
Outcome = tuple[bool, str]
"""(success, what was seen)"""


async def open_connection(host: str, port: int) -> Streams:
    return await asyncio.open_connection(host, port)


class HTTPGetter:
    """Minimal HTTP/1.1 GET over ``connect``: no pool; redirects are followed on the same host,
    an answer that leads elsewhere is the last."""

    def __init__(self, connect: Connect = open_connection) -> None:
        self.connect = connect

    async def get(
        self, scheme: str, host: str, port: int, path: str, headers: Iterable[Obj], timeout: float
    ) -> tuple[int, bytes]:
        """(status, at most 10 KiB of the body). :raises OSError: no proper answer in time."""
        try:
            async with asyncio.timeout(timeout):
                return await self._get(scheme, host, port, path, headers)
        except TimeoutError as error:
            raise OSError(
                f'Get "{scheme.lower()}://{host}:{port}{path}": context deadline exceeded '
                "(Client.Timeout exceeded while awaiting headers)"
            ) from error
        except (ValueError, asyncio.IncompleteReadError) as error:
            raise OSError(f"malformed HTTP response: {error}") from error

    async def _get(
        self, scheme: str, host: str, port: int, path: str, headers: Iterable[Obj]
    ) -> tuple[int, bytes]:
        headers = list(headers)
        for _ in range(MAX_REDIRECTS):
            status, location, body = await self._get_once(scheme, host, port, path, headers)
            if not (300 <= status < 400 and location):
                return status, body
            here = f"{scheme.lower()}://{host}:{port}{path if path[:1] == '/' else '/' + path}"
            target = urlsplit(urljoin(here, location))
            if target.hostname != host or target.scheme not in _PORTS:
                return status, body
            scheme, port = target.scheme, target.port or _PORTS[target.scheme]
            path = (target.path or "/") + (f"?{target.query}" if target.query else "")
        raise OSError(f"stopped after {MAX_REDIRECTS} redirects")

    async def _get_once(
        self, scheme: str, host: str, port: int, path: str, headers: Iterable[Obj]
    ) -> tuple[int, str, bytes]:
        reader, writer = await self.connect(host, port)
        try:
            if scheme.upper() == "HTTPS":
                await writer.start_tls(_insecure_context(), server_hostname=host)
            writer.write(_request(host, port, path, headers))
            await writer.drain()
            return await _read_response(reader)
        finally:
            writer.close()


def _insecure_context() -> ssl.SSLContext:
    """Probes do not verify certificates, as upstream."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


_CONTROL = re.compile("[\x00-\x08\x0a-\x1f\x7f]")
_AS_IT_IS = "/:?#[]@!$&'()*+,;=~%-._|^`{}<>\"\\"
"""All of a path that is printable; a blank or line end in it must not end the request line."""


def _request(host: str, port: int, path: str, headers: Iterable[Obj]) -> bytes:
    lines = {"user-agent": ("User-Agent", USER_AGENT), "accept": ("Accept", "*/*"),
             "host": ("Host", f"{host}:{port}")}  # fmt: skip
    for header in headers:
        name, value = header["name"], header.get("value") or ""
        if _CONTROL.search(value):
            raise OSError(f'net/http: invalid header field value for "{name}"')
        lines[name.lower()] = (name, value)
    path = quote(path if path.startswith("/") else f"/{path}", safe=_AS_IT_IS)
    text = "".join(f"{name}: {value}\r\n" for name, value in lines.values() if value)
    return f"GET {path} HTTP/1.1\r\n{text}Connection: close\r\n\r\n".encode("latin-1", "replace")


async def _read_response(reader: asyncio.StreamReader) -> tuple[int, str, bytes]:
    """(status, Location or '', at most 10 KiB of the body)."""
    status_line = await reader.readuntil(b"\r\n")
    if not status_line.startswith(b"HTTP/"):
        raise ValueError(f"malformed HTTP response {status_line[:40]!r}")
    status = int(status_line.split()[1])
    location = ""
    while line := (await reader.readuntil(b"\r\n")).strip():
        name, _, value = line.partition(b":")
        if name.lower() == b"location":
            location = value.strip().decode("latin-1")
    return status, location, await reader.read(MAX_BODY)


class Prober:
    def __init__(self, runtime: RuntimeService, http: HTTPGetter) -> None:
        self._runtime = runtime
        self._http = http

    async def probe(
        self, spec: ProbeSpec, pod: Obj, container: Obj, container_id: str, pod_ip: str
    ) -> Outcome:
        """Never raises for a target that does not answer: that is a failure with a text."""
        handler = spec.handler
        if handler.get("exec"):
            return await self._exec(handler["exec"], container_id, spec.timeout)
        if handler.get("httpGet"):
            return await self._http_get(handler["httpGet"], container, pod_ip, spec.timeout)
        if handler.get("tcpSocket"):
            return await self._tcp(handler["tcpSocket"], container, pod_ip, spec.timeout)
        if handler.get("grpc"):
            return await self._grpc(handler["grpc"], pod_ip, spec.timeout)
        return False, f"missing probe handler for {pod['metadata']['name']}:{container['name']}"

    async def _exec(self, action: Obj, container_id: str, timeout: float) -> Outcome:
        command = list(action.get("command") or ())
        try:
            out, err, code = await self._runtime.exec_sync(container_id, command, timeout)
        except ExecTimeout:
            return False, f"command timed out: {command!r} timed out after {timeout:g}s"
        except RuntimeFailure as error:
            return False, str(error)
        return code == 0, (out + err)[:MAX_BODY].decode(errors="replace")

    async def _http_get(self, action: Obj, container: Obj, pod_ip: str, timeout: float) -> Outcome:
        port = container_port(container, action.get("port"))
        if port is None:
            return False, f"couldn't find port: {action.get('port')}"
        scheme = action.get("scheme") or "HTTP"
        host = action.get("host") or pod_ip
        try:
            status, body = await self._http.get(
                scheme,
                host,
                port,
                action.get("path") or "/",
                action.get("httpHeaders") or (),
                timeout,
            )
        except OSError as error:
            text = str(error)
            if not text.startswith("Get "):
                text = f'Get "{scheme.lower()}://{host}:{port}{action.get("path") or "/"}": {text}'
            return False, text
        if 300 <= status < 400:
            return True, f"{ENDED_REDIRECTS}, Response body: {body.decode(errors='replace')}"
        if 200 <= status < 300:
            return True, body.decode(errors="replace")
        return False, f"HTTP probe failed with statuscode: {status}"

    async def _tcp(self, action: Obj, container: Obj, pod_ip: str, timeout: float) -> Outcome:
        port = container_port(container, action.get("port"))
        if port is None:
            return False, f"couldn't find port: {action.get('port')}"
        host = action.get("host") or pod_ip
        try:
            async with asyncio.timeout(timeout):
                _, writer = await self._http.connect(host, port)
        except TimeoutError:
            return False, f"dial tcp {host}:{port}: i/o timeout"
        except OSError as error:
            return False, f"dial tcp {host}:{port}: {error.strerror or error}"
        writer.close()
        return True, ""

    async def _grpc(self, action: Obj, pod_ip: str, timeout: float) -> Outcome:
        try:
            import grpc.aio
        except ImportError:
            return False, "gRPC probes need the extra `etcd` (grpcio)"
        address = f"{pod_ip}:{action['port']}"
        service = (action.get("service") or "").encode()
        message = b"\n" + bytes([len(service)]) + service if service else b""
        async with grpc.aio.insecure_channel(address) as channel:
            check: Any = channel.unary_unary("/grpc.health.v1.Health/Check")
            try:
                answer: bytes = await check(message, timeout=timeout)
            except grpc.aio.AioRpcError as error:
                return False, f'service unhealthy (responded with "{error.code().name}")'
        serving = answer == b"\x08\x01"  # status = SERVING
        return serving, "service healthy" if serving else "service unhealthy"


def container_port(container: Obj, port: Any) -> int | None:
    """A number, or the container port of that name."""
    if isinstance(port, int):
        return port if 0 < port < 65536 else None
    for entry in container.get("ports") or ():
        if entry.get("name") == port:
            return int(entry["containerPort"])
    return int(port) if isinstance(port, str) and port.isdigit() else None


def find_port(pod: Obj, port: Any) -> int | None:
    """The same over all containers of a pod."""
    for container in (*(pod["spec"].get("containers") or ()),
                      *(pod["spec"].get("initContainers") or ())):  # fmt: skip
        found = container_port(container, port)
        if found is not None:
            return found
    return None
