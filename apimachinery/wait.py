"""Back-off arithmetic (apimachinery util/wait.Backoff, client-go util/flowcontrol.Backoff).

Nothing here sleeps: callers ask for the next delay and wait on their Clock.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import random
    from collections.abc import Hashable, Iterator

    from pilothouse.apimachinery.clock import Clock


def jitter(duration: float, factor: float, random: random.Random) -> float:
    """``duration`` plus up to ``factor * duration``; a factor of 0 or less counts as 1."""
    return duration + random.random() * (factor if factor > 0 else 1.0) * duration


@dataclass(slots=True)
class Backoff:
    """A growing delay; ``step()`` gives the next one and changes the object."""

    duration: float
    """Seconds of the next delay, jitter aside."""
    factor: float = 0.0
    """The duration grows by this factor per step while steps remain; 0 keeps it."""
    jitter: float = 0.0
    """Each delay grows by a random part of up to this fraction of it."""
    steps: int = 0
    """How many more steps may change the duration."""
    cap: float = 0.0
    """The duration never exceeds this; reaching it ends the steps. 0 means no cap."""
    random: random.Random | None = None

    def step(self) -> float:
        """Seconds to wait now."""
        duration = self.duration
        if self.steps < 1:
            self.steps = 0
        else:
            self.steps -= 1
            if self.factor != 0:
                following = duration * self.factor
                if 0 < self.cap < following:
                    following, self.steps = self.cap, 0
                self.duration = following
        if self.jitter > 0 and self.random is not None:
            return jitter(duration, self.jitter, self.random)
        return duration

    def delays(self) -> Iterator[float]:
        """The delays between ``steps`` attempts (retry loops): one fewer than the steps."""
        while self.steps > 1:
            delay = self.step()
            yield delay
            if self.steps < 1:
                return


DEFAULT_RETRY_STEPS = 5


def default_retry(random: random.Random) -> Backoff:
    """client-go's retry.DefaultRetry: five quick attempts, for conflicts."""
    return Backoff(0.01, factor=1.0, jitter=0.1, steps=5, random=random)


def default_backoff(random: random.Random) -> Backoff:
    """client-go's retry.DefaultBackoff: four attempts, for a client that is throttled."""
    return Backoff(0.01, factor=5.0, jitter=0.1, steps=4, random=random)


@dataclass(slots=True)
class _Entry:
    backoff: float
    last_update: float


class ExponentialBackoff:
    """Doubling delays per key; a key that was quiet for twice the maximum starts afresh.

    Times are ``clock.time()`` seconds.
    """

    def __init__(
        self,
        clock: Clock,
        initial: float,
        maximum: float,
        *,
        max_jitter_factor: float = 0.0,
        random: random.Random | None = None,
    ) -> None:
        self._clock = clock
        self.initial = initial
        self.maximum = maximum
        self._jitter_factor = max_jitter_factor if random is not None else 0.0
        self._random = random
        self._entries: dict[Hashable, _Entry] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: Hashable) -> float:
        """The key's current delay; 0 when it has none."""
        entry = self._entries.get(key)
        return entry.backoff if entry else 0.0

    def next(self, key: Hashable, event_time: float | None = None) -> float:
        """Moves the key to its next delay and gives that."""
        now = self._clock.time()
        entry = self._entries.get(key)
        if entry is None or self._expired(now if event_time is None else event_time, entry):
            entry = self._entries[key] = _Entry(self.initial, now)
            entry.backoff += self._jitter(entry.backoff)
        else:
            delay = entry.backoff * 2 + self._jitter(entry.backoff)
            entry.backoff = min(delay, self.maximum)
        entry.last_update = now
        return entry.backoff

    def reset(self, key: Hashable) -> None:
        self._entries.pop(key, None)

    def is_in_backoff_since(self, key: Hashable, event_time: float) -> bool:
        """Less time than the key's delay has passed since ``event_time``."""
        entry = self._entries.get(key)
        if entry is None or self._expired(event_time, entry):
            return False
        return self._clock.time() - event_time < entry.backoff

    def is_in_backoff_since_update(self, key: Hashable, event_time: float | None = None) -> bool:
        """``event_time`` (default: now) lies within the delay that the last ``next`` began."""
        entry = self._entries.get(key)
        at = self._clock.time() if event_time is None else event_time
        if entry is None or self._expired(at, entry):
            return False
        return at - entry.last_update < entry.backoff

    def collect_garbage(self) -> None:
        """Forgets the keys that have expired."""
        now = self._clock.time()
        for key in [k for k, entry in self._entries.items() if self._expired(now, entry)]:
            del self._entries[key]

    def _expired(self, at: float, entry: _Entry) -> bool:
        return at - entry.last_update > self.maximum * 2

    def _jitter(self, delay: float) -> float:
        if not self._jitter_factor or self._random is None:
            return 0.0
        return self._random.random() * self._jitter_factor * delay
