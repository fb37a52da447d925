"""A real webhook for tests: HTTPS on loopback, certificates of its own CA.

async with WebhookServer() as hooks:
    hooks.on("/deny", lambda review: denied("no"))
    configuration["clientConfig"] = hooks.client_config("/deny")
"""

from __future__ import annotations

import asyncio
import base64
import inspect
import json
import ssl
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pilothouse.apimachinery.clock import RealClock
from pilothouse.apimachinery.errors import StatusError
from pilothouse.componentbase.certs import make_ca, make_serving_cert

if TYPE_CHECKING:
    from collections.abc import Callable

    from pilothouse.apimachinery.object import Obj
    from pilothouse.componentbase.certs import KeyPair

    Reply = Callable[[Obj], Any]


class WebhookServer:
    """``reviews`` holds what was asked, by path; a handler gets the review and returns the
    response (a dict), a whole review (with ``kind``), or (status, bytes)."""

    def __init__(self, *names: str) -> None:
        now = RealClock().now()  # TLS looks at the machine's
        self.ca = make_ca("webhook-ca", now=now)
        self._pair = make_serving_cert(
            self.ca, "webhook", now=now, names=("localhost", *names), ips=("127.0.0.1",)
        )
        self._handlers: dict[str, Reply] = {}
        self.reviews: dict[str, list[Obj]] = {}
        self.targets: list[str] = []
        """Paths with their queries, in order."""
        self.connections = 0
        self.port = 0

    def on(self, path: str, handler: Reply) -> None:
        self._handlers[path] = handler

    def client_config(self, path: str) -> Obj:
        return {"url": f"https://127.0.0.1:{self.port}{path}", "caBundle": self.ca_bundle}

    @property
    def ca_bundle(self) -> str:
        return base64.b64encode(self.ca.cert).decode()

    async def __aenter__(self) -> WebhookServer:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        _load(context, self._pair)
        self._writers: set[asyncio.StreamWriter] = set()
        self._serving: set[asyncio.Task[Any]] = set()
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=context)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        self.drop_connections()
        await asyncio.gather(*self._serving, return_exceptions=True)
        await self._server.wait_closed()

    def drop_connections(self) -> None:
        for writer in list(self._writers):
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._writers.add(writer)
        task = asyncio.current_task()
        assert task is not None
        self._serving.add(task)
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
                lines = head.split("\r\n")
                target = lines[0].split(" ")[1]
                headers = dict(line.lower().split(": ", 1) for line in lines[1:] if ": " in line)
                body = await reader.readexactly(int(headers.get("content-length", 0)))
                status, answer = await self._answer(target, json.loads(body))
                writer.write(
                    f"HTTP/1.1 {status} X\r\nContent-Type: {_content_type(answer)}\r\n"
                    f"Content-Length: {len(answer)}\r\n\r\n".encode()
                    + answer
                )
                await writer.drain()
        except (asyncio.IncompleteReadError, OSError):
            pass
        finally:
            self._writers.discard(writer)
            self._serving.discard(task)
            writer.close()

    async def _answer(self, target: str, review: Obj) -> tuple[int, bytes]:
        path = target.partition("?")[0]
        self.targets.append(target)
        self.reviews.setdefault(path, []).append(review)
        handler = self._handlers.get(path)
        if handler is None:
            return 404, b"404 page not found"
        reply = handler(review)
        if inspect.isawaitable(reply):
            reply = await reply
        if isinstance(reply, tuple):
            return reply
        if "kind" not in reply:
            response = {"uid": review["request"]["uid"], **reply}
            reply = {key: review[key] for key in ("kind", "apiVersion")} | {"response": response}
        return 200, json.dumps(reply).encode()


def _content_type(answer: bytes) -> str:
    return "application/json" if answer.startswith(b"{") else "text/plain"


def _load(context: ssl.SSLContext, pair: KeyPair) -> None:
    with tempfile.TemporaryDirectory() as folder:
        cert, key = Path(folder, "tls.crt"), Path(folder, "tls.key")
        cert.write_bytes(pair.cert)
        key.write_bytes(pair.key)
        context.load_cert_chain(cert, key)


def allowed(**more: Any) -> Obj:
    return {"allowed": True, **more}


def denied(message: str = "", **status: Any) -> Obj:
    if message:
        status["message"] = message
    return {"allowed": False, "status": status}


def patched(*operations: Obj) -> Obj:
    encoded = base64.b64encode(json.dumps(operations).encode()).decode()
    return {"allowed": True, "patch": encoded, "patchType": "JSONPatch"}


def add(path: str, value: Any) -> Obj:
    """A JSON patch operation."""
    return {"op": "add", "path": path, "value": value}


def rule(resources: str, group: str = "", **more: Any) -> dict[str, Any]:
    return {
        "apiGroups": [group],
        "apiVersions": ["v1"],
        "resources": [resources],
        "operations": ["*"],
        **more,
    }


async def refused(call: Any) -> StatusError:
    """The error that a call ends with."""
    try:
        await call
    except StatusError as error:
        return error
    raise AssertionError("it was allowed")
