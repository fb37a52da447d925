"""terminated_containers_total: each container that ends counts once."""

from __future__ import annotations

import itertools
from typing import Any

from pilothouse.kubelet import terminations


def status(key: str = "containerStatuses", **states: dict[str, Any]) -> dict[str, Any]:
    return {key: [{"name": name, "state": state} for name, state in states.items()]}


def ended(code: int = 0, reason: str = "Completed") -> dict[str, Any]:
    return {"terminated": {"exitCode": code, "reason": reason}}


def counted(*statuses: dict[str, Any]) -> dict[tuple[str, ...], float]:
    total = terminations.counter()
    for old, new in itertools.pairwise(statuses):
        terminations.count(total, old, new)
    return total.values


RUNNING: dict[str, Any] = {"running": {}}


def test_once_for_each_end() -> None:
    crashed = ended(139, "Error")
    values = counted({}, status(a=RUNNING, b=RUNNING), status(a=crashed, b=RUNNING))
    assert values == {("container", "139", "Error"): 1}
    again = counted(status(a=RUNNING), status(a=crashed), status(a=crashed))
    assert again == values
    twice = (status(a=RUNNING), status(a=crashed)) * 2
    assert counted(*twice) == {("container", "139", "Error"): 2}


def test_unseen_containers_that_have_ended_count_too() -> None:
    new = status("initContainerStatuses", a=ended()) | status(c={"waiting": {}})
    assert counted({}, new) == {("init_container", "0", "Completed"): 1}
    debug = status("ephemeralContainerStatuses", d=ended(1, "Error"))
    assert counted({"phase": "Running"}, debug) == {("ephemeral_container", "1", "Error"): 1}
