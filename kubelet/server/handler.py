"""The kubelet's own API: paths to handlers, over HTTPS (``https.py``) or called in one process.

``request`` answers plain requests; ``upgrade`` takes a connection over for exec, attach and
port-forward, and does the handshake itself. Paths and error texts are upstream's.
"""

from __future__ import annotations

import asyncio
import http
import json
import logging
from collections.abc import Mapping
from contextlib import aclosing
from typing import TYPE_CHECKING
from urllib.parse import parse_qs

from pilothouse.kubelet.runtime.errors import RuntimeFailure
from pilothouse.kubelet.server import containers, logs, node_logs, stats
from pilothouse.kubelet.server.cpu_rates import CPURates
from pilothouse.kubelet.server.inotify import DirectoryWatches
from pilothouse.kubelet.server.interfaces import JSON, KubeletHost, Refusal, Response
from pilothouse.kubelet.server.log_format import LogOptions

if TYPE_CHECKING:
    from pilothouse.kubelet.server.remote_command import Options, RemoteStreams, Status

log = logging.getLogger(__name__)
Query = Mapping[str, list[str]]
_STREAMING = ("exec", "attach", "portForward")
_READ_ONLY = ("containerLogs", "pods", "runningpods", "stats", "metrics", "configz", "healthz")


