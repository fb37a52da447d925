"""What is to be reached: ratios of server CPU per operation, and absolute figures."""

from __future__ import annotations

RATIOS: dict[str, tuple[float | None, float]] = {
    "GET Pod": (0.35, 0.3),
    "create ConfigMap": (0.6, 0.5),
    "create Pod": (0.6, 0.5),
    "patch Pod": (0.6, 0.5),
    "apply ConfigMap": (0.8, 0.6),
    "delete ConfigMap": (None, 0.6),
    "LIST 5,000 rv=0": (0.15, 0.12),
    "LIST 5,000 consistent": (0.15, 0.12),
    "LIST limit=500": (None, 0.2),
    "LIST 5,000 Table": (None, 0.6),
    "LIST selector, no match": (None, 0.5),
    "watch, 100 watchers": (0.6, 0.4),
    "watch, 1,000 watchers": (0.6, 0.4),
    "watch, 100 watchers, without the writes": (0.6, 0.4),
    "watch, 1,000 watchers, without the writes": (0.6, 0.4),
}
"""Per operation: the first goal (None: none was set) and the one that comes after it."""

MEMORY_RATIOS = {"after 5,000 pods, 10,000 ConfigMaps, lists, watches (MB PSS)": 0.35}

ABSOLUTE: dict[str, tuple[float, bool]] = {
    "start of one API server (s)": (0.6, True),
    "start of a whole one-node cluster (s)": (1.2, True),
    "idle API server (MB PSS)": (80, True),
    "idle one-node cluster (MB PSS)": (110, True),
    "Cluster() in process, first in a process (ms)": (150, True),
    "Cluster() in process, later ones (ms)": (150, True),
    "fake pods create-to-Running (pods/s)": (200, False),
    "real pod create-to-Running, p50 (ms)": (250, True),
}
"""Figure → (goal, whether less is better)."""


def met(ratio: float, name: str) -> str:
    """ "" without a goal, else which goals a ratio meets."""
    goals = RATIOS.get(name)
    if goals is None:
        return ""
    first, second = goals
    if ratio <= second:
        return "yes"
    if first is not None and ratio <= first:
        return "first"
    return "no"
