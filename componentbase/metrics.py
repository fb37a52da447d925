"""Counters, gauges and histograms with Prometheus' text exposition.

One :class:`Registry` per component of a cluster, never a global one. Updating a metric is a
dict access and an addition; text is only made when somebody asks for ``/metrics``.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
Labels = tuple[str, ...]


class Metric:
    """``names`` are the label names; values are given by the same order."""

    kind = "untyped"

    def __init__(self, name: str, help: str, names: Sequence[str] = ()) -> None:
        self.name = name
        self.help = help
        self.names = tuple(names)

    def samples(self) -> Iterator[str]:
        """Lines of the exposition; subclasses have some."""
        return iter(())

    def text(self) -> str:
        lines = [f"# HELP {self.name} {self.help}", f"# TYPE {self.name} {self.kind}"]
        lines += self.samples()
        return "\n".join(lines) + "\n"

    def _labels(self, values: Labels, extra: str = "") -> str:
        parts = [f'{n}="{_escape(v)}"' for n, v in zip(self.names, values, strict=True)]
        if extra:
            parts.append(extra)
        return f"{{{','.join(parts)}}}" if parts else ""


class Counter(Metric):
    kind = "counter"

    def __init__(self, name: str, help: str, names: Sequence[str] = ()) -> None:
        super().__init__(name, help, names)
        self.values: dict[Labels, float] = {}

    def inc(self, *labels: str, by: float = 1.0) -> None:
        self.values[labels] = self.values.get(labels, 0.0) + by

    def samples(self) -> Iterator[str]:
        for labels, value in sorted(self.values.items()):
            yield f"{self.name}{self._labels(labels)} {_number(value)}"


class Gauge(Counter):
    """``function``, when given, is asked for the value of a gauge without labels."""

    kind = "gauge"

    def __init__(
        self,
        name: str,
        help: str,
        names: Sequence[str] = (),
        function: Callable[[], float] | None = None,
    ) -> None:
        super().__init__(name, help, names)
        self._function = function

    def set(self, value: float, *labels: str) -> None:
        self.values[labels] = value

    def samples(self) -> Iterator[str]:
        if self._function is not None:
            self.values[()] = self._function()
        return super().samples()


class Histogram(Metric):
    kind = "histogram"

    def __init__(
        self, name: str, help: str, buckets: Sequence[float], names: Sequence[str] = ()
    ) -> None:
        super().__init__(name, help, names)
        self.buckets = tuple(buckets)
        self._series: dict[Labels, tuple[list[int], list[float]]] = {}

    def observe(self, value: float, *labels: str) -> None:
        series = self._series.get(labels)
        if series is None:
            series = self._series[labels] = ([0] * (len(self.buckets) + 1), [0.0])
        series[0][bisect_left(self.buckets, value)] += 1
        series[1][0] += value

    def samples(self) -> Iterator[str]:
        for labels, (counts, total) in sorted(self._series.items()):
            seen = 0
            for bound, count in zip((*self.buckets, None), counts, strict=True):
                seen += count
                limit = "+Inf" if bound is None else _number(bound)
                where = self._labels(labels, f'le="{limit}"')
                yield f"{self.name}_bucket{where} {seen}"
            yield f"{self.name}_sum{self._labels(labels)} {_number(total[0])}"
            yield f"{self.name}_count{self._labels(labels)} {seen}"


class Registry:
    """The metrics of one component, in the order in which they were made."""

    def __init__(self) -> None:
        self._metrics: dict[str, Metric] = {}

    def add(self, *metrics: Metric) -> None:
        for metric in metrics:
            self._metrics[metric.name] = metric

    def find(self, name: str) -> Metric | None:
        return self._metrics.get(name)

    def text(self) -> str:
        return "".join(metric.text() for metric in self._metrics.values())


def _escape(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else repr(value)
