"""What a controller has written but not yet seen (UIDTrackingControllerExpectations).

A controller that has just created pods must not count again before its informer shows them.
Pure: time is passed in.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

EXPECTATIONS_TIMEOUT = 5 * 60.0


@dataclass(slots=True)
class _Expected:
    creations: int
    deletions: set[str] = field(default_factory=set)
    since: float = 0.0


class Expectations:
    """Per key: how many creations and which deletions are still to be seen."""

    def __init__(self) -> None:
        self._by_key: dict[str, _Expected] = {}

    def expect(
        self, key: str, *, creations: int = 0, deletions: Iterable[str] = (), now: float
    ) -> None:
        self._by_key[key] = _Expected(creations, set(deletions), now)

    def creation_observed(self, key: str, count: int = 1) -> None:
        expected = self._by_key.get(key)
        if expected is not None:
            expected.creations -= count

    def deletion_observed(self, key: str, object_key: str) -> None:
        expected = self._by_key.get(key)
        if expected is not None:
            expected.deletions.discard(object_key)

    def satisfied(self, key: str, now: float) -> bool:
        """All seen, never any, or so long ago that the informer must have missed some."""
        expected = self._by_key.get(key)
        if expected is None:
            return True
        if expected.creations <= 0 and not expected.deletions:
            return True
        return now - expected.since > EXPECTATIONS_TIMEOUT

    def forget(self, key: str) -> None:
        self._by_key.pop(key, None)
