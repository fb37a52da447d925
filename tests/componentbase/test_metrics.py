"""Prometheus' text format."""

from __future__ import annotations

from pilothouse.componentbase.metrics import Counter, Gauge, Histogram, Registry, exposition


def test_exposition() -> None:
    registry = Registry()
    requests = Counter("requests_total", "Requests.", ("verb", "code"))
    depth = Gauge("depth", "How deep.", function=lambda: 2.5)
    seconds = Histogram("seconds", "How long.", (0.1, 1.0), ("verb",))
    registry.add(requests, depth, seconds)
    requests.inc("get", "200")
    requests.inc("get", "200", by=2)
    requests.inc('odd"\\\n', "500")
    for value in (0.1, 0.5, 3.0):
        seconds.observe(value, "get")
    assert registry.text() == (
        "# HELP requests_total Requests.\n"
        "# TYPE requests_total counter\n"
        'requests_total{verb="get",code="200"} 3\n'
        'requests_total{verb="odd\\"\\\\\\n",code="500"} 1\n'
        "# HELP depth How deep.\n"
        "# TYPE depth gauge\n"
        "depth 2.5\n"
        "# HELP seconds How long.\n"
        "# TYPE seconds histogram\n"
        'seconds_bucket{verb="get",le="0.1"} 1\n'
        'seconds_bucket{verb="get",le="1"} 2\n'
        'seconds_bucket{verb="get",le="+Inf"} 3\n'
        'seconds_sum{verb="get"} 3.6\n'
        'seconds_count{verb="get"} 3\n'
    )


def test_negotiation() -> None:
    registry = Registry()
    registry.add(Gauge("depth", "How deep.", function=lambda: 1))
    protobuf = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily"
    accepted = {
        "": "text/plain",
        "*/*": "text/plain",
        f"{protobuf};encoding=delimited": "application/vnd.google.protobuf",
        f"{protobuf};encoding=delimited;q=0.3,text/plain;q=0.9": "text/plain",
        f"{protobuf};encoding=delimited;q=0.6,application/openmetrics-text;version=1.0.0;q=0.5,"
        "*/*;q=0.2": "application/vnd.google.protobuf",
        "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3": (
            "application/openmetrics-text"
        ),
        f"{protobuf};encoding=compact-text": "text/plain",
        f"text/plain;q=bad,{protobuf};encoding=delimited;q=0.5": "text/plain",
    }
    for accept, expected in accepted.items():
        assert exposition(registry, accept)[1].startswith(expected + ";"), accept
