"""Metrics as io.prometheus.client.MetricFamily messages, each behind its length.

The form that carries native histograms beside the classic buckets. Written by hand: a dozen
fields need no library. Only imported when a scraper asks for it.
"""

from __future__ import annotations

from struct import pack
from typing import TYPE_CHECKING

from pilothouse.apimachinery.protobuf_wire import FIXED64, delimited, number, tag, varint
from pilothouse.componentbase.histograms import ZERO_THRESHOLD
from pilothouse.componentbase.metrics import Histogram
from pilothouse.componentbase.process_numbers import process_numbers

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pilothouse.componentbase.histograms import Series
    from pilothouse.componentbase.metrics import Labels, Metric, Registry

CONTENT_TYPE = (
    "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; "
    "encoding=delimited; escaping=underscores"
)
_TYPES = {"counter": 0, "gauge": 1, "untyped": 3, "histogram": 4}
_VALUE_FIELDS = {"counter": 3, "gauge": 2, "untyped": 5}
_MAX_GAP = 2
"""Native buckets further apart begin a new span; the empty ones between nearer ones are sent."""


def encode(registry: Registry) -> bytes:
    """All metrics that have a series, said to have begun with the process: none is older."""
    created = _created(process_numbers().get("start_time_seconds", 0.0))
    made = bytearray()
    for metric in registry.all():
        found = list(_metrics(metric, created))
        if found:
            family = _family(metric) + b"".join(delimited(4, each) for each in found)
            made += varint(len(family)) + family
    return bytes(made)


def _family(metric: Metric) -> bytes:
    head = delimited(1, metric.name.encode()) + delimited(2, metric.help.encode())
    return head + number(3, _TYPES.get(metric.kind, 3))


def _metrics(metric: Metric, created: bytes) -> Iterator[bytes]:
    if isinstance(metric, Histogram):
        for labels, series in sorted(metric.series(), key=lambda pair: pair[0]):
            yield _labels(metric, labels) + delimited(7, _histogram(series, created))
        return
    field = _VALUE_FIELDS.get(metric.kind, 5)
    for labels, value in sorted(metric.points()):
        body = _double(1, value)
        if metric.kind == "counter":
            body += delimited(3, created)
        yield _labels(metric, labels) + delimited(field, body)


def _labels(metric: Metric, values: Labels) -> bytes:
    # In the order of their names, as client_golang sorts them.
    pairs = sorted(zip(metric.names, values, strict=True))
    return b"".join(
        delimited(1, delimited(1, name.encode()) + delimited(2, value.encode()))
        for name, value in pairs
    )


def _histogram(series: Series, created: bytes) -> bytes:
    seen = 0
    classic = []
    for bound, count in zip(series.buckets, series.counts, strict=False):
        seen += count
        classic.append(delimited(3, number(1, seen) + _double(2, bound)))
    parts = [number(1, sum(series.counts)), _double(2, series.total), *classic]
    parts += (
        number(5, _zigzag(series.schema)),
        _double(6, ZERO_THRESHOLD),
        number(7, series.zero_count),
    )
    spans, deltas = _spans(series.native())
    parts += [
        delimited(12, number(1, _zigzag(offset)) + number(2, length)) for offset, length in spans
    ]
    parts += [number(13, _zigzag(delta)) for delta in deltas]
    parts.append(delimited(15, created))
    return b"".join(parts)


def _spans(buckets: list[tuple[int, int]]) -> tuple[list[tuple[int, int]], list[int]]:
    """(offset, length) of runs of buckets, and each count as its difference to the one before."""
    spans: list[tuple[int, int]] = []
    deltas: list[int] = []
    following = before = 0
    for index, count in buckets:
        gap = index - following
        if not spans or gap > _MAX_GAP:
            spans.append((gap, 0))
            gap = 0
        for each in (*[0] * gap, count):
            deltas.append(each - before)
            before = each
        offset, length = spans[-1]
        spans[-1] = offset, length + gap + 1
        following = index + 1
    return spans, deltas


def _created(seconds: float) -> bytes:
    """A google.protobuf.Timestamp."""
    whole = int(seconds)
    return number(1, whole) + number(2, int((seconds - whole) * 1e9))


def _zigzag(value: int) -> int:
    return value << 1 if value >= 0 else (-value << 1) - 1


def _double(field: int, value: float) -> bytes:
    return tag(field, FIXED64) + pack("<d", value)
