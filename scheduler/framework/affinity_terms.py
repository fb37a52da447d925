"""Pod affinity terms, compiled (framework/types.go AffinityTerm, WeightedAffinityTerm)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from pilothouse.apimachinery.labels import Selector, selector_from_label_selector
from pilothouse.apimachinery.object import Obj, get_nested
from pilothouse.scheduler.framework.pod_info import PodInfo

REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
PREFERRED = "preferredDuringSchedulingIgnoredDuringExecution"

NamespaceLabels = Callable[[str], Mapping[str, str]]
"""Labels of a namespace; empty for one that is not known."""


class AffinityTerm:
    """Which pods a term means, and the node label that makes a domain."""

    __slots__ = ("_namespace_selector", "_namespaces", "selector", "topology_key")

    def __init__(self, own_namespace: str, term: Obj) -> None:
        self.selector: Selector = selector_from_label_selector(term.get("labelSelector"))
        self.topology_key: str = term.get("topologyKey") or ""
        names = term.get("namespaces") or []
        chosen = term.get("namespaceSelector")
        # A selector that is not there selects no namespace, an empty one all of them.
        self._namespace_selector = selector_from_label_selector(chosen)
        self._namespaces = frozenset(names if names or chosen is not None else [own_namespace])

    def matches(self, pod: PodInfo, namespace_labels: NamespaceLabels) -> bool:
        return self.selector.matches(pod.labels) and (
            pod.namespace in self._namespaces
            or self._namespace_selector.matches(namespace_labels(pod.namespace))
        )


class PodTerms:
    """All terms of one pod; ``preferred`` holds weights, negative for anti-affinity."""

    __slots__ = ("affinity", "anti_affinity", "preferred")

    def __init__(self, pod: Obj) -> None:
        self.affinity = _terms(pod, "podAffinity")
        self.anti_affinity = _terms(pod, "podAntiAffinity")
        self.preferred = _weighted(pod, "podAffinity", 1) + _weighted(pod, "podAntiAffinity", -1)


def pod_terms(pod: PodInfo) -> PodTerms:
    """Compiled once for a version of a pod."""
    terms: PodTerms = pod.memo("PodTerms", PodTerms)
    return terms


def has_pod_affinity(pod: Obj) -> bool:
    """Whether the pod has any term, cheaply."""
    affinity = pod["spec"].get("affinity")
    return bool(affinity) and bool(affinity.get("podAffinity") or affinity.get("podAntiAffinity"))


def _terms(pod: Obj, kind: str) -> list[AffinityTerm]:
    namespace = pod["metadata"].get("namespace") or ""
    terms: list[Any] = get_nested(pod, "spec", "affinity", kind, REQUIRED, default=())
    return [AffinityTerm(namespace, term) for term in terms]


def _weighted(pod: Obj, kind: str, sign: int) -> list[tuple[int, AffinityTerm]]:
    namespace = pod["metadata"].get("namespace") or ""
    terms: list[Any] = get_nested(pod, "spec", "affinity", kind, PREFERRED, default=())
    return [
        (sign * term.get("weight", 0), AffinityTerm(namespace, term.get("podAffinityTerm") or {}))
        for term in terms
    ]
