"""What one watch cache has done, as plain numbers; /metrics reads them (``metrics_caches.py``)."""

from __future__ import annotations


class Counts:
    """A field is one addition where the thing happens."""

    __slots__ = (
        "bookmarks",
        "consistent_reads",
        "dispatched",
        "fetched",
        "init_events",
        "lists",
        "load_seconds",
        "read_waits",
        "received",
        "returned",
    )

    def __init__(self) -> None:
        self.received = 0
        """Changes that the store told of."""
        self.dispatched = 0
        """Those that watchers were told of."""
        self.bookmarks = 0
        """Revisions that the store told of without a change."""
        self.init_events = 0
        """Objects that watches began with."""
        self.load_seconds: list[float] = []
        """Of every list that the cache began with."""
        self.read_waits: list[float] = []
        """How long reads waited for the cache to catch up, since /metrics was asked for last."""
        self.consistent_reads = 0
        self.lists = 0
        self.fetched = 0
        self.returned = 0

    def listed(self, fetched: int, returned: int) -> None:
        """A client's LIST was answered from the cache."""
        self.lists += 1
        self.fetched += fetched
        self.returned += returned
