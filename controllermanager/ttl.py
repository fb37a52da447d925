"""Tells kubelets, by an annotation of their node, how long they may keep Secrets and ConfigMaps:
the longer, the larger the cluster is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pilothouse.apimachinery.object import Obj, meta
from pilothouse.controllermanager.controller import Controller
from pilothouse.kubeclient.resources import NODES

if TYPE_CHECKING:
    from pilothouse.kubeclient.interfaces import Environment

ANNOTATION = "node.alpha.kubernetes.io/ttl"
BOUNDARIES = (
    (0, 100, 0),
    (90, 500, 15),
    (450, 1000, 30),
    (900, 2000, 60),
    (1800, 2**31 - 1, 300),
)
"""(fewest nodes, most nodes, seconds); they overlap, so that a node more or less at a boundary
does not rewrite all nodes."""


def step_for(nodes: int, step: int) -> int:
    """The step of BOUNDARIES for so many nodes, coming from ``step``."""
    while nodes > BOUNDARIES[step][1]:
        step += 1
    while nodes < BOUNDARIES[step][0]:
        step -= 1
    return step


class TTLController(Controller):
    name = "ttl-controller"
    max_retries = None

    def __init__(self, env: Environment, *, workers: int = 5) -> None:
        super().__init__(env, workers=workers)
        self._step = 0
        self._count = 0
        self._nodes = self.watch(NODES, self._added, lambda _, new: self._changed(new), self._gone)

    def _added(self, node: Obj) -> None:
        self._count += 1
        self._step = step_for(self._count, self._step)
        self._changed(node)

    def _gone(self, node: Obj) -> None:
        self._count -= 1
        self._step = step_for(self._count, self._step)

    def _changed(self, node: Obj) -> None:
        if self._wanted(node) is not None:
            self.enqueue(node)

    def _wanted(self, node: Obj) -> str | None:
        """The annotation's new value; None: it has it."""
        wanted = str(BOUNDARIES[self._step][2])
        return None if (meta(node).get("annotations") or {}).get(ANNOTATION) == wanted else wanted

    async def sync(self, key: str) -> None:
        node = self._nodes.get(key)
        wanted = self._wanted(node) if node is not None else None
        if wanted is not None:
            patch = {"metadata": {"annotations": {ANNOTATION: wanted}}}
            await self.client.patch(NODES, key, patch, "application/strategic-merge-patch+json")
