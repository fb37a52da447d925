"""Attach: the client's streams on a container's own. Ends with the container's output, or with the
client's input when the container's stays open for the next client (as containerd has it)."""

from __future__ import annotations

from pilothouse.kubelet.runtime.errors import RuntimeFailure
from pilothouse.kubelet.runtime.interfaces import RuntimeService
from pilothouse.kubelet.server.exec import connect
from pilothouse.kubelet.server.remote_command import (
    SUCCESS,
    Options,
    RemoteStreams,
    Status,
    internal_error,
)


async def attach(
    runtime: RuntimeService,
    container_id: str,
    options: Options,
    tty: bool,
    streams: RemoteStreams,
    *,
    stdin_once: bool = True,
) -> Status:
    """``tty`` and ``stdin_once`` are the container's. Detaches when it ends."""
    try:
        process = await runtime.attach(
            container_id, tty=tty, stdin=options.stdin, stdout=options.stdout,
            stderr=options.stderr and not tty,
        )  # fmt: skip
    except (RuntimeFailure, OSError) as error:
        return internal_error(f"error attaching to container: {error}")
    try:
        await connect(process, streams, until_stdin_ends=not stdin_once)
    except (RuntimeFailure, OSError) as error:
        return internal_error(f"error attaching to container: {error}")
    finally:
        await process.kill()
    return SUCCESS
