"""The streams of an exec or attach session, whichever transport carries them.

``session`` takes the client's connection, does the handshake, and runs the given logic
(``exec.py``, ``attach.py``) until it ends or the client leaves; what it returns becomes the status
on the error channel.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pilothouse.kubelet.server.channels import BASE64_CHANNEL, CHANNEL, Channels, ChannelStream
from pilothouse.kubelet.server.handshake import accept_spdy, accept_websocket, is_websocket
from pilothouse.kubelet.server.interfaces import Inbound, Outbound, Refusal
from pilothouse.kubelet.server.spdy import SpdySession, SpdyStream
from pilothouse.kubelet.server.websocket import SocketTransport, WebSocket

STDIN, STDOUT, STDERR, ERROR, RESIZE = range(5)
V1, V2, V3, V4, V5 = CHANNEL, f"v2.{CHANNEL}", f"v3.{CHANNEL}", f"v4.{CHANNEL}", f"v5.{CHANNEL}"
SPDY_PROTOCOLS = (V5, V4, V3, V2, V1)
WEBSOCKET_PROTOCOLS = (
    V5, V4, V3, V2, V1, f"v4.{BASE64_CHANNEL}", f"v3.{BASE64_CHANNEL}", f"v2.{BASE64_CHANNEL}",
    BASE64_CHANNEL, "",
)  # fmt: skip
STREAM_CREATION_SECONDS = 30.0
"""So long a SPDY client has to open the streams that it asked for."""
Status = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Options:
    stdin: bool = False
    stdout: bool = False
    stderr: bool = False
    tty: bool = False

    @staticmethod
    def from_query(query: Mapping[str, list[str]]) -> Options:
        """:raises Refusal: 400, no stream is asked for."""
        wanted = {
            name: (query.get(name) or [""])[0] == "1"
            for name in ("input", "output", "error", "tty")
        }
        tty = wanted["tty"]
        options = Options(
            wanted["input"], wanted["output"], wanted["error"] and not tty, tty
        )  # a terminal has only one output
        if not (options.stdin or options.stdout or options.stderr):
            raise Refusal(400, "you must specify at least 1 of stdin, stdout, stderr")
        return options


@dataclass(slots=True)
class RemoteStreams:
    """Those that the client asked for."""

    stdin: Inbound | None = None
    stdout: Outbound | None = None
    stderr: Outbound | None = None
    resize: Inbound | None = None


Logic = Callable[[RemoteStreams], Awaitable[Status]]

SUCCESS: Status = {"metadata": {}, "status": "Success"}


def internal_error(text: str) -> Status:
    return {
        "metadata": {},
        "status": "Failure",
        "message": f"Internal error occurred: {text}",
        "reason": "InternalError",
        "details": {"causes": [{"message": text}]},
        "code": 500,
    }


def non_zero_exit(code: int, command: list[str]) -> Status:
    text = f"error executing command [{' '.join(command)}], exit code {code}"
    return {
        "metadata": {},
        "status": "Failure",
        "message": f"command terminated with non-zero exit code: {text}",
        "reason": "NonZeroExitCode",
        "details": {"causes": [{"reason": "ExitCode", "message": str(code)}]},
    }


def status_text(status: Status, protocol: str) -> bytes:
    """What the error channel of ``protocol`` says; before v4 only an error's text."""
    if protocol.startswith(("v4.", "v5.")):
        return json.dumps(status, separators=(",", ":")).encode()
    return b"" if status["status"] == "Success" else status["message"].encode()


async def session(
    headers: Mapping[str, str],
    options: Options,
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    logic: Logic,
    *,
    creation_timeout: float = STREAM_CREATION_SECONDS,
) -> None:
    """Serves one exec or attach connection. :raises Refusal: nothing has been written yet."""
    if is_websocket(headers):
        protocol, head = accept_websocket(headers, WEBSOCKET_PROTOCOLS)
        writer.write(head)
        await _over_websocket(WebSocket(reader, writer), protocol, options, logic)
    else:
        protocol, head = accept_spdy(headers, SPDY_PROTOCOLS)
        writer.write(head)
        transport = SocketTransport(reader, writer)
        await _over_spdy(transport, protocol, options, logic, creation_timeout)


