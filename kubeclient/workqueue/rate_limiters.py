"""How long a failed key waits (client-go util/workqueue default_rate_limiters). Pure."""

from __future__ import annotations

from collections.abc import Hashable
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

if TYPE_CHECKING:
    from pilothouse.apimachinery.clock import Clock

K = TypeVar("K", bound=Hashable)
K_contra = TypeVar("K_contra", bound=Hashable, contravariant=True)


class RateLimiter(Protocol[K_contra]):
    def when(self, key: K_contra) -> float:
        """Seconds until the key may be tried again; each call counts as a failure."""
        ...

    def forget(self, key: K_contra) -> None: ...

    def num_requeues(self, key: K_contra) -> int: ...


class ItemExponentialFailureRateLimiter(Generic[K]):
    """``base`` doubling with each failure of the same key, up to ``maximum``."""

    def __init__(self, base: float = 0.005, maximum: float = 1000.0) -> None:
        self._base = base
        self._maximum = maximum
        self._failures: dict[K, int] = {}

    def when(self, key: K) -> float:
        failures = self._failures.get(key, 0)
        self._failures[key] = failures + 1
        if failures > 60:  # 2**60 is beyond any maximum, and floats overflow in the end
            return self._maximum
        return float(min(self._base * 2**failures, self._maximum))

    def forget(self, key: K) -> None:
        self._failures.pop(key, None)

    def num_requeues(self, key: K) -> int:
        return self._failures.get(key, 0)


class TokenBucket:
    """``qps`` tokens a second, at most ``burst``; reserving may go into debt."""

    def __init__(self, qps: float, burst: int, clock: Clock) -> None:
        self._qps = qps
        self._burst = burst
        self._clock = clock
        self._tokens = float(burst)
        self._last = clock.monotonic()

    def _refill(self) -> None:
        now = self._clock.monotonic()
        self._tokens = min(self._burst, self._tokens + (now - self._last) * self._qps)
        self._last = now

    def try_accept(self) -> bool:
        self._refill()
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True

    def time_to_token(self) -> float:
        """Seconds until ``try_accept`` can succeed again."""
        self._refill()
        return max(0.0, (1 - self._tokens) / self._qps)

    def reserve(self) -> float:
        """Takes a token and says how long to wait for it."""
        self._refill()
        self._tokens -= 1
        return max(0.0, -self._tokens / self._qps)


class BucketRateLimiter(Generic[K]):
    """The same bucket for all keys."""

    def __init__(self, bucket: TokenBucket) -> None:
        self._bucket = bucket

    def when(self, key: K) -> float:
        return self._bucket.reserve()

    def forget(self, key: K) -> None:
        """A bucket remembers no key."""

    def num_requeues(self, key: K) -> int:
        return 0


class MaxOfRateLimiter(Generic[K]):
    """The longest of several delays."""

    def __init__(self, *limiters: RateLimiter[K]) -> None:
        self._limiters = limiters

    def when(self, key: K) -> float:
        return max(limiter.when(key) for limiter in self._limiters)

    def forget(self, key: K) -> None:
        for limiter in self._limiters:
            limiter.forget(key)

    def num_requeues(self, key: K) -> int:
        return max(limiter.num_requeues(key) for limiter in self._limiters)


def default_controller_rate_limiter(clock: Clock) -> MaxOfRateLimiter[K]:
    """Per key 5 ms doubling up to 1000 s, overall 10 a second with a burst of 100."""
    return retry_limiter(clock, 0.005, 1000.0)


def retry_limiter(clock: Clock, base: float, maximum: float) -> MaxOfRateLimiter[K]:
    """Per key ``base`` seconds doubling up to ``maximum``, overall 10 a second with a burst of
    100."""
    return MaxOfRateLimiter(
        ItemExponentialFailureRateLimiter[K](base, maximum),
        BucketRateLimiter[K](TokenBucket(10, 100, clock)),
    )
