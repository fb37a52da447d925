"""Exec: a process in a container with the client's streams. Also what attach shares with it."""

from __future__ import annotations

import asyncio
import json

from pilothouse.kubelet.runtime.errors import RuntimeFailure
from pilothouse.kubelet.runtime.interfaces import ExecStream, RuntimeService
from pilothouse.kubelet.server.interfaces import Inbound, Outbound
from pilothouse.kubelet.server.remote_command import (
    SUCCESS,
    Options,
    RemoteStreams,
    Status,
    internal_error,
    non_zero_exit,
)

COPY_SIZE = 32 * 1024
MAX_RESIZE_BUFFER = 4096


async def execute(
    runtime: RuntimeService,
    container_id: str,
    command: list[str],
    options: Options,
    streams: RemoteStreams,
) -> Status:
    """Runs the command to its end; killed when the client leaves (cancellation)."""
    try:
        process = await runtime.exec(
            container_id, command, tty=options.tty, stdin=options.stdin,
            stdout=options.stdout, stderr=options.stderr and not options.tty,
        )  # fmt: skip
    except (RuntimeFailure, OSError) as error:
        return internal_error(f"error executing command in container: {error}")
    try:
        code = await connect(process, streams)
    except (RuntimeFailure, OSError) as error:
        return internal_error(f"error executing command in container: {error}")
    finally:
        await process.kill()
    return non_zero_exit(code, command) if code else SUCCESS


async def connect(
    process: ExecStream, streams: RemoteStreams, *, until_stdin_ends: bool = False
) -> int:
    """Copies all streams until the outputs have ended and the process too; its exit code.

    ``until_stdin_ends``: until then at most; the outputs go on without this client.
    """
    failure: Exception | None = None
    code = 0
    async with asyncio.TaskGroup() as group:
        inputs = []
        leaving: set[asyncio.Task[None]] = set()
        if streams.stdin is not None and process.stdin is not None:
            inputs.append(group.create_task(_feed(streams.stdin, process)))
            leaving.update(inputs if until_stdin_ends else ())
        if streams.resize is not None:
            inputs.append(group.create_task(_resize(streams.resize, process)))
        outputs = [
            group.create_task(_copy(source, target))
            for source, target in (
                (process.stdout, streams.stdout),
                (process.stderr, streams.stderr),
            )
            if source is not None and target is not None
        ]
        if not await _left_by_client(outputs, leaving):
            try:
                code = await process.wait()
            except (RuntimeFailure, OSError) as error:
                failure = error  # raised below: a task group would wrap it
        for task in inputs + outputs:
            task.cancel()
    for stream in (streams.stdin, streams.resize):
        if stream is not None:
            stream.discard()
    if failure is not None:
        raise failure
    return code


async def _left_by_client(
    outputs: list[asyncio.Task[None]], leaving: set[asyncio.Task[None]]
) -> bool:
    """Waits for the end of all ``outputs``, or of one of ``leaving``, which makes it true."""
    pending = set(outputs)
    while pending and not any(task.done() for task in leaving):
        await asyncio.wait(pending | leaving, return_when=asyncio.FIRST_COMPLETED)
        pending = {task for task in pending if not task.done()}
    return bool(pending)


async def _feed(source: Inbound, process: ExecStream) -> None:
    """stdin. When the process doesn't want any more the client's is thrown away."""
    target = process.stdin
    assert target is not None
    try:
        while data := await source.read():
            target.write(data)
            await target.drain()
    except OSError:
        pass
    source.discard()
    try:
        await process.close_stdin()
    except (RuntimeFailure, OSError):
        pass  # it has ended meanwhile


async def _copy(source: asyncio.StreamReader, target: Outbound) -> None:
    """An output. When the client doesn't take it any more the rest is thrown away."""
    listening = True
    try:
        while data := await source.read(COPY_SIZE):
            if listening:
                try:
                    await target.write(data)
                except OSError:
                    listening = False
    except OSError:
        pass  # a terminal ends like this
    finally:
        await target.close()


async def _resize(source: Inbound, process: ExecStream) -> None:
    """Terminal sizes as a sequence of JSON objects."""
    decoder = json.JSONDecoder()
    text = ""
    try:
        while data := await source.read():
            text += data.decode("utf-8", "replace")
            while text := text.lstrip():
                try:
                    size, end = decoder.raw_decode(text)
                except ValueError:
                    break  # not complete yet
                text = text[end:]
                await _apply_size(size, process)
            if len(text) > MAX_RESIZE_BUFFER:
                return
    except (OSError, RuntimeFailure):
        pass
    finally:
        source.discard()


async def _apply_size(size: object, process: ExecStream) -> None:
    if not isinstance(size, dict):
        return
    fields = {str(name).lower(): value for name, value in size.items()}
    width, height = fields.get("width"), fields.get("height")
    if isinstance(width, int) and isinstance(height, int):
        if 0 < width < 1 << 16 and 0 < height < 1 << 16:
            await process.resize(width, height)
