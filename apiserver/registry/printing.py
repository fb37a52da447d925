"""Cells of printed tables: ages, lists, labels (pkg/printers/internalversion).

A kind's cells are a function ``(obj, now) -> list`` in ``printing_<topic>.py``; the server always
prints wide cells, clients leave out columns with a priority.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

from pilothouse.apimachinery.object import meta
from pilothouse.apimachinery.timefmt import human_duration, parse_time

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from pilothouse.apimachinery.object import Obj

UNKNOWN = "<unknown>"
NONE = "<none>"
UNSET = "<unset>"
NO_DICT: Obj = {}


class Moment(str):
    """A duration as text that knows when it began (seconds since 1970)."""

    __slots__ = ("began",)
    began: float


class NotingNow(datetime):
    """A ``now`` that notes what is computed from it, so that a row can be made once and only its
    durations anew for each answer (``endpoints/table.py``)."""

    moments: list[Moment]

    @classmethod
    def at(cls, now: datetime) -> NotingNow:
        noting = cls.fromtimestamp(now.timestamp(), now.tzinfo)
        noting.moments = []
        return noting

    def since(self, at: datetime) -> Moment:
        began = at.timestamp()
        moment = Moment(human_duration(self.timestamp() - began))
        moment.began = began
        self.moments.append(moment)
        return moment


def since(timestamp: str | None, now: datetime) -> str:
    """How long ago, as ``5m``; ``<unknown>`` without a time.

    Rows must get everything that depends on ``now`` from here."""
    if not timestamp:
        return UNKNOWN
    began = parse_time(timestamp)
    if type(now) is NotingNow:
        return now.since(began)
    return human_duration((now - began).total_seconds())


def age(obj: Obj, now: datetime) -> str:
    """Time since ``metadata.creationTimestamp``."""
    return since(meta(obj).get("creationTimestamp"), now)


def name(obj: Obj) -> str:
    return meta(obj).get("name") or ""


def format_labels(labels: Mapping[str, str] | None) -> str:
    """labels.FormatLabels: sorted ``k=v`` pairs, ``<none>`` when there are none."""
    return ",".join(f"{k}={v}" for k, v in sorted(labels.items())) if labels else NONE


def format_label_selector(selector: Obj | None) -> str:
    """metav1.FormatLabelSelector."""
    from pilothouse.apimachinery.labels import format_label_selector as formatted

    return formatted(selector)


def container_cells(pod_spec: Obj | None) -> tuple[str, str]:
    """Names and images of the containers, comma separated."""
    containers = (pod_spec or NO_DICT).get("containers") or ()
    names = ",".join(c.get("name") or "" for c in containers)
    return names, ",".join(c.get("image") or "" for c in containers)


def at_most_three(items: Sequence[str]) -> str:
    """``a,b,c + 2 more...``; ``<unset>`` when empty."""
    text = ",".join(items[:3])
    if len(items) > 3:
        return f"{text} + {len(items) - 3} more..."
    return text or UNSET


def bool_text(value: bool | None) -> str:
    if value is None:
        return UNSET
    return "True" if value else "False"


def join_host_port(host: str, port: Any) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def has_true_condition(obj: Obj, type_: str) -> bool:
    conditions: Iterable[Obj] = (obj.get("status") or NO_DICT).get("conditions") or ()
    return any(c.get("type") == type_ and c.get("status") == "True" for c in conditions)
