"""How long changes of endpoints take to become rules (NetworkProgrammingLatency).

The endpoint controller notes on a slice when a pod or Service changed; what is older than this
proxy tells nothing of it.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from pilothouse.apimachinery.clock import Clock
from pilothouse.apimachinery.object import Obj
from pilothouse.apimachinery.timefmt import parse_time

ANNOTATION = "endpoints.kubernetes.io/last-change-trigger-time"


class TriggerTimes:
    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._start = clock.now()
        self._waiting: dict[tuple[str, str], dict[str, datetime]] = {}
        """By Service and slice."""
        self._seen: dict[tuple[str, str], str] = {}
        """The last text by namespace and name of the slice."""

    def note(self, service: tuple[str, str], slice_: Obj) -> None:
        metadata = slice_["metadata"]
        text = (metadata.get("annotations") or {}).get(ANNOTATION)
        key = (service[0], metadata["name"])
        if not text or self._seen.get(key) == text:
            return
        self._seen[key] = text
        try:
            moment = parse_time(text)
        except ValueError:
            return
        if moment > self._start:
            self._waiting.setdefault(service, {})[metadata["name"]] = moment

    def forget(self, service: tuple[str, str], slice_: Obj) -> None:
        name = slice_["metadata"]["name"]
        self._seen.pop((service[0], name), None)
        self._waiting.get(service, {}).pop(name, None)

    def of(self, services: Iterable[tuple[str, str]]) -> list[float]:
        """Seconds since what these Services' slices told; each once."""
        now = self._clock.now()
        return [
            max((now - moment).total_seconds(), 0.0)
            for service in services
            for moment in self._waiting.pop(service, {}).values()
        ]
