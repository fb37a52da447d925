"""Pods that preemption has promised a node to: other pods must leave room for them."""

from __future__ import annotations

from collections.abc import Iterable

from pilothouse.scheduler.framework.pod_info import PodInfo


class Nominator:
    """Pure state: node name -> nominated pods, by uid."""

    def __init__(self) -> None:
        self._by_node: dict[str, dict[str, PodInfo]] = {}
        self._node_of: dict[str, str] = {}

    def set(self, pod: PodInfo, node_name: str) -> None:
        """Nominates the pod to ``node_name``; empty: takes the nomination back."""
        self.remove(pod.uid)
        if node_name:
            self._by_node.setdefault(node_name, {})[pod.uid] = pod
            self._node_of[pod.uid] = node_name

    def remove(self, uid: str) -> None:
        node_name = self._node_of.pop(uid, None)
        if node_name is not None:
            pods = self._by_node[node_name]
            del pods[uid]
            if not pods:
                del self._by_node[node_name]

    def node_of(self, uid: str) -> str:
        return self._node_of.get(uid, "")

    def nodes(self) -> Iterable[str]:
        """Those that somebody is nominated to."""
        return self._by_node

    def on_node(self, node_name: str) -> list[PodInfo]:
        pods = self._by_node.get(node_name)
        return list(pods.values()) if pods else []
