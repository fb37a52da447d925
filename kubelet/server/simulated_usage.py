"""What containers without processes use: as much as their pod's annotations say. Pure.

``fake.pilothouse.dev/cpu-usage: 250m`` and ``fake.pilothouse.dev/memory-usage: 64Mi`` hold for
each container of the pod, ``fake.pilothouse.dev/<container>.cpu-usage`` for one. They are read
from the live pod: changing them (``kubectl annotate --overwrite``) changes the load.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from pilothouse.apimachinery.quantity import Quantity
from pilothouse.kubelet.runtime.fake_script import ANNOTATION_PREFIX

if TYPE_CHECKING:
    from pilothouse.apimachinery.object import Obj
    from pilothouse.kubelet.runtime.interfaces import ContainerStats, ContainerStatus

_NANO_SCALE = -9


def simulated_usage(pod: Obj, status: ContainerStatus, stats: ContainerStats) -> ContainerStats:
    """``stats`` with the pretended usage; zero without annotations."""
    cpu = _quantity(pod, status.name, "cpu-usage")
    memory = _quantity(pod, status.name, "memory-usage").value()
    rate = cpu.scaled_value(_NANO_SCALE)
    ran = max(0.0, stats.timestamp - status.started_at)
    return replace(
        stats,
        cpu_usage_core_nanoseconds=int(rate * ran),
        cpu_usage_nanocores=rate,
        memory_working_set_bytes=memory,
        memory_usage_bytes=memory,
        memory_rss_bytes=memory,
    )


def _quantity(pod: Obj, container: str, key: str) -> Quantity:
    annotations = pod["metadata"].get("annotations") or {}
    text = annotations.get(f"{ANNOTATION_PREFIX}{container}.{key}")
    text = annotations.get(f"{ANNOTATION_PREFIX}{key}") if text is None else text
    try:
        return Quantity.parse(text or "0")
    except ValueError:
        return Quantity.parse("0")
