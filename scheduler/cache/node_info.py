"""A node with the pods on it, and what is left of it (framework/types.go NodeInfo)."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

from pilothouse.apimachinery.object import Obj
from pilothouse.apimachinery.quantity import Quantity
from pilothouse.scheduler.framework.affinity_terms import has_pod_affinity
from pilothouse.scheduler.framework.pod_info import PodInfo, Requests

Port = tuple[str, str, int]
LabelGroup = tuple[str, dict[str, str], int]
"""(namespace, labels, how many pods have just these)"""


class NodeInfo:
    """Sums are kept up to date by :meth:`add_pod` and :meth:`remove_pod`.

    ``generation`` grows with each change, so that a snapshot copies only what changed.
    """

    __slots__ = (
        "affinity_pods",
        "allocatable",
        "generation",
        "images",
        "index",
        "label_groups",
        "labels",
        "name",
        "non_zero_cpu",
        "non_zero_memory",
        "obj",
        "pods",
        "ports",
        "requested",
        "taints",
        "unschedulable",
    )

    def __init__(self, name: str) -> None:
        self.name = name
        self.obj: Obj | None = None
        self.labels: dict[str, str] = {}
        self.taints: list[Obj] = []
        self.unschedulable = False
        self.allocatable: Requests = {}
        self.images: dict[str, int] = {}
        self.pods: dict[str, PodInfo] = {}
        self.affinity_pods: dict[str, PodInfo] = {}
        self.label_groups: dict[Hashable, LabelGroup] = {}
        """The pods that stay, by ``PodInfo.label_group``."""
        self.requested: Requests = {}
        self.non_zero_cpu = 0
        self.non_zero_memory = 0
        self.ports: dict[Port, int] = {}
        self.generation = 0
        self.index = -1
        """The place in the cache's list of nodes."""

    def set_node(self, node: Obj | None) -> None:
        """Takes over a version of the Node object; None when it is gone (pods may remain)."""
        self.generation += 1
        self.obj = node
        spec: dict[str, Any] = (node or {}).get("spec") or {}
        status: dict[str, Any] = (node or {}).get("status") or {}
        self.labels = ((node or {}).get("metadata") or {}).get("labels") or {}
        self.taints = spec.get("taints") or []
        self.unschedulable = bool(spec.get("unschedulable"))
        self.allocatable = _integers(status.get("allocatable") or {})
        self.images = {
            name: image.get("sizeBytes") or 0
            for image in status.get("images") or ()
            for name in image.get("names") or ()
        }

    def add_pod(self, pod: PodInfo) -> None:
        self.pods[pod.uid] = pod
        if has_pod_affinity(pod.obj):
            self.affinity_pods[pod.uid] = pod
        self._account(pod, 1)

    def remove_pod(self, uid: str) -> PodInfo | None:
        pod = self.pods.pop(uid, None)
        self.affinity_pods.pop(uid, None)
        if pod is not None:
            self._account(pod, -1)
        return pod

    def replace_pod(self, pod: PodInfo) -> bool:
        """Takes over a new version of a pod that is here, if for scheduling it is the same: then
        the node has not changed. False: nothing was done."""
        known = self.pods.get(pod.uid)
        if known is None or not pod.same_for_others(known):
            return False
        self.pods[pod.uid] = pod
        if pod.uid in self.affinity_pods:
            self.affinity_pods[pod.uid] = pod
        return True

    def _account(self, pod: PodInfo, sign: int) -> None:
        self.generation += 1
        if not pod.deleting:
            self._count_labels(pod, sign)
        requested = self.requested
        for name, amount in pod.requests.items():
            requested[name] = requested.get(name, 0) + sign * amount
        self.non_zero_cpu += sign * pod.non_zero_cpu
        self.non_zero_memory += sign * pod.non_zero_memory
        for port in pod.ports:
            left = self.ports.get(port, 0) + sign
            if left:
                self.ports[port] = left
            else:
                self.ports.pop(port, None)

    def _count_labels(self, pod: PodInfo, sign: int) -> None:
        groups, key = self.label_groups, pod.label_group
        known = groups.get(key)
        count = sign if known is None else known[2] + sign
        if count:
            groups[key] = (pod.namespace, pod.labels, count)
        else:
            groups.pop(key, None)

    def copy(self) -> NodeInfo:
        """For what-if runs; the pods themselves are shared."""
        other = NodeInfo.__new__(NodeInfo)
        for slot in NodeInfo.__slots__:
            setattr(other, slot, getattr(self, slot))
        other.pods = dict(self.pods)
        other.affinity_pods = dict(self.affinity_pods)
        other.label_groups = dict(self.label_groups)
        other.requested = dict(self.requested)
        other.ports = dict(self.ports)
        return other

    def __repr__(self) -> str:
        return f"NodeInfo({self.name}, {len(self.pods)} pods)"


def _integers(quantities: dict[str, Any]) -> Requests:
    result = {}
    for name, text in quantities.items():
        quantity = Quantity.parse(text)
        result[name] = quantity.milli_value() if name == "cpu" else quantity.value()
    return result
