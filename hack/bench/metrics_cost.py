"""What counting a request costs: ``python -m hack.bench.metrics_cost``.

Runs the bookkeeping of a GET a million times, with an empty loop taken off: the edge's, and what
authentication, authorization, and priority and fairness add.
"""

from __future__ import annotations

from time import perf_counter, process_time

from pilothouse.apiserver.flowcontrol.controller import WAIT_BUCKETS
from pilothouse.apiserver.metrics import APIServerMetrics, RequestSeries
from pilothouse.componentbase.histograms import FOLD, Series

ROUNDS = 1_000_000


def main() -> None:
    metrics = APIServerMetrics()
    metrics.count_user("someone")
    series = RequestSeries(("GET", "", "", "v1", "pods", "", "resource"))
    three = (metrics.filters.authenticated, metrics.filters.allowed, Series(WAIT_BUCKETS))
    filters = [(each, each.pending) for each in three]
    begin = process_time()
    for _ in range(ROUNDS):
        pass
    empty = process_time() - begin
    name, status, size = "someone", 200, 900
    begin = process_time()
    for _ in range(ROUNDS):
        start = perf_counter()
        if name in metrics.users:
            metrics.users[name] += 1
        if status >= 400:
            raise AssertionError
        series.record(status, perf_counter() - start, size)
        for measured, waiting in filters:
            begun = perf_counter()
            waiting.append(perf_counter() - begun)
            if len(waiting) >= FOLD:
                measured.fold()
    seconds = process_time() - begin - empty
    print(f"{seconds / ROUNDS * 1e6:.2f} us a request")


if __name__ == "__main__":
    main()
