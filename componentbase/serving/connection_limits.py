"""How long a peer may take: decisions about open connections, made every few seconds.

Upstream's bounds where it has one (net/http's ReadHeaderTimeout of 32 s, the 60 s of a request);
a client that sends a byte a second or never reads its answer holds neither memory nor a place.
"""

from __future__ import annotations

from typing import Protocol

HEAD_SECONDS = 32.0
BODY_SECONDS = 60.0
BODY_RATE = 64 * 1024
"""Bytes a second that buy a big body more time."""
STALL_SECONDS = 60.0
"""How long an answer may wait for its reader to take a byte of it."""
STREAM_STALL_SECONDS = 600.0
"""The same for watches and logs, whose reader may be a human with a pager."""


class Watched(Protocol):
    """What is known of a connection."""

    busy: bool
    coming: bool
    head_over: bool
    streaming: bool
    began: float
    last_active: float
    body_size: int
    write_mark: tuple[int, float] | None


def too_slow(connection: Watched, now: float, queued: int, progress: int) -> bool:
    """Whether the peer held us up for too long. ``queued``: bytes that it has not taken yet;
    ``progress`` changes when it takes some."""
    if connection.coming and not connection.busy:
        allowed = HEAD_SECONDS
        if connection.head_over:
            allowed = BODY_SECONDS + connection.body_size / BODY_RATE
        if now - connection.began > allowed:
            return True
    mark = connection.write_mark
    if not queued:
        connection.write_mark = None
    elif mark is None or mark[0] != progress:
        connection.write_mark = (progress, now)
    else:
        allowed = STREAM_STALL_SECONDS if connection.streaming else STALL_SECONDS
        return now - mark[1] > allowed
    return False


def idle(connection: Watched, now: float, keep_alive: float) -> bool:
    """Whether nothing was asked for so long that the connection is given up."""
    waiting = connection.busy or connection.coming
    return not waiting and now - connection.last_active > keep_alive
