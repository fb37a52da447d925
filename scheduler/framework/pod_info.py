"""A pod with everything the plugins ask again and again, computed once.

Quantities are integers: cpu in milli, all else in units (bytes, counts).
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from pilothouse.apimachinery.object import Obj, object_key
from pilothouse.apis.core.resource_requests import pod_requests

Requests = dict[str, int]
NON_ZERO_REQUESTS = {"cpu": "100m", "memory": "200Mi"}
"""Assumed by scoring for containers that request nothing (util/pod_resources.go)."""


class PodInfo:
    """Immutable view of one version of a pod."""

    __slots__ = (
        "_memo",
        "key",
        "labels",
        "name",
        "namespace",
        "non_zero_cpu",
        "non_zero_memory",
        "obj",
        "ports",
        "priority",
        "requests",
        "tolerations",
        "uid",
    )

    def __init__(self, pod: Obj) -> None:
        metadata, spec = pod["metadata"], pod["spec"]
        self.obj = pod
        self.key = object_key(pod)
        self.namespace: str = metadata.get("namespace") or ""
        self.name: str = metadata["name"]
        self.uid: str = metadata.get("uid") or self.key
        self.labels: dict[str, str] = metadata.get("labels") or {}
        self.priority: int = spec.get("priority") or 0
        self.tolerations: list[Obj] = spec.get("tolerations") or []
        self.requests = integer_requests(pod)
        scoring = integer_requests(pod, scoring=True)
        self.non_zero_cpu = scoring.get("cpu", 0)
        self.non_zero_memory = scoring.get("memory", 0)
        self.ports = host_ports(spec)
        self._memo: dict[str, Any] = {}

    @property
    def node_name(self) -> str:
        return self.obj["spec"].get("nodeName") or ""

    @property
    def nominated_node_name(self) -> str:
        return (self.obj.get("status") or {}).get("nominatedNodeName") or ""

    @property
    def deleting(self) -> bool:
        return "deletionTimestamp" in self.obj["metadata"]

    @property
    def label_group(self) -> tuple[str, frozenset[tuple[str, str]]]:
        """Namespace and labels: selectors see no difference between pods of one group."""
        group: tuple[str, frozenset[tuple[str, str]]] | None = self._memo.get("LabelGroup")
        if group is None:
            group = self._memo["LabelGroup"] = self.namespace, frozenset(self.labels.items())
        return group

    def same_for_others(self, other: PodInfo) -> bool:
        """Whether a node and the pods that are to be scheduled see no difference between these
        two versions of one pod."""
        same = (
            self.labels == other.labels
            and self.requests == other.requests
            and self.non_zero_cpu == other.non_zero_cpu
            and self.non_zero_memory == other.non_zero_memory
            and self.ports == other.ports
            and self.deleting == other.deleting
            and self.obj["spec"].get("affinity") == other.obj["spec"].get("affinity")
        )
        if same and "PodTerms" in other._memo:
            self._memo["PodTerms"] = other._memo["PodTerms"]
        return same

    def memo(self, name: str, make: Any) -> Any:
        """A plugin's compiled form of this pod, made once: ``make(pod object)``."""
        try:
            return self._memo[name]
        except KeyError:
            value = self._memo[name] = make(self.obj)
            return value

    def __repr__(self) -> str:
        return f"PodInfo({self.key})"


def integer_requests(pod: Obj, *, scoring: bool = False) -> Requests:
    """Effective requests (init, sidecar and overhead rules applied; in the middle of a resize the
    larger of old and new). ``scoring``: containers that request nothing count as small. Shared by
    pods of a kind: don't change it."""
    plain = _plain_requests(pod)
    if plain is not None:
        return _sum_of_plain(plain, scoring)
    return _general_requests(pod, scoring)


_Plain = tuple[tuple[tuple[str, str], ...], ...]
_NONE: Obj = {}
_BESIDES = ("resources", "allocatedResources", "initContainerStatuses")


def _plain_requests(pod: Obj) -> _Plain | None:
    """What each container requests, when that is all there is to know: nearly always."""
    spec, status = pod["spec"], pod.get("status") or _NONE
    if spec.get("initContainers") or spec.get("overhead") or spec.get("resources"):
        return None
    if any(status.get(key) for key in _BESIDES):
        return None
    wanted = {}
    for container in spec.get("containers") or ():
        wanted[container["name"]] = (container.get("resources") or _NONE).get("requests") or _NONE
    for each in status.get("containerStatuses") or ():
        own = wanted.get(each["name"], _NONE)
        for given in (
            each.get("allocatedResources"),
            (each.get("resources") or _NONE).get("requests"),
        ):
            if given is not None and given != own:
                return None
    if any(c["type"] == "PodResizePending" for c in status.get("conditions") or ()):
        return None
    return tuple(tuple(requests.items()) for requests in wanted.values())


@lru_cache(maxsize=4096)
def _sum_of_plain(plain: _Plain, scoring: bool) -> Requests:
    containers = [{"name": "", "resources": {"requests": dict(items)}} for items in plain]
    return _general_requests({"spec": {"containers": containers}}, scoring)


def _general_requests(pod: Obj, scoring: bool) -> Requests:
    requests = pod_requests(
        pod, use_status=True, non_missing=NON_ZERO_REQUESTS if scoring else None
    )
    return {
        name: quantity.milli_value() if name == "cpu" else quantity.value()
        for name, quantity in requests.items()
    }


def host_ports(spec: Obj) -> tuple[tuple[str, str, int], ...]:
    """(ip, protocol, port) of each host port that the pod takes."""
    ports = []
    containers = list(spec.get("containers") or ())
    containers += [
        c for c in spec.get("initContainers") or () if c.get("restartPolicy") == "Always"
    ]
    for container in containers:
        for port in container.get("ports") or ():
            if port.get("hostPort"):
                ports.append(
                    (
                        port.get("hostIP") or "0.0.0.0",
                        port.get("protocol") or "TCP",
                        port["hostPort"],
                    )
                )
    return tuple(ports)
