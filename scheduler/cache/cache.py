"""What the scheduler believes about nodes: informer state plus its own assumed bindings.

A pod is *assumed* on a node from the decision until the informer confirms the binding or
``forget`` takes it back; so that the next decision sees it. Pure state, no I/O.
"""

from __future__ import annotations

from pilothouse.apimachinery.object import Obj, name_of
from pilothouse.scheduler.cache.node_info import NodeInfo
from pilothouse.scheduler.cache.node_list import Changes, NodeList
from pilothouse.scheduler.framework.pod_info import PodInfo


class SchedulerCache:
    def __init__(self) -> None:
        self._nodes: dict[str, NodeInfo] = {}
        self._where: dict[str, str] = {}
        """uid -> node of every pod that is assumed or bound."""
        self._assumed: set[str] = set()
        self._changes = Changes()
        self._listed: list[NodeInfo] = []
        self._order: NodeList | None = None

    def nodes(self) -> NodeList:
        """Nodes that exist, in the order in which they came. The list is replaced, never changed;
        the nodes in it live on."""
        if self._order is None:
            self._order = NodeList(self._listed, self._changes, self.node)
        return self._order

    def sizes(self) -> dict[str, int]:
        """How much of what it holds; for metrics."""
        return {
            "nodes": len(self._listed),
            "pods": len(self._where),
            "assumed_pods": len(self._assumed),
        }

    def node(self, name: str) -> NodeInfo | None:
        node = self._nodes.get(name)
        return node if node is not None and node.obj is not None else None

    def set_node(self, node: Obj) -> None:
        info = self._node(name_of(node))
        if info.obj is None:
            self._order = None
            info.index = len(self._listed)
            self._listed.append(info)
        self._changes.count_images(info.images, -1)
        info.set_node(node)
        self._changes.count_images(info.images, 1)
        self._changes.note(info)

    def remove_node(self, name: str) -> None:
        info = self._nodes.get(name)
        if info is None:
            return
        if info.obj is not None:
            self._order = None
            self._listed.remove(info)
            self._changes.renumber(self._listed)
            self._changes.count_images(info.images, -1)
            self._changes.forget(info)
        info.set_node(None)
        if not info.pods:
            del self._nodes[name]

    def assume(self, pod: PodInfo, node_name: str) -> None:
        """:raises KeyError: the pod is on a node already."""
        if pod.uid in self._where:
            raise KeyError(f"pod {pod.key} is already on {self._where[pod.uid]}")
        self._put(pod, node_name)
        self._assumed.add(pod.uid)

    def forget(self, pod: PodInfo) -> None:
        """Takes back an assumption (binding failed). A confirmed pod stays."""
        if pod.uid in self._assumed:
            self._take(pod.uid)

    def is_assumed(self, uid: str) -> bool:
        return uid in self._assumed

    def add_pod(self, pod: PodInfo) -> None:
        """The informer shows ``pod`` bound (added, updated or confirmed)."""
        node_name = pod.node_name
        if self._where.get(pod.uid) == node_name and self._nodes[node_name].replace_pod(pod):
            self._assumed.discard(pod.uid)
            return
        self._take(pod.uid)
        self._put(pod, node_name)

    def remove_pod(self, uid: str) -> None:
        self._take(uid)

    def _put(self, pod: PodInfo, node_name: str) -> None:
        info = self._node(node_name)
        info.add_pod(pod)
        self._changes.note(info)
        self._where[pod.uid] = node_name

    def _take(self, uid: str) -> None:
        self._assumed.discard(uid)
        name = self._where.pop(uid, None)
        if name is None:
            return
        info = self._nodes[name]
        info.remove_pod(uid)
        self._changes.note(info)
        if info.obj is None and not info.pods:
            del self._nodes[name]

    def _node(self, name: str) -> NodeInfo:
        info = self._nodes.get(name)
        if info is None:
            info = self._nodes[name] = NodeInfo(name)
        return info
