"""Claims, volumes and classes as the volume plugins see them.

What the scheduler has decided but the API server does not show yet (a volume promised to a claim, a
claim promised to a node) is *assumed*: it hides the informer's version until a newer one arrives.
"""

from __future__ import annotations

from collections.abc import Iterator

from pilothouse.apimachinery.object import Obj, meta, object_key
from pilothouse.apis.core.volume_binding import class_of
from pilothouse.kubeclient.cache.informer import SharedInformer
from pilothouse.kubeclient.resources import (
    CSI_DRIVERS,
    CSI_NODES,
    CSI_STORAGE_CAPACITIES,
    PERSISTENT_VOLUME_CLAIMS,
    PERSISTENT_VOLUMES,
    PODS,
    STORAGE_CLASSES,
    VOLUME_ATTACHMENTS,
)
from pilothouse.scheduler.framework.handle import Handle

BY_CLASS = "volumes by class"


class Assumed:
    """An informer with assumptions on top."""

    def __init__(self, informer: SharedInformer) -> None:
        self.informer = informer
        self._assumed: dict[str, Obj] = {}

    def get(self, key: str) -> Obj | None:
        seen, assumed = self.informer.get(key), self._assumed.get(key)
        if assumed is None:
            return seen
        if seen is not None and meta(seen).get("resourceVersion") == meta(assumed).get(
            "resourceVersion"
        ):
            return assumed
        # Changed or gone since: what is true now counts.
        del self._assumed[key]
        return seen

    def assume(self, obj: Obj) -> None:
        self._assumed[object_key(obj)] = obj

    def restore(self, obj: Obj) -> None:
        self._assumed.pop(object_key(obj), None)


class VolumeLister:
    """One for all volume plugins of a scheduler."""

    def __init__(self, handle: Handle) -> None:
        self.claims = Assumed(handle.informer(PERSISTENT_VOLUME_CLAIMS))
        self.volumes = Assumed(handle.informer(PERSISTENT_VOLUMES))
        self.classes = handle.informer(STORAGE_CLASSES)
        self.csi_nodes = handle.informer(CSI_NODES)
        self.csi_drivers = handle.informer(CSI_DRIVERS)
        self.capacities = handle.informer(CSI_STORAGE_CAPACITIES)
        self.attachments = handle.informer(VOLUME_ATTACHMENTS)
        self.pods = handle.informer(PODS)
        self.volumes.informer.add_index(BY_CLASS, lambda volume: [class_of(volume)])

    def of_class(self, name: str) -> Iterator[Obj]:
        for volume in self.volumes.informer.by_index(BY_CLASS, name):
            current = self.volumes.get(object_key(volume))
            if current is not None:
                yield current


def shared_lister(handle: Handle) -> VolumeLister:
    """The handle's lister, made when the first plugin asks for it."""
    if handle.volumes is None:
        handle.volumes = VolumeLister(handle)
    lister: VolumeLister = handle.volumes
    return lister
