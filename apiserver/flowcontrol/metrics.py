"""``apiserver_flowcontrol_*``: read off the controller when somebody asks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pilothouse.apiserver.flowcontrol.controller import SEAT_BUCKETS, WAIT_BUCKETS
from pilothouse.componentbase.histograms import Series
from pilothouse.componentbase.metrics import Collected, CollectedHistogram

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from pilothouse.apiserver.flowcontrol.controller import FlowController, Level
    from pilothouse.apiserver.flowcontrol.queue_set import Flow
    from pilothouse.componentbase.metrics import Labels, Metric

_PREFIX = "apiserver_flowcontrol_"


def flow_control_metrics(control: FlowController) -> tuple[Metric, ...]:
    def gauge(name: str, help: str, value: Callable[[Level], float]) -> Metric:
        return Collected(
            f"{_PREFIX}{name}",
            help,
            "gauge",
            ("priority_level",),
            lambda: [((level.name,), float(value(level))) for level in control.levels.values()],
        )

    return (
        *_complete(control),
        control.execution_seconds,
        *_by_schema(control),
        *(gauge(name, help, value) for name, help, value in _GAUGES),
        Collected(
            f"{_PREFIX}dispatched_requests_total",
            "[BETA] Number of requests executed by API Priority and Fairness subsystem",
            "counter",
            ("priority_level", "flow_schema"),
            lambda: [(key, float(cell[0])) for key, cell in control.dispatched.items()],
        ),
        Collected(
            f"{_PREFIX}rejected_requests_total",
            "[BETA] Number of requests rejected by API Priority and Fairness subsystem",
            "counter",
            ("priority_level", "flow_schema", "reason"),
            lambda: [(key, float(count)) for key, count in control.rejected.items()],
        ),
    )


def _complete(control: FlowController) -> tuple[Metric, ...]:
    """Only what is out of the ordinary is noted as it happens: who waited, who took more than one
    seat. The others, who are known by their number, are added here."""

    def waits() -> Iterable[tuple[Labels, Series]]:
        found = {labels: series.copy() for labels, series in control.wait_seconds.series()}
        for (level, schema), cell in control.dispatched.items():
            if control.levels.get(level) is None or control.levels[level].exempt:
                continue
            series = found.setdefault((level, schema, "true"), Series(WAIT_BUCKETS))
            series.observe_many(0.0, cell[0] - sum(series.counts))
        return ((labels, series) for labels, series in found.items() if any(series.counts))

    def seats() -> Iterable[tuple[Labels, Series]]:
        found = {labels: series.copy() for labels, series in control.seats.series()}
        for labels, cell in control.dispatched.items():
            series = found.setdefault(labels, Series(SEAT_BUCKETS))
            series.observe_many(1.0, cell[0] - sum(series.counts))
        return found.items()

    waited, taken = control.wait_seconds, control.seats
    return (
        CollectedHistogram(waited.name, waited.help, waited.names, waits),
        CollectedHistogram(taken.name, taken.help, taken.names, seats),
    )


def _by_schema(control: FlowController) -> tuple[Metric, ...]:
    """What is going on now, of each flow schema."""

    def gauge(name: str, help: str, value: Callable[[Flow, list[int]], float]) -> Metric:
        def values() -> Iterable[tuple[Labels, float]]:
            found: dict[Labels, float] = dict.fromkeys(control.dispatched, 0.0)
            levels = {schema: level for level, schema in control.dispatched}
            waiting: dict[Flow, list[int]] = {}
            for level in control.levels.values():
                for seat in level.queues.waiting_seats() if level.queues else ():
                    waiting.setdefault(seat.flow, []).append(seat.seats)
            for schema, flow in control.flows():
                if schema in levels:
                    found[levels[schema], schema] += value(flow, waiting.get(flow, []))
            return found.items()

        return Collected(
            f"{_PREFIX}{name}", help, "gauge", ("priority_level", "flow_schema"), values
        )

    return tuple(gauge(name, help, value) for name, help, value in _FLOW_GAUGES)


_FLOW_GAUGES: tuple[tuple[str, str, Callable[[Flow, list[int]], float]], ...] = (
    (
        "current_executing_requests",
        "[BETA] Number of requests in initial (for a WATCH) or any (for a non-WATCH) execution "
        "stage in the API Priority and Fairness subsystem",
        lambda flow, waiting: flow.executing,
    ),
    (
        "current_executing_seats",
        "[BETA] Concurrency (number of seats) occupied by the currently executing (initial "
        "stage for a WATCH, any stage otherwise) requests in the API Priority and Fairness "
        "subsystem",
        lambda flow, waiting: flow.seats_in_use,
    ),
    (
        "current_inqueue_seats",
        "[ALPHA] Number of seats currently pending in queues of the API Priority and Fairness "
        "subsystem",
        lambda flow, waiting: sum(waiting),
    ),
    (
        "current_inqueue_requests",
        "[BETA] Number of requests currently pending in queues of the API Priority and Fairness "
        "subsystem",
        lambda flow, waiting: len(waiting),
    ),
)
_GAUGES: tuple[tuple[str, str, Callable[[Level], float]], ...] = (
    (
        "nominal_limit_seats",
        "[BETA] Nominal number of execution seats configured for each priority level",
        lambda level: level.limits.nominal if level.limits else 0,
    ),
    (
        "lower_limit_seats",
        "[ALPHA] Configured lower bound on number of execution seats available to each priority "
        "level",
        lambda level: level.limits.least if level.limits else 0,
    ),
    (
        "upper_limit_seats",
        "[ALPHA] Configured upper bound on number of execution seats available to each priority "
        "level",
        lambda level: level.limits.most if level.limits else 0,
    ),
    (
        "current_limit_seats",
        "[ALPHA] current derived number of execution seats available to each priority level",
        lambda level: level.queues.limit if level.queues else 0,
    ),
    (
        "demand_seats_high_watermark",
        "[ALPHA] High watermark, over last adjustment period, of demand_seats",
        lambda level: level.queues.demand.high if level.queues else 0,
    ),
    (
        "demand_seats_average",
        "[ALPHA] Time-weighted average, over last adjustment period, of demand_seats",
        lambda level: level.queues.demand.average if level.queues else 0,
    ),
    (
        "demand_seats_stdev",
        "[ALPHA] Time-weighted standard deviation, over last adjustment period, of demand_seats",
        lambda level: level.queues.demand.deviation if level.queues else 0,
    ),
    (
        "current_r",
        "[ALPHA] R(time of last change)",
        lambda level: level.queues.virtual_time if level.queues else 0,
    ),
    (
        "demand_seats_smoothed",
        "[ALPHA] Smoothed seat demands",
        lambda level: level.queues.demand.smoothed if level.queues else 0,
    ),
)
