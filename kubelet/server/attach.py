"""Attach: the client's streams on a container's own. Ends with the container's output."""

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
) -> Status:
    """``tty`` is the container's: it cannot be changed any more. Detaches when it ends."""
    try:
        process = await runtime.attach(
            container_id, tty=tty, stdin=options.stdin, stdout=options.stdout,
            stderr=options.stderr and not tty,
        )  # fmt: skip
    except (RuntimeFailure, OSError) as error:
        return internal_error(f"error attaching to container: {error}")
    try:
        await connect(process, streams)
    except (RuntimeFailure, OSError) as error:
        return internal_error(f"error attaching to container: {error}")
    finally:
        await process.kill()
    return SUCCESS