class KubeletServer:
    """Both methods of ``apiserver.kubelet_connection.KubeletHandler``, with our own Response."""

    def __init__(self, kubelet: KubeletHost) -> None:
        self._host = kubelet
        self._watches = DirectoryWatches()
        self._cpu_rates = CPURates()

    # -- plain requests ------------------------------------------------------------------

    async def request(
        self, method: str, path: str, query: str, headers: dict[str, str], body: bytes
    ) -> Response:
        """Never raises: whatever is wrong becomes an answer."""
        # The HTTP edge runs a GET's first step outside of any task, where runtimes can't have
        # timeouts.
        await asyncio.sleep(0)
        try:
            return await self._route(method, path, parse_query(query))
        except Refusal as refusal:
            return refusal.response()
        except RuntimeFailure as error:
            return Response(500, str(error).encode())

    async def _route(self, method: str, path: str, query: Query) -> Response:
        parts = [part for part in path.split("/") if part]
        root = parts[0] if parts else ""
        if root in _READ_ONLY and method not in ("GET", "HEAD"):
            raise Refusal(405, "Method Not Allowed", ("Allow", "GET"))
        match parts:
            case ["healthz"] | ["healthz", "ping" | "log" | "syncloop"]:
                return self._healthz()
            case ["pods"] | ["runningpods"]:
                return self._pods(running=root == "runningpods")
            case ["containerLogs", namespace, pod, container]:
                return await self._logs(namespace, pod, container, query)
            case ["run", namespace, pod, *uid, container] if method == "POST" and len(uid) < 2:
                return await self._run(namespace, pod, "".join(uid), container, query)
            case ["checkpoint", namespace, pod, container] if method == "POST":
                return self._checkpoint(namespace, pod, container, query)
            case ["stats", "summary"]:
                only = (query.get("only_cpu_and_memory") or [""])[0] in ("true", "1")
                found = await stats.summary(self._host, self._cpu_rates, only_cpu_and_memory=only)
                return _json(found)
            case ["metrics"]:
                return stats.exposition(stats.own_metrics(self._host))
            case ["metrics", "resource"]:
                return stats.exposition(await stats.resource_metrics(self._host))
            case ["metrics", "probes"]:
                return stats.exposition(stats.probe_metrics(self._host))
            case ["metrics", "cadvisor"]:
                return stats.exposition(await stats.container_metrics(self._host))
            case ["configz"]:
                return _json(stats.configz(self._host.config))
            case ["logs", *rest] if method in ("GET", "HEAD"):
                root_dir = self._host.config.root_dir
                return await asyncio.to_thread(node_logs.serve, root_dir, rest, path)
            case [root, *_] if root in _STREAMING:
                raise Refusal(400, "Upgrade request required")
        raise Refusal(404, "404: Page Not Found")

    def _healthz(self) -> Response:
        problem = self._host.health()
        if problem is None:
            return Response(body=b"ok")
        text = f"[+]ping ok\n[+]log ok\n[-]syncloop failed: {problem}\nhealthz check failed\n"
        return Response(500, text.encode())

    def _pods(self, *, running: bool) -> Response:
        pods = self._host.pods()
        if running:
            pods = [p for p in pods if self._host.cache.get(p["metadata"]["uid"]).running]
        items = [{k: v for k, v in pod.items() if k not in ("kind", "apiVersion")} for pod in pods]
        return _json({"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": items})

    async def _logs(self, namespace: str, name: str, container: str, query: Query) -> Response:
        options = LogOptions.from_query(query, self._host.clock.now())
        pod = self._host.find_pod(namespace, name)
        if pod is None:
            raise Refusal(404, f'pod "{name}" does not exist')
        if containers.container_spec(pod, container) is None:
            raise Refusal(404, f'container "{container}" not found in pod "{name}"')
        wanted = logs.logged_container(pod, container, options.previous)
        status = logs.find_attempt(self._host.cache, pod, container, wanted)
        info = await self._host.runtime.info()
        reader = logs.ContainerLogs(
            self._host.cache, self._watches, real_files=info.capabilities.real_processes
        )
        return Response(chunks=await reader.open(status, options))

    async def _run(
        self, namespace: str, name: str, uid: str, container: str, query: Query
    ) -> Response:
        pod = containers.find_pod(self._host, namespace, name, uid)
        running = containers.running_container(self._host, pod, container)
        if running is None:
            raise Refusal(500, f'container not found ("{container}")')
        command = (query.get("cmd") or [""])[0].split(" ")
        stdout, stderr, code = await self._host.runtime.exec_sync(running.id, command, 0)
        if code:
            raise Refusal(500, f"command '{' '.join(command)}' exited with {code}: {stderr!r}")
        return Response(body=stdout + stderr, content_type=JSON)

    def _checkpoint(self, namespace: str, name: str, container: str, query: Query) -> Response:
        """No runtime here can; the answer is that of upstream with such a runtime."""
        pod = containers.find_pod(self._host, namespace, name)
        if containers.container_spec(pod, container) is None:
            raise Refusal(404, f"container {container} does not exist")
        timeout = (query.get("timeout") or ["0"])[-1]
        if not timeout.removeprefix("-").isdigit():
            raise Refusal(404, "cannot parse value of timeout parameter")
        reason = "rpc error: code = Unimplemented desc = method CheckpointContainer not implemented"
        raise Refusal(500, f"checkpointing of {namespace}/{name}/{container} failed ({reason})")

    # -- upgrades ------------------------------------------------------------------------

    async def upgrade(
        self,
        method: str,
        path: str,
        query: str,
        headers: dict[str, str],
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        """Serves the connection to its end and closes it."""
        try:
            try:
                await self._upgrade(method, path, query, headers, reader, writer)
            except Refusal as refusal:
                await _write_response(writer, refusal.response())
        except OSError as error:
            log.debug("%s: the client has left: %s", path, error)
        finally:
            writer.close()

    async def _upgrade(
        self,
        method: str,
        path: str,
        query_text: str,
        headers: dict[str, str],
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        # Loads wsproto, which takes longer than everything else here: only when it is needed.
        from pilothouse.kubelet.server.remote_command import Options

        parts = [part for part in path.split("/") if part]
        query = parse_query(query_text)
        if method not in ("GET", "POST"):
            raise Refusal(405, "405: Method Not Allowed")
        match parts:
            case ["exec" | "attach" as verb, namespace, pod, *uid, container] if len(uid) < 2:
                logic = self._exec if verb == "exec" else self._attach
                options = Options.from_query(query)
                where = (namespace, pod, "".join(uid), container)
                await logic(where, options, query, headers, reader, writer)
            case ["portForward", namespace, pod, *uid] if len(uid) < 2:
                where = (namespace, pod, "".join(uid), "")
                await self._port_forward(where, query, headers, reader, writer)
            case _:
                response = await self.request(method, path, query_text, headers, b"")
                await _write_response(writer, response)

    async def _exec(
        self,
        where: tuple[str, str, str, str],
        options: Options,
        query: Query,
        headers: dict[str, str],
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        from pilothouse.kubelet.server.exec import execute
        from pilothouse.kubelet.server.remote_command import session

        namespace, name, uid, container = where
        pod = containers.find_pod(self._host, namespace, name, uid)
        running = containers.running_container(self._host, pod, container)
        if running is None:
            raise Refusal(500, f'container not found ("{container}")')
        command = query.get("command") or []
        if not command:
            raise Refusal(400, "you must specify a command to execute")

        async def logic(streams: RemoteStreams) -> Status:
            return await execute(self._host.runtime, running.id, command, options, streams)

        await session(headers, options, reader, writer, logic)

    async def _attach(
        self,
        where: tuple[str, str, str, str],
        options: Options,
        query: Query,
        headers: dict[str, str],
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        from pilothouse.kubelet.server.attach import attach
        from pilothouse.kubelet.server.remote_command import session

        namespace, name, uid, container = where
        pod = containers.find_pod(self._host, namespace, name, uid)
        running = containers.running_container(self._host, pod, container)
        spec = containers.container_spec(pod, container)
        if running is None or spec is None:
            text = f"container {container} not found in pod {containers.full_name(pod)}"
            raise Refusal(500, text)
        tty, once = bool(spec.get("tty")), bool(spec.get("stdinOnce"))

        async def logic(streams: RemoteStreams) -> Status:
            runtime = self._host.runtime
            return await attach(runtime, running.id, options, tty, streams, stdin_once=once)

        await session(headers, options, reader, writer, logic)

    async def _port_forward(
        self,
        where: tuple[str, str, str, str],
        query: Query,
        headers: dict[str, str],
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        from pilothouse.kubelet.server.port_forward import PortForward, check_request

        check_request(headers, query)
        namespace, name, uid, _ = where
        pod = containers.find_pod(self._host, namespace, name, uid)
        sandbox = containers.ready_sandbox(self._host, pod)

        async def connect(port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
            return await self._host.runtime.port_forward(sandbox.id, port)

        await PortForward(sandbox.id, connect).serve(headers, query, reader, writer)


def parse_query(text: str) -> dict[str, list[str]]:
    return parse_qs(text, keep_blank_values=True, max_num_fields=10_000)


def _json(value: object) -> Response:
    return Response(body=json.dumps(value, separators=(",", ":")).encode(), content_type=JSON)


async def _write_response(writer: asyncio.StreamWriter, response: Response) -> None:
    """A plain answer to an upgrade request, ended by the end of the connection."""
    try:
        phrase = http.HTTPStatus(response.status).phrase
    except ValueError:
        phrase = ""
    lines = [
        f"HTTP/1.1 {response.status} {phrase}",
        f"Content-Type: {response.content_type}",
        "Connection: close",
        *(f"{name}: {value}" for name, value in response.headers),
    ]
    if response.chunks is None:
        lines.append(f"Content-Length: {len(response.body)}")
    writer.write(("\r\n".join(lines) + "\r\n\r\n").encode("latin-1", "replace") + response.body)
    await writer.drain()
    if response.chunks is not None:
        async with aclosing(response.chunks) as chunks:
            async for chunk in chunks:
                writer.write(chunk)
                await writer.drain()
