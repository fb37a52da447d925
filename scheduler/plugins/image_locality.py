"""ImageLocality: prefers nodes that hold the pod's images already, large ones more."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from pilothouse.apimachinery.object import Obj
from pilothouse.scheduler.cache.node_info import NodeInfo
from pilothouse.scheduler.cache.node_list import NodeList
from pilothouse.scheduler.framework.interfaces import MAX_NODE_SCORE, CycleState, Status
from pilothouse.scheduler.framework.pod_info import PodInfo

MEGABYTE = 1024 * 1024
MIN_THRESHOLD = 23 * MEGABYTE
MAX_CONTAINER_THRESHOLD = 1000 * MEGABYTE


class ImageLocality:
    name = "ImageLocality"

    def __init__(self, all_nodes: Callable[[], Sequence[NodeInfo]] | None = None) -> None:
        """``all_nodes``: of the cluster; scoring is only told of those where the pod fits."""
        self._all_nodes = all_nodes

    def pre_score(
        self, state: CycleState, pod: PodInfo, nodes: Sequence[NodeInfo]
    ) -> Status | None:
        everywhere = nodes if self._all_nodes is None else self._all_nodes()
        spread = {}
        for name in pod.memo(self.name, _images):
            if isinstance(everywhere, NodeList):
                holders = everywhere.images.get(name, 0)
            else:
                holders = sum(1 for node in everywhere if name in node.images)
            if holders:
                spread[name] = holders / len(everywhere)
        state[self.name] = spread
        return None

    def score_all(self, state: CycleState, pod: PodInfo, nodes: Sequence[NodeInfo]) -> list[int]:
        if not state[self.name]:
            return [0] * len(nodes)
        return [self.score(state, pod, node) for node in nodes]

    def score(self, state: CycleState, pod: PodInfo, node: NodeInfo) -> int:
        spread: dict[str, float] = state[self.name]
        if not spread:
            return 0
        names = pod.memo(self.name, _images)
        # Scaled by spread, so that pods don't pile up on the few nodes with the image.
        total = sum(
            int(node.images[n] * spread[n]) for n in names if n in node.images and n in spread
        )
        ceiling = MAX_CONTAINER_THRESHOLD * len(names)
        clamped = min(max(total, MIN_THRESHOLD), ceiling)
        return MAX_NODE_SCORE * (clamped - MIN_THRESHOLD) // (ceiling - MIN_THRESHOLD)


def _images(pod: Obj) -> list[str]:
    containers = [*(pod["spec"].get("initContainers") or ()), *pod["spec"]["containers"]]
    images = [c.get("image") or "" for c in containers]
    volumes = pod["spec"].get("volumes") or ()
    images += [v["image"].get("reference") or "" for v in volumes if v.get("image")]
    return [normalized(image) for image in images]


def normalized(image: str) -> str:
    """With ``:latest`` where there is neither tag nor digest."""
    return image if ":" in image.rpartition("/")[2] or "@" in image else f"{image}:latest"
