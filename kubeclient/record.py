"""Events about objects: recorded at once, correlated, written in the background.

``EventRecorder.event`` never blocks and never fails. :class:`EventCorrelator` is client-go's
(pure, time passed in): at most 25 events of one kind for an object at once and one more per
five minutes; ten that differ only in their message become one "(combined from similar
events)"; the same event again is a PATCH of its count.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Generic, TypeVar

from pilothouse.apimachinery.errors import StatusError, is_not_found
from pilothouse.apimachinery.object import Obj, meta
from pilothouse.apimachinery.timefmt import format_time
from pilothouse.kubeclient.event_queue import EventNames, EventQueue
from pilothouse.kubeclient.resources import EVENTS
from pilothouse.kubeclient.workqueue.rate_limiters import TokenBucket

if TYPE_CHECKING:
    from random import Random

    from pilothouse.apimachinery.clock import Clock
    from pilothouse.componentbase.activity import ActivityTracker
    from pilothouse.kubeclient.interfaces import Client

log = logging.getLogger(__name__)

NORMAL = "Normal"
WARNING = "Warning"

CACHE_ENTRIES = 4096
MAX_TRIES = 12
RETRY_SECONDS = 10.0
AGGREGATE_MAX_EVENTS = 10
AGGREGATE_INTERVAL = 600.0
SPAM_BURST = 25
SPAM_QPS = 1.0 / 300.0
COMBINED_PREFIX = "(combined from similar events): "

V = TypeVar("V")


class _LRU(Generic[V]):
    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._values: OrderedDict[tuple[str, ...], V] = OrderedDict()

    def get(self, key: tuple[str, ...]) -> V | None:
        value = self._values.get(key)
        if value is not None:
            self._values.move_to_end(key)
        return value

    def set(self, key: tuple[str, ...], value: V) -> None:
        self._values[key] = value
        self._values.move_to_end(key)
        if len(self._values) > self._limit:
            self._values.popitem(last=False)


@dataclass(slots=True)
class _Aggregate:
    local_keys: dict[str, None]
    last: float


@dataclass(slots=True)
class _Observed:
    count: int
    name: str
    first_timestamp: str


@dataclass(frozen=True, slots=True)
class Correlated:
    """What to write: a new ``event``, or ``patch`` for the existing one of that name."""

    event: Obj
    patch: Obj | None
    key: tuple[str, ...]


class EventCorrelator:
    """Decides for each event whether it is dropped, combined, counted or new."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._buckets: _LRU[TokenBucket] = _LRU(CACHE_ENTRIES)
        self._aggregates: _LRU[_Aggregate] = _LRU(CACHE_ENTRIES)
        self._observed: _LRU[_Observed] = _LRU(CACHE_ENTRIES)

    def correlate(self, event: Obj) -> Correlated | None:
        """None: one too many of its kind."""
        event, key = self._aggregate(event)
        result = self._count(event, key)
        return result if self._bucket(event).try_accept() else None

    def written(self, event: Obj, key: tuple[str, ...]) -> None:
        """Remembers the object that the server holds now."""
        self._observed.set(
            key,
            _Observed(int(event.get("count") or 1), meta(event)["name"], event["firstTimestamp"]),
        )

    def _bucket(self, event: Obj) -> TokenBucket:
        key = (*_object_key(event), event["type"])
        bucket = self._buckets.get(key)
        if bucket is None:
            bucket = TokenBucket(SPAM_QPS, SPAM_BURST, self._clock)
            self._buckets.set(key, bucket)
        return bucket

    def _aggregate(self, event: Obj) -> tuple[Obj, tuple[str, ...]]:
        now = self._clock.time()
        key = (*_object_key(event), event["type"], event["reason"])
        record = self._aggregates.get(key)
        if record is None or now - record.last > AGGREGATE_INTERVAL:
            record = _Aggregate({}, now)
        record.local_keys[event["message"]] = None
        record.last = now
        self._aggregates.set(key, record)
        if len(record.local_keys) < AGGREGATE_MAX_EVENTS:
            field_path = event["involvedObject"].get("fieldPath") or ""
            return event, (*key, field_path, event["message"])
        record.local_keys.popitem()
        combined = {**event, "message": COMBINED_PREFIX + event["message"], "count": 1}
        return combined, key

    def _count(self, event: Obj, key: tuple[str, ...]) -> Correlated:
        seen = self._observed.get(key)
        patch = None
        if seen is not None:
            event = {
                **event,
                "metadata": {**event["metadata"], "name": seen.name},
                "firstTimestamp": seen.first_timestamp,
                "count": seen.count + 1,
            }
            patch = {k: event[k] for k in ("count", "lastTimestamp", "message")}
        self.written(event, key)
        return Correlated(event, patch, key)


