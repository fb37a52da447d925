"""Pods that wait to be scheduled: active, backing off, unschedulable. Pure: time is an argument.

- *active*: to be tried, by priority, then by age.
- *backoff*: failed a moment ago; becomes active when its back-off (1 s, doubling to 10 s) is over,
  or, unless it failed by an error, as soon as no pod is active (KEP-5142).
- *unschedulable*: refused by plugins; a cluster event that one of those plugins has registered for
  (and whose hint agrees) moves it to backoff or active. After five minutes it is tried anyway.
- *gated*: refused by PreEnqueue; looked at again when the pod itself changes, or at an event that
  the plugin has registered for.

Events that arrive while a pod is being tried are kept for it (``in flight``), so that none is
missed between its Filter and its return to *unschedulable*.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from pilothouse.scheduler.framework.events import ClusterEvent
from pilothouse.scheduler.framework.pod_info import PodInfo

INITIAL_BACKOFF = 1.0
MAX_BACKOFF = 10.0
UNSCHEDULABLE_TIMEOUT = 300.0
FAILURE = "ScheduleAttemptFailure"
BACKOFF_COMPLETE = "BackoffComplete"
EARLY = "PopFromBackoffQ"
FORCED = "ForceActivate"
TIMEOUT = "UnschedulableTimeout"
POD_ADD, POD_UPDATE = "UnscheduledPodAdd", "UnscheduledPodUpdate"

Hints = Callable[[frozenset[str], PodInfo, ClusterEvent, Any, Any], bool]
"""(plugins that refused the pod, pod, event, old, new) -> try it again?"""
Gate = Callable[[PodInfo], str]
"""PreEnqueue: the name of the plugin that holds the pod back, or ''."""


@dataclass(slots=True)
class QueuedPod:
    """A pod's place in the queue, over all its attempts."""

    pod: PodInfo
    added: float
    """When it entered the queue for the last time (order among equal priorities)."""
    first_added: float
    attempts: int = 0
    unschedulable_plugins: frozenset[str] = frozenset()
    """Who refused it in the last attempt; empty after an error."""
    backoff_until: float = 0.0
    parked_at: float = 0.0
    started: float = 0.0
    """When the last attempt began."""
    gated: bool = False
    missed: list[tuple[ClusterEvent, Any, Any]] = field(default_factory=list)
    """Events that came while it was in flight."""


