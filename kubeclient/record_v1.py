"""Events in the events.k8s.io/v1 form: with an action, a related object, and series.

For components that have moved to it upstream (the scheduler). Equal but for the note: the second
one starts a series on the first; further ones are only counted and written from time to time.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from pilothouse.apimachinery.errors import StatusError, is_not_found
from pilothouse.apimachinery.object import Obj
from pilothouse.apimachinery.timefmt import format_micro_time
from pilothouse.kubeclient.event_queue import EventNames, EventQueue
from pilothouse.kubeclient.record import reference_to
from pilothouse.kubeclient.resources import EVENTS_V1

if TYPE_CHECKING:
    from pilothouse.apimachinery.clock import Clock
    from pilothouse.componentbase.activity import ActivityTracker
    from pilothouse.kubeclient.interfaces import Client

log = logging.getLogger(__name__)

FINISH_SECONDS = 360.0
"""A series without a new event for so long is over."""
REFRESH_SECONDS = 1800.0
"""How often a series that goes on is written."""
MAX_SERIES = 4096
NOTE_LENGTH = 1024


@dataclass(slots=True)
class _Series:
    event: Obj
    last_seen: float
    written: float
    count: int = 1


class SeriesRecorder:
    """``event`` never blocks and never fails; what it records is written in the background."""

    def __init__(
        self,
        client: Client,
        controller: str,
        *,
        clock: Clock,
        activity: ActivityTracker,
        instance: str = "",
    ) -> None:
        self._client = client
        self._clock = clock
        self._controller = controller
        self._instance = instance or controller
        self._series: dict[tuple[Any, ...], _Series] = {}
        self._names = EventNames(clock, controller)
        self._queue: EventQueue[tuple[Obj, Obj | None]] = EventQueue(
            controller, activity, self._write
        )
        """(event, the series part as a patch or None for a new event)"""

    def event(
        self,
        regarding: Obj,
        related: Obj | None,
        type_: str,
        reason: str,
        action: str,
        note: str,
    ) -> None:
        if not self._queue.accepts:
            return
        now = self._clock.time()
        reference = reference_to(regarding)
        other = reference_to(related) if related is not None else {}
        key = (type_, reason, action, *sorted(reference.items()), "", *sorted(other.items()))
        series = self._series.get(key)
        if series is not None and now - series.last_seen < FINISH_SECONDS:
            self._count(series, now)
            return
        event = self._make(reference, other, now, (type_, reason, action, note))
        self._remember(key, _Series(event, now, now))
        self._queue.put((event, None))

    def _remember(self, key: tuple[Any, ...], series: _Series) -> None:
        if len(self._series) >= MAX_SERIES:
            over = [k for k, s in self._series.items()
                    if series.last_seen - s.last_seen >= FINISH_SECONDS]  # fmt: skip
            for old in over or [next(iter(self._series))]:
                del self._series[old]
        self._series[key] = series

    def _count(self, series: _Series, now: float) -> None:
        series.count += 1
        series.last_seen = now
        if series.count == 2 or now - series.written >= REFRESH_SECONDS:
            series.written = now
            seen = format_micro_time(datetime.fromtimestamp(now, UTC))
            patch = {"series": {"count": series.count, "lastObservedTime": seen}}
            self._queue.put((series.event, patch))

    def _make(
        self, reference: Obj, related: Obj, now: float, what: tuple[str, str, str, str]
    ) -> Obj:
        type_, reason, action, note = what
        event: Obj = {
            "apiVersion": "events.k8s.io/v1",
            "kind": "Event",
            "metadata": {
                "name": self._names.next(reference.get("name")),
                "namespace": reference.get("namespace") or "default",
            },
            "eventTime": format_micro_time(datetime.fromtimestamp(now, UTC)),
            "reportingController": self._controller,
            "reportingInstance": self._instance,
            "action": action,
            "reason": reason,
            "regarding": reference,
            "note": note if len(note) <= NOTE_LENGTH else f"{note[: NOTE_LENGTH - 4]} ...",
            "type": type_,
        }
        if related:
            event["related"] = related
        return event

    async def _write(self, item: tuple[Obj, Obj | None]) -> None:
        try:
            await self._write_once(*item)
        except (StatusError, ConnectionError, TimeoutError) as error:
            log.debug("event was not written: %s", error)

    async def _write_once(self, event: Obj, patch: Obj | None) -> None:
        namespace = event["metadata"]["namespace"]
        if patch is not None:
            try:
                await self._client.patch(
                    EVENTS_V1, event["metadata"]["name"], patch,
                    "application/strategic-merge-patch+json", namespace,
                )  # fmt: skip
                return
            except StatusError as error:
                if not is_not_found(error):
                    raise
            # The event has expired: it starts anew with its series.
            event = {**event, **patch}
        await self._client.create(EVENTS_V1, event, namespace)

    async def close(self) -> None:
        """Stops writing; what is queued is lost."""
        await self._queue.close()
