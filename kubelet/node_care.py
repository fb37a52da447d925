"""Puts a node's housekeeping together: rotation of logs, image garbage, eviction.

The kubelet starts it when its containers are real processes; what it may do to pods goes through
:class:`NodeCare`, which is all that the parts see of the kubelet.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pilothouse.apimachinery.object import Obj
from pilothouse.kubelet.config import KubeletConfig
from pilothouse.kubelet.eviction.manager import EvictionManager, observe_node
from pilothouse.kubelet.eviction.thresholds import Observation, Pressure, parse
from pilothouse.kubelet.housekeeping import Chore, Housekeeping
from pilothouse.kubelet.image_gc import ImageGarbage, ImageLimits
from pilothouse.kubelet.log_rotation import LogLimits, LogRotation
from pilothouse.kubelet.pod_worker_state import Phase
from pilothouse.kubelet.static_pods import StaticPods

if TYPE_CHECKING:
    from pilothouse.kubelet.kubelet import Kubelet

LOOK_SECONDS = 10.0
IMAGES_SECONDS = 300.0
FILES_SECONDS = 20.0
"""fileCheckFrequency."""


class NodeCare:
    """Implements ``eviction.manager.Evictor``."""

    def __init__(self, kubelet: Kubelet) -> None:
        self._kubelet = kubelet
        config, clock = kubelet.config, kubelet.clock
        self._images = ImageGarbage(
            kubelet.images, kubelet.cache, clock,
            ImageLimits(config.image_gc_high_percent, config.image_gc_low_percent), self._disk,
        )  # fmt: skip
        self.eviction = EvictionManager(
            self, kubelet.runtime, kubelet.cache, clock, pressure_of(config),
            root_dir=config.root_dir, reclaim_disk=self._images.remove_unused,
        )  # fmt: skip
        logs = LogRotation(
            kubelet.runtime, kubelet.cache, clock,
            LogLimits(config.container_log_max_size, config.container_log_max_files),
        )  # fmt: skip
        self.static = kubelet.mirrors.static = StaticPods(
            kubelet.client, config.static_pod_path, lambda: kubelet.registration.node,
            kubelet.mirrors,
        )  # fmt: skip
        self.housekeeping = Housekeeping(clock, [
            Chore("static pods", FILES_SECONDS, self.static.look),
            Chore("rotation of logs", LOOK_SECONDS, logs.look),
            Chore("eviction", LOOK_SECONDS, self.eviction.look),
            Chore("image garbage collection", IMAGES_SECONDS, self._images.look),
        ])  # fmt: skip

    def _disk(self) -> Observation:
        return observe_node(self._kubelet.config.root_dir)["imagefs.available"]

    # -- Evictor -------------------------------------------------------------------------

    def active_pods(self) -> list[Obj]:
        states = self._kubelet.workers.states()
        return [state.pod for state in states if state.phase is Phase.SYNC]

    def evict(self, pod: Obj, text: str, grace_seconds: int) -> None:
        self._kubelet.workers.terminate(pod["metadata"]["uid"], ("Evicted", text), grace_seconds)

    def pressure_changed(self) -> None:
        self._kubelet.registration.status_changed()

    def short_of(self, resource: str) -> None:
        self._kubelet.recorder.event(
            self._kubelet.config.node_reference,
            "Warning",
            "EvictionThresholdMet",
            f"Attempting to reclaim {resource}",
        )


def pressure_of(config: KubeletConfig) -> Pressure:
    """:raises ValueError: thresholds that can't be read."""
    soft = parse(config.eviction_soft, config.eviction_soft_grace_period)
    return Pressure((*parse(config.eviction_hard), *soft), config.eviction_transition_seconds)