class SchedulingQueue:
    def __init__(
        self,
        hints: Hints,
        gate: Gate,
        initial_backoff: float = INITIAL_BACKOFF,
        max_backoff: float = MAX_BACKOFF,
    ) -> None:
        self._initial_backoff = initial_backoff
        self._max_backoff = max_backoff
        self._hints = hints
        self._gate = gate
        self._active: dict[str, QueuedPod] = {}
        self._backoff: dict[str, QueuedPod] = {}
        self._unschedulable: dict[str, QueuedPod] = {}
        self._in_flight: dict[str, QueuedPod] = {}
        self._heap: list[tuple[int, float, int, str]] = []
        self._backoff_heap: list[tuple[float, int, str]] = []
        self._early_heap: list[tuple[float, int, str]] = []
        """Those in back-off that may be tried when there is nothing else to do."""
        self._sequence = 0
        self.incoming: dict[tuple[str, ...], int] = {}
        """How often pods came into which queue, by (queue, event); for metrics."""

    # -- what the shell asks -------------------------------------------------------------

    def __len__(self) -> int:
        return len(self._active) + len(self._backoff) + len(self._unschedulable)

    @property
    def has_active(self) -> bool:
        """Whether :meth:`pop` has a pod."""
        return bool(self._active) or self._next_early() is not None

    def counts(self) -> dict[str, int]:
        gated = sum(1 for q in self._unschedulable.values() if q.gated)
        return {
            "active": len(self._active),
            "backoff": len(self._backoff),
            "unschedulable": len(self._unschedulable) - gated,
            "gated": gated,
        }

    def pods(self) -> Iterable[QueuedPod]:
        for place in (self._active, self._backoff, self._unschedulable, self._in_flight):
            yield from place.values()

    def parked(self) -> Iterable[QueuedPod]:
        """Those that an event must help."""
        return self._unschedulable.values()

    def next_wake(self) -> float | None:
        """When :meth:`flush` next has something to do (None: only an event can change that)."""
        times = []
        while self._backoff_heap and self._stale(self._backoff_heap[0]):
            heapq.heappop(self._backoff_heap)
        if self._backoff_heap:
            times.append(self._backoff_heap[0][0])
        parked = [q.parked_at for q in self._unschedulable.values() if not q.gated]
        if parked:
            times.append(min(parked) + UNSCHEDULABLE_TIMEOUT)
        return min(times, default=None)

    def flush(self, now: float) -> None:
        """Moves what has waited long enough."""
        while self._backoff_heap:
            until, _, uid = self._backoff_heap[0]
            if self._stale(self._backoff_heap[0]):
                heapq.heappop(self._backoff_heap)
            elif until <= now:
                heapq.heappop(self._backoff_heap)
                self._activate(self._backoff.pop(uid), BACKOFF_COMPLETE)
            else:
                break
        for uid, queued in list(self._unschedulable.items()):
            if not queued.gated and queued.parked_at + UNSCHEDULABLE_TIMEOUT <= now:
                self._requeue(self._unschedulable.pop(uid), now, TIMEOUT)

    # -- pods come and go ----------------------------------------------------------------

    def add(self, pod: PodInfo, now: float) -> None:
        """A pod without a node appeared."""
        if self._find(pod.uid) is not None:
            self.update(pod, now, helpful=True)
            return
        self._enter(QueuedPod(pod, added=now, first_added=now), now, POD_ADD)

    def update(self, pod: PodInfo, now: float, *, helpful: bool) -> None:
        """The pod changed; ``helpful``: in a way that may make it schedulable."""
        uid = pod.uid
        if uid in self._in_flight:
            self._in_flight[uid].pod = pod
            return
        if uid in self._active:
            queued = self._active.pop(uid)
            queued.pod = pod
            self._activate(queued)
        elif uid in self._backoff:
            self._backoff[uid].pod = pod
        elif uid in self._unschedulable:
            queued = self._unschedulable[uid]
            queued.pod = pod
            if queued.gated or helpful:
                del self._unschedulable[uid]
                if queued.gated:
                    self._enter(queued, now, POD_UPDATE)
                else:
                    self._requeue(queued, now, POD_UPDATE)
        else:
            self.add(pod, now)

    def delete(self, uid: str) -> None:
        for place in (self._active, self._backoff, self._unschedulable):
            place.pop(uid, None)

    # -- attempts ------------------------------------------------------------------------

    def pop(self) -> QueuedPod | None:
        """The next pod to try; it is in flight until :meth:`done` or :meth:`park`."""
        while self._heap:
            priority, added, _, uid = heapq.heappop(self._heap)
            queued = self._active.get(uid)
            if queued is None or (-queued.pod.priority, queued.added) != (priority, added):
                continue
            del self._active[uid]
            queued.attempts += 1
            queued.missed = []
            self._in_flight[uid] = queued
            return queued
        early = self._next_early()
        if early is None:
            return None
        self._activate(self._backoff.pop(early), EARLY)
        return self.pop()

    def _next_early(self) -> str | None:
        heap = self._early_heap
        while heap and self._stale(heap[0]):
            heapq.heappop(heap)
        return heap[0][2] if heap else None

    def done(self, uid: str) -> None:
        """The attempt ended with a binding, or the pod is gone."""
        self._in_flight.pop(uid, None)

    def park(self, queued: QueuedPod, plugins: frozenset[str], now: float) -> None:
        """The attempt failed: refused by ``plugins``, or (empty) by an error."""
        missed, queued.missed = queued.missed, []
        if self._in_flight.pop(queued.pod.uid, None) is None:
            return
        queued.unschedulable_plugins = plugins
        queued.added = queued.parked_at = now
        queued.backoff_until = now + self.backoff_seconds(queued)
        helped = any(self._hints(plugins, queued.pod, e, old, new) for e, old, new in missed)
        if not plugins or helped:
            self._requeue(queued, now, FAILURE)
        else:
            self._unschedulable[queued.pod.uid] = queued
            self._came("unschedulable", FAILURE)

    def backoff_seconds(self, queued: QueuedPod) -> float:
        doubled = self._initial_backoff * 2 ** max(queued.attempts - 1, 0)
        return float(min(doubled, self._max_backoff))

    def move(self, event: ClusterEvent, old: Any, new: Any, now: float) -> None:
        """A cluster event: moves every unschedulable pod that it may help."""
        for queued in self._in_flight.values():
            queued.missed.append((event, old, new))
        if not self._unschedulable:
            return
        for uid, queued in list(self._unschedulable.items()):
            if self._hints(queued.unschedulable_plugins, queued.pod, event, old, new):
                del self._unschedulable[uid]
                self._requeue(queued, now, event.label)

    def activate(self, uid: str, now: float) -> None:
        """Forces a try now (a nominated pod whose victims are gone)."""
        queued = self._unschedulable.pop(uid, None) or self._backoff.pop(uid, None)
        if queued is not None:
            self._activate(queued, FORCED)

    # -- inside --------------------------------------------------------------------------

    def _find(self, uid: str) -> QueuedPod | None:
        for place in (self._active, self._backoff, self._unschedulable, self._in_flight):
            if uid in place:
                return place[uid]
        return None

    def _came(self, queue: str, event: str) -> None:
        key = (queue, event)
        self.incoming[key] = self.incoming.get(key, 0) + 1

    def _enter(self, queued: QueuedPod, now: float, event: str) -> None:
        holder = self._gate(queued.pod)
        queued.gated = bool(holder)
        if holder:
            queued.unschedulable_plugins = frozenset((holder,))
            queued.parked_at = now
            self._unschedulable[queued.pod.uid] = queued
            self._came("gated", event)
        else:
            self._activate(queued, event)

    def _requeue(self, queued: QueuedPod, now: float, event: str) -> None:
        if queued.backoff_until > now:
            uid = queued.pod.uid
            self._backoff[uid] = queued
            self._came("backoff", event)
            self._sequence += 1
            entry = (queued.backoff_until, self._sequence, uid)
            heapq.heappush(self._backoff_heap, entry)
            if queued.unschedulable_plugins:
                heapq.heappush(self._early_heap, entry)
        else:
            self._enter(queued, now, event)

    def _activate(self, queued: QueuedPod, event: str = "") -> None:
        if event:
            self._came("active", event)
        self._active[queued.pod.uid] = queued
        self._sequence += 1
        entry = (-queued.pod.priority, queued.added, self._sequence, queued.pod.uid)
        heapq.heappush(self._heap, entry)

    def _stale(self, entry: tuple[float, int, str]) -> bool:
        queued = self._backoff.get(entry[2])
        return queued is None or queued.backoff_until != entry[0]
