"""Exec and attach sessions, over each transport, with a process that the test plays."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from wsproto.events import CloseConnection

from pilothouse.kubelet.runtime.errors import RuntimeFailure
from pilothouse.kubelet.server.attach import attach
from pilothouse.kubelet.server.exec import execute
from pilothouse.kubelet.server.interfaces import Refusal
from pilothouse.kubelet.server.remote_command import Options, RemoteStreams, Status, session
from pilothouse.kubelet.server.spdy_frames import Data

from .conftest import Changes, Pair, SpdyClient, WebSocketClient

ALL = Options(stdin=True, stdout=True, stderr=True)
SPDY = {"connection": "Upgrade", "upgrade": "SPDY/3.1"}


class Process:
    """An ExecStream; the far end of its stdin is ``input``."""

    def __init__(self, pair: Pair) -> None:
        self._pair = pair
        self.stdin: asyncio.StreamWriter | None = None
        self.stdout: asyncio.StreamReader | None = asyncio.StreamReader()
        self.stderr: asyncio.StreamReader | None = asyncio.StreamReader()
        self.sizes: list[tuple[int, int]] = []
        self.changes = Changes()
        self.code: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self.killed = asyncio.Event()
        self.stdin_closed = asyncio.Event()

    async def start(self) -> None:
        (_, self.stdin), (self.input, _) = await self._pair()

    async def resize(self, width: int, height: int) -> None:
        self.sizes.append((width, height))
        self.changes.tell()

    async def close_stdin(self) -> None:
        assert self.stdin is not None
        self.stdin.close()
        self.stdin_closed.set()

    async def wait(self) -> int:
        return await asyncio.shield(self.code)

    async def kill(self) -> None:
        self.killed.set()

    def end(self, code: int) -> None:
        for stream in (self.stdout, self.stderr):
            if stream is not None:
                stream.feed_eof()
        self.code.set_result(code)


class Runtime:
    """As much of a runtime as exec and attach use."""

    def __init__(self, process: Process) -> None:
        self.process = process
        self.failure: Exception | None = None
        self.asked: dict[str, Any] = {}

    async def exec(self, container_id: str, command: list[str], **streams: bool) -> Process:
        self.asked = {"id": container_id, "command": command, **streams}
        if self.failure is not None:
            raise self.failure
        return self.process

    async def attach(self, container_id: str, **streams: bool) -> Process:
        self.asked = {"id": container_id, **streams}
        if self.failure is not None:
            raise self.failure
        return self.process


class Session:
    """One running session; ``verb`` exec, attach or "attach open" (stdin stays open)."""

    def __init__(self, runtime: Runtime, options: Options, headers: dict[str, str], verb: str):
        self.runtime = runtime
        self.process = runtime.process
        self._options = options
        self._headers = headers
        self._verb = verb

    async def _logic(self, streams: RemoteStreams) -> Status:
        if self._verb.startswith("attach"):
            once = self._verb == "attach"
            return await attach(  # type: ignore[arg-type]
                self.runtime, "c1", self._options, False, streams, stdin_once=once
            )
        command = ["sh", "-c", "x"]
        return await execute(self.runtime, "c1", command, self._options, streams)  # type: ignore[arg-type]

    async def run(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await session(
            self._headers, self._options, reader, writer, self._logic, creation_timeout=0.2
        )


async def make(
    pair: Pair, headers: dict[str, str], options: Options = ALL, verb: str = "exec"
) -> tuple[Session, Any, asyncio.Task[None]]:
    ours, theirs = await pair()
    process = Process(pair)
    await process.start()
    running = Session(Runtime(process), options, headers, verb)
    task = asyncio.create_task(running.run(*ours))
    return running, theirs, task


async def websocket(
    pair: Pair, protocol: str, options: Options = ALL, verb: str = "exec"
) -> tuple[Session, WebSocketClient, asyncio.Task[None]]:
    running, theirs, task = await make(pair, WebSocketClient.headers(protocol), options, verb)
    client = WebSocketClient(theirs)
    assert "101" in await client.head()
    return running, client, task


async def spdy(
    pair: Pair, protocol: str, options: Options = ALL, verb: str = "exec"
) -> tuple[Session, SpdyClient, asyncio.Task[None]]:
    headers = SPDY | {"x-stream-protocol-version": protocol}
    running, theirs, task = await make(pair, headers, options, verb)
    client = SpdyClient(theirs)
    assert "101" in await client.head()
    return running, client, task


FAILURE = {
    "metadata": {},
    "status": "Failure",
    "message": "command terminated with non-zero exit code: "
    "error executing command [sh -c x], exit code 3",
    "reason": "NonZeroExitCode",
    "details": {"causes": [{"reason": "ExitCode", "message": "3"}]},
}


# -- WebSocket ---------------------------------------------------------------------------


async def test_v5_from_beginning_to_end(pair: Pair) -> None:
    running, client, task = await websocket(pair, "v5.channel.k8s.io")
    process = running.process
    await client.until(lambda: client.messages == [b"\x01"])  # "the connection stands"
    client.send(0, b"question")
    assert await process.input.read(100) == b"question"
    client.send(255, b"\x00")
    await process.stdin_closed.wait()
    assert process.stdout is not None and process.stderr is not None
    process.stdout.feed_data(b"answer")
    process.stderr.feed_data(b"complaint")
    process.end(3)
    await client.rest()
    await task
    assert (client.data(1), client.data(2)) == (b"answer", b"complaint")
    assert json.loads(client.data(3)) == FAILURE
    assert client.messages[-1] == b"\x03" + client.data(3)
    assert client.closed is not None and client.closed.code == 1000
    assert process.killed.is_set()  # everything is freed
    assert running.runtime.asked == {
        "id": "c1", "command": ["sh", "-c", "x"],
        "tty": False, "stdin": True, "stdout": True, "stderr": True,
    }  # fmt: skip


async def test_success_before_v4_says_nothing(pair: Pair) -> None:
    running, client, task = await websocket(pair, "channel.k8s.io", Options(stdout=True))
    assert running.process.stdout is not None
    running.process.stdout.feed_data(b"out")
    running.process.end(0)
    await client.rest()
    await task
    assert client.data(1) == b"out"
    assert client.data(3) == b""


async def test_failure_before_v4_is_text(pair: Pair) -> None:
    running, client, task = await websocket(pair, "", Options(stdout=True))
    running.process.end(3)
    await client.rest()
    await task
    assert client.data(3).decode() == FAILURE["message"]


async def test_success_in_v4(pair: Pair) -> None:
    running, client, task = await websocket(pair, "v4.channel.k8s.io", Options(stderr=True))
    await client.until(lambda: client.messages == [b"\x02"])
    running.process.end(0)
    await client.rest()
    await task
    assert json.loads(client.data(3)) == {"metadata": {}, "status": "Success"}


async def test_terminal_sizes(pair: Pair) -> None:
    options = Options(stdout=True, tty=True)
    running, client, task = await websocket(pair, "v5.channel.k8s.io", options)
    client.send(4, b'{"Width":80,"Height":24}{"Wid')
    client.send(4, b'th":100,"Height":50}\n')
    client.send(4, b'[1] {"Width":-1,"Height":0} {"Width":"x"} {"Width":7,"Height":8}')
    sizes = [(80, 24), (100, 50), (7, 8)]
    await running.process.changes.until(lambda: running.process.sizes == sizes)
    running.process.end(0)
    await client.rest()
    await task
    assert running.runtime.asked["tty"] and not running.runtime.asked["stderr"]


@pytest.mark.parametrize("how", ["close frame", "connection"])
async def test_a_client_that_leaves_ends_the_process(pair: Pair, how: str) -> None:
    running, client, task = await websocket(pair, "v5.channel.k8s.io")
    if how == "connection":
        client.writer.close()
    else:
        client.send_event(CloseConnection(1000))
    await running.process.killed.wait()
    await task


async def test_a_process_that_ignores_its_input(pair: Pair) -> None:
    """What the client still sends is thrown away, and the end is told."""
    running, client, task = await websocket(pair, "v5.channel.k8s.io")
    running.process.input.feed_eof()
    for _ in range(64):
        client.send(0, b"x" * 65536)
    running.process.end(0)
    await client.rest()
    await task
    assert json.loads(client.data(3))["status"] == "Success"


async def test_a_command_that_cannot_start(pair: Pair) -> None:
    ours, theirs = await pair()
    process = Process(pair)
    await process.start()
    runtime = Runtime(process)
    runtime.failure = RuntimeFailure("no such file")
    headers = WebSocketClient.headers("v4.channel.k8s.io")
    task = asyncio.create_task(Session(runtime, ALL, headers, "exec").run(*ours))
    client = WebSocketClient(theirs)
    await client.head()
    await client.rest()
    await task
    status = json.loads(client.data(3))
    assert (status["reason"], status["code"]) == ("InternalError", 500)
    text = "error executing command in container: no such file"
    assert status["message"] == f"Internal error occurred: {text}"


# -- SPDY --------------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", ["v5.channel.k8s.io, v4.channel.k8s.io", "v4.channel.k8s.io"])
async def test_spdy_from_beginning_to_end(pair: Pair, protocol: str) -> None:
    running, client, task = await spdy(pair, protocol)
    numbers = {kind: client.open(streamType=kind) for kind in ("error", "stdin", "stdout")}
    # The last one comes late, and an unknown one is refused.
    client.open(streamType="strange")
    numbers["stderr"] = client.open(streamType="stderr")
    client.send(Data(numbers["stdin"], b"question", fin=True))
    process = running.process
    assert await process.input.read(100) == b"question"
    await process.stdin_closed.wait()
    assert process.stdout is not None and process.stderr is not None
    process.stdout.feed_data(b"answer")
    process.stderr.feed_data(b"complaint")
    process.end(3)
    await client.until(lambda: client.finished(numbers["error"]))
    assert client.data(numbers["stdout"]) == b"answer"
    assert client.finished(numbers["stdout"])
    assert client.data(numbers["stderr"]) == b"complaint"
    assert json.loads(client.data(numbers["error"])) == FAILURE
    client.writer.close()
    await task
    assert process.killed.is_set()


@pytest.mark.parametrize("protocol", ["v3.channel.k8s.io", "v2.channel.k8s.io", "channel.k8s.io"])
@pytest.mark.parametrize("code", [0, 3])
async def test_old_protocols(pair: Pair, protocol: str, code: int) -> None:
    running, client, task = await spdy(pair, protocol, Options(stdout=True))
    error, stdout = client.open(streamType="error"), client.open(streamType="stdout")
    await client.until(lambda: len(client.frames) == 2)
    running.process.end(code)
    await client.until(lambda: client.finished(error) and client.finished(stdout))
    assert client.data(error).decode() == (FAILURE["message"] if code else "")
    client.writer.close()
    await task


async def test_a_terminal_needs_its_resize_stream_from_v3_on(pair: Pair) -> None:
    options = Options(stdout=True, tty=True)
    running, client, task = await spdy(pair, "v3.channel.k8s.io", options)
    client.open(streamType="error")
    client.open(streamType="stdout")
    resize = client.open(streamType="resize")
    client.send(Data(resize, b'{"Width":80,"Height":24}'))
    await running.process.changes.until(lambda: running.process.sizes == [(80, 24)])
    running.process.end(0)
    await client.rest()
    await task
    old, client, task = await spdy(pair, "v2.channel.k8s.io", options)
    client.open(streamType="error")
    client.open(streamType="stdout")
    old.process.end(0)
    await client.rest()
    await task
    assert old.process.killed.is_set()


async def test_streams_that_never_come(pair: Pair) -> None:
    running, client, task = await spdy(pair, "v4.channel.k8s.io")
    client.open(streamType="error")
    await client.rest()
    await task
    assert running.runtime.asked == {}


async def test_a_spdy_client_that_leaves(pair: Pair) -> None:
    running, client, task = await spdy(pair, "v4.channel.k8s.io", Options(stdout=True))
    client.open(streamType="error")
    client.open(streamType="stdout")
    await client.until(lambda: bool(running.runtime.asked))
    client.writer.close()
    await running.process.killed.wait()
    await task


# -- attach ------------------------------------------------------------------------------


async def test_attach_ends_with_the_output(pair: Pair) -> None:
    running, client, task = await websocket(pair, "v4.channel.k8s.io", verb="attach")
    assert running.process.stdout is not None
    running.process.stdout.feed_data(b"so far")
    running.process.end(0)
    await client.rest()
    await task
    assert client.data(1) == b"so far"
    assert json.loads(client.data(3))["status"] == "Success"
    assert running.process.killed.is_set()  # detached


async def test_attach_leaves_with_the_clients_input(pair: Pair) -> None:
    """The container's own stays open (no stdinOnce): it runs on without this client."""
    running, client, task = await websocket(pair, "v5.channel.k8s.io", verb="attach open")
    client.send(0, b"one")
    assert await running.process.input.read(100) == b"one"
    assert running.process.stdout is not None
    running.process.stdout.feed_data(b"two")
    await client.until(lambda: client.data(1) == b"two")
    client.send(255, b"\x00")
    await client.rest()
    await task
    assert json.loads(client.data(3))["status"] == "Success"
    assert running.process.killed.is_set() and not running.process.code.done()


async def test_attach_that_fails(pair: Pair) -> None:
    ours, theirs = await pair()
    process = Process(pair)
    await process.start()
    runtime = Runtime(process)
    runtime.failure = RuntimeFailure("it is gone")
    headers = WebSocketClient.headers("v5.channel.k8s.io")
    task = asyncio.create_task(Session(runtime, ALL, headers, "attach").run(*ours))
    client = WebSocketClient(theirs)
    await client.head()
    await client.rest()
    await task
    assert b"error attaching to container: it is gone" in client.data(3)


# -- options -----------------------------------------------------------------------------


def test_options() -> None:
    assert Options.from_query({"input": ["1"], "output": ["1"]}) == Options(True, True)
    with_terminal = Options.from_query({"error": ["1"], "output": ["1"], "tty": ["1"]})
    assert with_terminal == Options(stdout=True, tty=True)
    for query in ({}, {"input": ["true"]}, {"tty": ["1"], "error": ["1"]}):
        with pytest.raises(Refusal, match="at least 1 of stdin, stdout, stderr"):
            Options.from_query(query)
