"""All informers of one process, each resource followed once."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from pilothouse.componentbase.tasks import TaskOwner
from pilothouse.kubeclient.cache.informer import SharedInformer

if TYPE_CHECKING:
    from random import Random

    from pilothouse.apimachinery.clock import Clock
    from pilothouse.apimachinery.schema import GroupVersionResource
    from pilothouse.componentbase.activity import ActivityTracker
    from pilothouse.kubeclient.interfaces import Client

_Key = tuple["GroupVersionResource", str, str, str]


class SharedInformerFactory:
    """Makes informers on first use and runs them.

    A component asks for its informers, adds handlers, calls ``start`` (which starts those that
    do not run yet, so every component calls it) and awaits ``wait_synced``.
    """

    def __init__(
        self, client: Client, clock: Clock, random: Random, activity: ActivityTracker
    ) -> None:
        self._client = client
        self._clock = clock
        self._random = random
        self._activity = activity
        self._informers: dict[_Key, SharedInformer] = {}
        self._running: set[_Key] = set()
        self._tasks = TaskOwner("informers")
        self._probe = f"informers/{id(self)}"
        activity.add_probe(self._probe, self._pending)

    def informer(
        self,
        resource: GroupVersionResource,
        namespace: str = "",
        field_selector: str = "",
        label_selector: str = "",
    ) -> SharedInformer:
        """The informer of exactly this selection; the same object for all who ask."""
        key = (resource, namespace, field_selector, label_selector)
        informer = self._informers.get(key)
        if informer is None:
            informer = self._informers[key] = SharedInformer(
                self._client,
                resource,
                clock=self._clock,
                random=self._random,
                activity=self._activity,
                namespace=namespace,
                label_selector=label_selector,
                field_selector=field_selector,
            )
        return informer

    def existing(self, resource: GroupVersionResource) -> SharedInformer | None:
        """The informer of all objects of ``resource`` if somebody has asked for one."""
        return self._informers.get((resource, "", "", ""))

    def start(self) -> None:
        """Runs every informer that does not run yet."""
        for key, informer in self._informers.items():
            if key not in self._running:
                self._running.add(key)
                self._tasks.start(informer.run(), str(key[0].group_resource))

    async def wait_synced(self, informers: Iterable[SharedInformer] | None = None) -> None:
        """Until the given ones (all, when None) hold their first complete set."""
        for informer in list(self._informers.values() if informers is None else informers):
            await informer.wait_synced()

    async def stop(self) -> None:
        """Ends all watches. The stores keep what they had."""
        await self._tasks.close()
        self._activity.remove_probe(self._probe)

    def _pending(self) -> bool:
        return any(informer.pending for informer in self._informers.values())
