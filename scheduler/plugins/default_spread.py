"""Default topology spread: constraints for pods that have none of their own.

They are about the pods that belong together: those of the Services that select the pod and of its
ReplicaSet, StatefulSet or ReplicationController (plugins/helper/spread.go).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pilothouse.apimachinery.labels import (
    Selector,
    selector_from_label_selector,
    selector_from_map,
)
from pilothouse.apimachinery.object import Obj, controller_of, get_nested
from pilothouse.kubeclient.resources import (
    REPLICA_SETS,
    REPLICATION_CONTROLLERS,
    SERVICES,
    STATEFUL_SETS,
)
from pilothouse.scheduler.framework.handle import Handle
from pilothouse.scheduler.framework.pod_info import PodInfo

SYSTEM_DEFAULTS: tuple[Obj, ...] = (
    {
        "topologyKey": "kubernetes.io/hostname",
        "whenUnsatisfiable": "ScheduleAnyway",
        "maxSkew": 3,
    },
    {
        "topologyKey": "topology.kubernetes.io/zone",
        "whenUnsatisfiable": "ScheduleAnyway",
        "maxSkew": 5,
    },
)
_OWNERS = {"ReplicaSet": REPLICA_SETS, "StatefulSet": STATEFUL_SETS}


@dataclass(frozen=True, slots=True)
class DefaultSpread:
    """``services(namespace)``, ``owner(kind, namespace/name)``: what the cluster holds."""

    constraints: Sequence[Obj]
    system: bool
    services: Callable[[str], Sequence[Obj]]
    owner: Callable[[str, str], Obj | None]

    @staticmethod
    def from_args(handle: Handle, args: Mapping[str, Any]) -> DefaultSpread | None:
        """None: there are no default constraints."""
        system = args.get("defaultingType", "System") == "System"
        constraints = SYSTEM_DEFAULTS if system else tuple(args.get("defaultConstraints") or ())
        if not constraints:
            return None
        services = handle.informer(SERVICES)
        owners = {kind: handle.informer(resource) for kind, resource in _OWNERS.items()}
        owners["ReplicationController"] = handle.informer(REPLICATION_CONTROLLERS)
        return DefaultSpread(
            constraints,
            system,
            services.list,
            lambda kind, key: owners[kind].get(key) if kind in owners else None,
        )

    def selector(self, pod: PodInfo) -> Selector | None:
        """Whom the pod is to be spread from; None: from nobody."""
        labels: dict[str, str] = {}
        for service in self.services(pod.namespace):
            chosen = get_nested(service, "spec", "selector")
            if chosen and all(pod.labels.get(key) == value for key, value in chosen.items()):
                labels |= chosen
        reference = controller_of(pod.obj)
        owner = None
        if reference is not None:
            key = f"{pod.namespace}/{reference.get('name')}"
            owner = self.owner(reference.get("kind") or "", key)
        selector = selector_from_map(labels)
        if owner is not None:
            chosen = get_nested(owner, "spec", "selector")
            if owner.get("kind") == "ReplicationController":
                selector = selector_from_map({**labels, **(chosen or {})})
            elif chosen:
                selector = selector.add(*selector_from_label_selector(chosen).requirements)
        return None if selector.empty else selector
