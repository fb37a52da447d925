"""``apiserver_flowcontrol_*``: read off the controller when somebody asks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pilothouse.componentbase.metrics import Collected

if TYPE_CHECKING:
    from collections.abc import Callable

    from pilothouse.apiserver.flowcontrol.controller import FlowController, Level
    from pilothouse.componentbase.metrics import Metric

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
        control.wait_seconds,
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
        "current_executing_requests",
        "[BETA] Number of requests in initial (for a WATCH) or any (for a non-WATCH) execution "
        "stage in the API Priority and Fairness subsystem",
        lambda level: level.queues.executing if level.queues else 0,
    ),
    (
        "current_executing_seats",
        "[BETA] Concurrency (number of seats) occupied by the currently executing (initial "
        "stage for a WATCH, any stage otherwise) requests in the API Priority and Fairness "
        "subsystem",
        lambda level: level.queues.seats_in_use if level.queues else 0,
    ),
    (
        "current_inqueue_seats",
        "[ALPHA] Number of seats currently pending in queues of the API Priority and Fairness "
        "subsystem",
        lambda level: level.queues.seats_waiting if level.queues else 0,
    ),
    (
        "demand_seats_high_watermark",
        "[ALPHA] High watermark, over last adjustment period, of demand_seats",
        lambda level: level.queues.demand.high if level.queues else 0,
    ),
    (
        "demand_seats_smoothed",
        "[ALPHA] Smoothed seat demands",
        lambda level: level.queues.demand.smoothed if level.queues else 0,
    ),
    (
        "current_inqueue_requests",
        "[BETA] Number of requests currently pending in queues of the API Priority and Fairness "
        "subsystem",
        lambda level: level.queues.waiting if level.queues else 0,
    ),
)
