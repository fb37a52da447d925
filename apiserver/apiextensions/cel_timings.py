"""How long rules of custom resources take to compile and to run (apiserver pkg/cel/metrics).

Of the process, as upstream's: a compiled schema does not know whose it is. Nothing but the times of
pure functions is kept here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pilothouse.componentbase.histograms import Series
from pilothouse.componentbase.metrics import CollectedHistogram

if TYPE_CHECKING:
    from pilothouse.componentbase.metrics import Metric

_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
COMPILATION = Series(_BUCKETS)
EVALUATION = Series(_BUCKETS)


def timing_metrics() -> tuple[Metric, ...]:
    return (
        CollectedHistogram(
            "apiserver_cel_compilation_duration_seconds",
            "[BETA] CEL compilation time in seconds.",
            (),
            lambda: (((), COMPILATION),),
        ),
        CollectedHistogram(
            "apiserver_cel_evaluation_duration_seconds",
            "[BETA] CEL evaluation time in seconds.",
            (),
            lambda: (((), EVALUATION),),
        ),
    )