def _object_key(event: Obj) -> tuple[str, ...]:
    source = event["source"]
    involved = event["involvedObject"]
    return (
        source.get("component") or "",
        source.get("host") or "",
        involved.get("kind") or "",
        involved.get("namespace") or "",
        involved.get("name") or "",
        involved.get("uid") or "",
        involved.get("apiVersion") or "",
    )


@lru_cache(maxsize=2)
def _second(seconds: int) -> str:
    return format_time(datetime.fromtimestamp(seconds, UTC))


def reference_to(obj: Obj, field_path: str = "") -> Obj:
    """An ObjectReference to ``obj`` (which may be one already)."""
    if "metadata" not in obj:
        reference = dict(obj)
    else:
        metadata = meta(obj)
        reference = {
            "kind": obj.get("kind"),
            "namespace": metadata.get("namespace"),
            "name": metadata.get("name"),
            "uid": metadata.get("uid"),
            "apiVersion": obj.get("apiVersion"),
            "resourceVersion": metadata.get("resourceVersion"),
        }
    if field_path:
        reference["fieldPath"] = field_path
    return {k: v for k, v in reference.items() if v}


class EventRecorder:
    """Writes core/v1 Events for one component. Queued events beyond 1000 are dropped."""

    def __init__(
        self,
        client: Client,
        component: str,
        *,
        clock: Clock,
        random: Random,
        activity: ActivityTracker,
        host: str = "",
        rate: TokenBucket | None = None,
    ) -> None:
        """``rate``: how many events are written (--event-qps and --event-burst of a kubelet)."""
        self._client = client
        self._clock = clock
        self._random = random
        self._rate = rate
        self._source = {"component": component} | ({"host": host} if host else {})
        self._correlator = EventCorrelator(clock)
        self._names = EventNames(clock, component)
        self._queue: EventQueue[Obj] = EventQueue(component, activity, self._correlate)

    def event(
        self,
        obj: Obj,
        type_: str,
        reason: str,
        message: str,
        *,
        field_path: str = "",
        annotations: dict[str, str] | None = None,
    ) -> None:
        """Records that something happened to ``obj``, an object or an ObjectReference."""
        if self._queue.accepts:
            reference = reference_to(obj, field_path)
            self._queue.put(self._make(reference, type_, reason, message, annotations))

    def _make(
        self,
        reference: Obj,
        type_: str,
        reason: str,
        message: str,
        annotations: dict[str, str] | None,
    ) -> Obj:
        timestamp = _second(int(self._clock.time()))
        metadata: Obj = {
            "name": self._names.next(reference.get("name")),
            "namespace": reference.get("namespace") or "default",
        }
        if annotations:
            metadata["annotations"] = annotations
        return {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": metadata,
            "involvedObject": reference,
            "reason": reason,
            "message": message,
            "source": self._source,
            "firstTimestamp": timestamp,
            "lastTimestamp": timestamp,
            "count": 1,
            "type": type_,
            "eventTime": None,
            "reportingComponent": self._source["component"],
            "reportingInstance": self._source.get("host", ""),
        }

    async def _correlate(self, event: Obj) -> None:
        correlated = self._correlator.correlate(event)
        if correlated is not None:
            await self._turn()
            await self._write(correlated)

    async def _turn(self) -> None:
        """Waits as long as the rate of events asks for."""
        wait = 0.0 if self._rate is None else self._rate.reserve()
        if wait > 0:
            with self._queue.idle():
                await self._clock.sleep(wait)

    async def _write(self, correlated: Correlated) -> None:
        for attempt in range(MAX_TRIES):
            try:
                await self._write_once(correlated)
                return
            except StatusError as error:
                if error.code != 429 and error.reason != "AlreadyExists":
                    log.debug("event was refused: %s", error)
                if error.code != 429:
                    return
            except (ConnectionError, TimeoutError) as error:
                log.debug("event was not written: %s", error)
            share = self._random.random() if attempt == 0 else 1.0
            with self._queue.idle():
                await self._clock.sleep(RETRY_SECONDS * share)

    async def _write_once(self, correlated: Correlated) -> None:
        event = correlated.event
        namespace = event["metadata"]["namespace"]
        if correlated.patch is not None:
            try:
                await self._client.patch(
                    EVENTS,
                    event["metadata"]["name"],
                    correlated.patch,
                    "application/merge-patch+json",
                    namespace,
                )
                return
            except StatusError as error:
                if not is_not_found(error):
                    raise
            # The event has expired: it starts anew.
            event = {
                **event,
                "metadata": {
                    "name": self._names.next(event["involvedObject"].get("name")),
                    "namespace": namespace,
                },
            }
            self._correlator.written(event, correlated.key)
        await self._client.create(EVENTS, event, namespace)

    async def close(self) -> None:
        """Stops writing; what is queued is lost."""
        await self._queue.close()
