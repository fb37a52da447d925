"""How many seats a request takes (flowcontrol/request): lists by what they load. Pure."""

from __future__ import annotations

from math import ceil
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pilothouse.apiserver.request.context import Query

BYTES_PER_SEAT = 100_000
STREAMED_BYTES = 1_000_000
"""A streamed list never has more in memory at once."""
MAX_LIST_SEATS = 100


def list_seats(objects: int, object_bytes: int, query: Query, *, single: bool) -> int:
    """Seats of a LIST from the cache; ``objects`` and ``object_bytes`` (each) of its kind."""
    loaded = 1 if single else objects
    limit = query.get("limit")
    if limit and limit[0].isdigit() and 0 < int(limit[0]) < loaded:
        loaded = int(limit[0])
    used = min(loaded * object_bytes, STREAMED_BYTES)
    return max(1, min(ceil(used / BYTES_PER_SEAT), MAX_LIST_SEATS))


def watch_begins_with_a_list(query: Query) -> bool:
    """sendInitialEvents, or the older way of asking for synthetic ADDED events."""
    initial = query.get("sendInitialEvents")
    if initial and initial[0].lower() in ("true", "1", "t"):
        return True
    version = query.get("resourceVersion")
    return not version or version[0] in ("", "0")


def max_seats(nominal: int, hand_size: int) -> int:
    """What one request of a level with queues may take at most."""
    return max(1, min(ceil(nominal * 0.15), nominal // max(hand_size, 1)))
