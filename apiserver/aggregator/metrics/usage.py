"""From kubelets' summaries to usage. Pure.

A kubelet tells how much processor time a container has used since it started; usage is what came
on top between two samples, divided by the time between them. A kubelet that knows the rate itself
says so (``usageNanoCores``).
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from pilothouse.apimachinery.timefmt import parse_time

if TYPE_CHECKING:
    from datetime import datetime

    from pilothouse.apimachinery.object import Obj

MIN_WINDOW = 0.5
"""Seconds that two samples must be apart."""
MAX_AGE = 120.0
"""Older samples say nothing about now."""
YOUNG = 60.0
"""The usage of a container that is no older than this is its average since it started."""
RATE_WINDOW = 1.0
"""What a rate that the kubelet knows is taken to be about."""


class ContainerKey(NamedTuple):
    namespace: str
    pod: str
    container: str


@dataclass(frozen=True, slots=True)
class Counters:
    """Of one container or node at one time."""

    cpu_nanoseconds: int
    memory_bytes: int
    started: float = 0.0
    """Unix time; 0 when unknown."""
    rate: int | None = None
    """Nanocores, when the kubelet knows."""


@dataclass(frozen=True, slots=True)
class Usage:
    cpu_nanocores: int
    memory_bytes: int
    window: float


@dataclass(frozen=True, slots=True)
class Sample:
    """One summary of one node. ``at`` is the clock's monotonic time, ``time`` the wall's."""

    at: float
    time: datetime
    node: Counters | None
    containers: dict[ContainerKey, Counters]


def parse_summary(summary: Obj, at: float, time: datetime) -> Sample:
    """:raises KeyError, TypeError, ValueError: it is no summary."""
    containers: dict[ContainerKey, Counters] = {}
    for pod in summary.get("pods") or ():
        reference = pod["podRef"]
        for one in pod.get("containers") or ():
            counters = _counters(one)
            if counters is not None:
                key = ContainerKey(reference.get("namespace", ""), reference["name"], one["name"])
                containers[key] = counters
    return Sample(at, time, _counters(summary.get("node") or {}), containers)


def _counters(stats: Obj) -> Counters | None:
    """None while the kubelet has no figures."""
    cpu, memory = stats.get("cpu") or {}, stats.get("memory") or {}
    if "usageCoreNanoSeconds" not in cpu or "workingSetBytes" not in memory:
        return None
    started = stats.get("startTime")
    return Counters(
        int(cpu["usageCoreNanoSeconds"]),
        int(memory["workingSetBytes"]),
        parse_time(started).timestamp() if started else 0.0,
        cpu.get("usageNanoCores"),
    )


def usage_between(
    new: Counters, new_at: float, old: Counters | None, old_at: float, now: float
) -> Usage | None:
    """What was used at ``new_at``; ``now`` is the wall's time then. None: not known yet."""
    if new.rate is not None:
        return Usage(int(new.rate), new.memory_bytes, RATE_WINDOW)
    window = new_at - old_at
    same = old is not None and old.started == new.started
    if same and old is not None and new.cpu_nanoseconds >= old.cpu_nanoseconds:
        used = new.cpu_nanoseconds - old.cpu_nanoseconds
        return Usage(round(used / window), new.memory_bytes, window)
    age = now - new.started
    if new.started and MIN_WINDOW <= age <= YOUNG:
        return Usage(round(new.cpu_nanoseconds / age), new.memory_bytes, age)
    return None


@dataclass
class Window:
    """The last samples of one node, newest last."""

    samples: deque[Sample] = field(default_factory=lambda: deque(maxlen=4))

    def add(self, sample: Sample) -> None:
        while self.samples and sample.at - self.samples[0].at > MAX_AGE:
            self.samples.popleft()
        self.samples.append(sample)

    @property
    def newest(self) -> Sample | None:
        return self.samples[-1] if self.samples else None

    def node(self) -> Usage | None:
        new, old = self._pair()
        if new is None or new.node is None:
            return None
        before = old.node if old is not None else None
        return self._usage(new, new.node, old, before)

    def container(self, key: ContainerKey) -> Usage | None:
        new, old = self._pair()
        counters = new.containers.get(key) if new is not None else None
        if new is None or counters is None:
            return None
        before = old.containers.get(key) if old is not None else None
        return self._usage(new, counters, old, before)

    def _pair(self) -> tuple[Sample | None, Sample | None]:
        """The newest sample and the last one that is far enough before it."""
        new = self.newest
        if new is None:
            return None, None
        for old in reversed(self.samples):
            if new.at - old.at >= MIN_WINDOW:
                return new, old
        return new, None

    def _usage(
        self, new: Sample, counters: Counters, old: Sample | None, before: Counters | None
    ) -> Usage | None:
        now = new.time.timestamp()
        old_at = old.at if old is not None else new.at
        return usage_between(counters, new.at, before, old_at, now)
