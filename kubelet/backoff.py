"""Exponential back-off by key, as client-go's flowcontrol.Backoff: doubles up to a maximum and
starts anew after twice the maximum without a failure."""

from __future__ import annotations

from dataclasses import dataclass

from pilothouse.apimachinery.clock import Clock


@dataclass(slots=True)
class _Entry:
    seconds: float
    last_failure: float


class KeyedBackoff:
    def __init__(self, clock: Clock, *, initial: float, maximum: float) -> None:
        self._clock = clock
        self._initial = initial
        self._maximum = maximum
        self._entries: dict[str, _Entry] = {}

    def failed(self, key: str, at: float | None = None) -> float:
        """Notes a failure (that happened at monotonic time ``at``, default now), which doubles
        the delay; returns when to try again."""
        now = self._clock.monotonic()
        entry = self._entries.get(key)
        if entry is None or (now if at is None else at) - entry.last_failure > 2 * self._maximum:
            entry = self._entries[key] = _Entry(self._initial, now)
        else:
            entry.seconds = min(entry.seconds * 2, self._maximum)
            entry.last_failure = now
        return now + entry.seconds

    def until(self, key: str, since: float | None = None) -> float | None:
        """The monotonic time to which the back-off lasts, counted from ``since`` (default: the
        last failure); None when it is over."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        start = entry.last_failure if since is None else since
        if start - entry.last_failure > 2 * self._maximum:
            return None
        end = start + entry.seconds
        return end if end > self._clock.monotonic() else None

    def seconds(self, key: str) -> float:
        """The current delay of the key."""
        entry = self._entries.get(key)
        return entry.seconds if entry is not None else 0.0

    def forget(self, key: str) -> None:
        self._entries.pop(key, None)
