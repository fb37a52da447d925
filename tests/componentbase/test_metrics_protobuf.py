"""Metrics in protobuf, read back by Google's library with the fields of client_model."""

from __future__ import annotations

from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from pilothouse.componentbase.histograms import FOLD
from pilothouse.componentbase.metrics import Counter, Gauge, Histogram, Registry, exposition

PROTOBUF = (
    "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited"
)
FIELDS: dict[str, tuple[tuple[str, int, str], ...]] = {
    "LabelPair": (("name", 1, "string"), ("value", 2, "string")),
    "Timestamp": (("seconds", 1, "int64"), ("nanos", 2, "int32")),
    "Counter": (("value", 1, "double"), ("created", 3, "Timestamp")),
    "Gauge": (("value", 1, "double"),),
    "Bucket": (("cumulative_count", 1, "uint64"), ("upper_bound", 2, "double")),
    "BucketSpan": (("offset", 1, "sint32"), ("length", 2, "uint32")),
    "Histogram": (
        ("sample_count", 1, "uint64"),
        ("sample_sum", 2, "double"),
        ("bucket", 3, "*Bucket"),
        ("schema", 5, "sint32"),
        ("zero_threshold", 6, "double"),
        ("zero_count", 7, "uint64"),
        ("positive_span", 12, "*BucketSpan"),
        ("positive_delta", 13, "*sint64"),
        ("created", 15, "Timestamp"),
    ),
    "Metric": (
        ("label", 1, "*LabelPair"),
        ("gauge", 2, "Gauge"),
        ("counter", 3, "Counter"),
        ("histogram", 7, "Histogram"),
    ),
    "MetricFamily": (
        ("name", 1, "string"),
        ("help", 2, "string"),
        ("type", 3, "int32"),
        ("metric", 4, "*Metric"),
    ),
}


def family_class() -> Any:
    file = descriptor_pb2.FileDescriptorProto(name="metrics.proto", package="t", syntax="proto2")
    field_type = descriptor_pb2.FieldDescriptorProto
    for name, fields in FIELDS.items():
        message = file.message_type.add(name=name)
        for field, number, kind in fields:
            repeated = kind.startswith("*")
            kind = kind.lstrip("*")
            made = message.field.add(
                name=field,
                number=number,
                label=field_type.LABEL_REPEATED if repeated else field_type.LABEL_OPTIONAL,
            )
            if kind in FIELDS:
                made.type = field_type.TYPE_MESSAGE
                made.type_name = f".t.{kind}"
            else:
                made.type = getattr(field_type, f"TYPE_{kind.upper()}")
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("t.MetricFamily"))


def families(body: bytes) -> list[Any]:
    made = family_class()
    found = []
    at = 0
    while at < len(body):
        length = shift = 0
        while True:
            byte = body[at]
            at += 1
            length |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                break
        found.append(made.FromString(body[at : at + length]))
        at += length
    return found


def native_buckets(histogram: Any) -> dict[int, int]:
    """Counts by index, as a scraper puts spans and deltas together."""
    found: dict[int, int] = {}
    index = count = 0
    deltas = iter(histogram.positive_delta)
    for span in histogram.positive_span:
        index += span.offset
        for _ in range(span.length):
            count += next(deltas)
            found[index] = count
            index += 1
    assert next(deltas, None) is None
    return {index: count for index, count in found.items() if count}


def scraped(*metrics: Any) -> list[Any]:
    registry = Registry(by_name=True)
    registry.add(*metrics)
    body, content_type = exposition(registry, PROTOBUF)
    assert content_type == (
        "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; "
        "encoding=delimited; escaping=underscores"
    )
    return families(body)


def test_counters_and_gauges() -> None:
    requests = Counter("requests_total", "Requests.", ("verb", "code"))
    requests.inc("get", "200", by=3)
    depth = Gauge("depth", "How deep.", function=lambda: 2.5)
    unused = Counter("unused_total", "Nothing counted.", ("verb",))
    first, second = scraped(requests, depth, unused)
    assert (first.name, first.help, first.type) == ("depth", "How deep.", 1)
    assert first.metric[0].gauge.value == 2.5
    assert (second.name, second.type) == ("requests_total", 0)
    metric = second.metric[0]
    assert [(pair.name, pair.value) for pair in metric.label] == [("code", "200"), ("verb", "get")]
    assert metric.counter.value == 3
    assert metric.counter.created.seconds > 0


def test_both_kinds_of_buckets() -> None:
    seconds = Histogram("seconds", "How long.", (0.1, 1.0), ("verb",))
    for value in (0.0, 0.1, 0.5, 1.0, 3.0, 3.0):
        seconds.observe(value, "get")
    (family,) = scraped(seconds)
    assert family.type == 4
    histogram = family.metric[0].histogram
    assert histogram.sample_count == 6
    assert histogram.sample_sum == 7.6
    assert [(b.upper_bound, b.cumulative_count) for b in histogram.bucket] == [(0.1, 2), (1.0, 4)]
    assert histogram.schema == 3
    assert histogram.zero_threshold == 2.0**-128
    assert histogram.zero_count == 1
    # 2 ** (-27 / 8) < 0.1 <= 2 ** (-26 / 8); 0.5 and 1.0 are bounds; 3 <= 2 ** (13 / 8)
    assert native_buckets(histogram) == {-26: 1, -8: 1, 0: 1, 13: 2}
    assert histogram.created.seconds > 0


def test_near_buckets_share_a_span() -> None:
    seconds = Histogram("seconds", "How long.", (1.0,))
    for exponent in (0, 3, 7):
        seconds.observe(2.0 ** (exponent / 8))
    histogram = scraped(seconds)[0].metric[0].histogram
    assert [(span.offset, span.length) for span in histogram.positive_span] == [(0, 4), (3, 1)]
    assert native_buckets(histogram) == {0: 1, 3: 1, 7: 1}


def test_many_observations() -> None:
    seconds = Histogram("seconds", "How long.", (0.5,))
    for _ in range(3 * FOLD + 1):
        seconds.observe(0.25)
    histogram = scraped(seconds)[0].metric[0].histogram
    assert histogram.sample_count == 3 * FOLD + 1
    assert native_buckets(histogram) == {-16: 3 * FOLD + 1}