async def until_gone(work: Awaitable[Any], pump: Awaitable[None]) -> Any:
    """What ``work`` returns; None when ``pump`` has ended first (the client has left).

    ``work`` is cancelled then, and ``pump`` when ``work`` is done. None too when a time limit or
    the client's going ended ``work`` (OSError).
    """

    async def run(awaitable: Awaitable[Any]) -> Any:
        try:
            return await awaitable
        except OSError:
            return None

    async with asyncio.TaskGroup() as group:
        working = group.create_task(run(work))
        pumping = group.create_task(run(pump))
        pumping.add_done_callback(lambda _: working.cancel())
        await asyncio.wait({working})
        pumping.cancel()
        await asyncio.wait({pumping})
        return None if working.cancelled() else working.result()


# -- WebSocket ---------------------------------------------------------------------------


async def _over_websocket(socket: WebSocket, protocol: str, options: Options, logic: Logic) -> None:
    readable = [RESIZE, *([STDIN] if options.stdin else ())]
    channels = Channels(socket, protocol, 5, readable)
    streams = RemoteStreams(
        stdin=ChannelStream(channels, STDIN) if options.stdin else None,
        stdout=ChannelStream(channels, STDOUT) if options.stdout else None,
        stderr=ChannelStream(channels, STDERR) if options.stderr else None,
        resize=ChannelStream(channels, RESIZE),
    )
    first = STDOUT if options.stdout else STDERR if options.stderr else ERROR
    try:
        await channels.write(first, b"")  # tells the client that the connection stands
        status = await until_gone(logic(streams), channels.run())
        if status is not None and (text := status_text(status, protocol)):
            await channels.write(ERROR, text)
    except OSError:
        pass
    finally:
        await socket.close()


# -- SPDY --------------------------------------------------------------------------------


class _Arrivals:
    """Collects the streams that a client opens until all that it asked for are there."""

    def __init__(self, protocol: str, options: Options) -> None:
        resizable = protocol not in (V1, V2)
        self._missing = {"error"} | {
            name
            for name, wanted in (
                ("stdin", options.stdin), ("stdout", options.stdout),
                ("stderr", options.stderr), ("resize", options.tty and resizable),
            )
            if wanted
        }  # fmt: skip
        self.streams: dict[str, SpdyStream] = {}
        self.complete = asyncio.Event()

    def add(self, stream: SpdyStream) -> bool:
        kind = stream.header("streamType")
        if kind not in ("error", "stdin", "stdout", "stderr", "resize") or kind in self.streams:
            return False
        self.streams[kind] = stream
        self._missing.discard(kind)
        if not self._missing:
            self.complete.set()
        return True


async def _over_spdy(
    transport: SocketTransport, protocol: str, options: Options, logic: Logic, timeout: float
) -> None:
    arrivals = _Arrivals(protocol, options)
    spdy = SpdySession(transport, arrivals.add)

    async def work() -> Status:
        async with asyncio.timeout(timeout):
            await arrivals.complete.wait()
        found = arrivals.streams
        if protocol == V1 and "stdin" in found:
            found["stdin"].discard()
        return await logic(
            RemoteStreams(
                stdin=found.get("stdin") if options.stdin else None,
                stdout=found.get("stdout") if options.stdout else None,
                stderr=found.get("stderr") if options.stderr else None,
                resize=found.get("resize"),
            )
        )

    try:
        status = await until_gone(work(), spdy.run())
        error = arrivals.streams.get("error")
        if status is not None and error is not None:
            await error.write(status_text(status, protocol))
    except OSError:
        pass
    finally:
        await spdy.close()
