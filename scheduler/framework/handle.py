"""What a plugin is given when it is made (upstream's framework.Handle)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pilothouse.scheduler.framework.affinity_terms import NamespaceLabels

if TYPE_CHECKING:
    from random import Random

    from pilothouse.apimachinery.clock import Clock
    from pilothouse.apimachinery.schema import GroupVersionResource
    from pilothouse.componentbase.activity import ActivityTracker
    from pilothouse.kubeclient.cache.factory import SharedInformerFactory
    from pilothouse.kubeclient.cache.informer import SharedInformer
    from pilothouse.kubeclient.interfaces import Client
    from pilothouse.scheduler.cache.node_info import NodeInfo
    from pilothouse.scheduler.framework.pod_info import PodInfo


@dataclass(slots=True)
class Handle:
    client: Client
    informers: SharedInformerFactory
    clock: Clock
    random: Random
    activity: ActivityTracker
    nodes: Callable[[], Sequence[NodeInfo]]
    """The nodes as the current scheduling cycle sees them."""
    namespace_labels: NamespaceLabels
    used: list[SharedInformer] = field(default_factory=list)
    """Informers that plugins read: the scheduler starts when they have synced."""

    namespaces_version: int = 0
    """Grows when a namespace's labels may have changed."""
    volumes: Any = None
    """The volume plugins share one ``volume_lister.VolumeLister``."""
    device_classes: Any = None
    """Plugins share one ``extended_resources.ExtendedClasses``."""
    tell: Callable[[PodInfo, str, str, str, str], None] | None = None
    """Writes an event: (pod, type, reason, action, note)."""

    def informer(self, resource: GroupVersionResource) -> SharedInformer:
        informer = self.informers.informer(resource)
        if informer not in self.used:
            self.used.append(informer)
        return informer
