"""Prometheus' text format."""

from __future__ import annotations

from pilothouse.componentbase.metrics import Counter, Gauge, Histogram, Registry


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
