"""Follows one resource of a client: list or WatchList, then watch, for ever.

Whoever wants the objects gives a :class:`ReflectorSink`; ``cache.informer`` is one. Rules are
client-go's: WatchList first and list + watch when that fails, 410 means relist, a broken
watch resumes at the last resourceVersion, failures wait 800 ms doubling up to 30 s.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Protocol

from pilothouse.apimachinery.errors import StatusError, is_expired
from pilothouse.apimachinery.object import Obj, meta
from pilothouse.kubeclient.interfaces import ListOptions

if TYPE_CHECKING:
    from collections.abc import Sequence
    from random import Random

    from pilothouse.apimachinery.clock import Clock
    from pilothouse.apimachinery.schema import GroupVersionResource
    from pilothouse.componentbase.activity import ActivityTracker
    from pilothouse.kubeclient.interfaces import Client, Watch, WatchEvent

log = logging.getLogger(__name__)

INITIAL_EVENTS_END = "k8s.io/initial-events-end"
BACKOFF_INITIAL = 0.8
BACKOFF_FACTOR = 2.0
BACKOFF_CAP = 30.0
BACKOFF_RESET = 120.0
MIN_WATCH_TIMEOUT = 300
PAGE_SIZE = 500
VERY_SHORT_WATCH = 1.0
_WATCH_ENDED = "the watch ended before the initial events were complete"


class ReflectorSink(Protocol):
    """Where the objects go. Both calls are synchronous and must not fail."""

    def replace(self, objects: list[Obj], resource_version: str) -> None:
        """These are all the objects there are."""
        ...

    def apply(self, events: Sequence[WatchEvent]) -> None:
        """Changes in order; bookmarks are already taken out."""
        ...


class Reflector:
    """Keeps a sink up to date. ``run`` never returns; cancel it to stop."""

    def __init__(
        self,
        client: Client,
        resource: GroupVersionResource,
        sink: ReflectorSink,
        *,
        clock: Clock,
        random: Random,
        activity: ActivityTracker,
        namespace: str = "",
        label_selector: str = "",
        field_selector: str = "",
    ) -> None:
        self.resource = resource
        self.last_error: Exception | None = None
        """Why the last round failed; None while it follows."""
        self._client = client
        self._sink = sink
        self._clock = clock
        self._random = random
        self._activity = activity
        self._namespace = namespace
        self._label_selector = label_selector
        self._field_selector = field_selector
        self._resource_version = ""
        self._synced = False
        self._relist = True
        self._watch: Watch | None = None
        self._backoff = BACKOFF_INITIAL
        self._last_failure = float("-inf")
        self._name = f"reflector/{resource.group_resource}"

    @property
    def resource_version(self) -> str:
        return self._resource_version

    @property
    def pending(self) -> bool:
        """Whether the transport holds events that the sink has not seen yet."""
        return bool(getattr(self._watch, "pending", False))

    async def run(self) -> None:
        while True:
            await self.step()

    async def step(self) -> None:
        """One round: (re)list when needed and follow the watch until it ends."""
        failure: Exception | None = None
        try:
            if self._relist:
                with self._activity.work(self._name):
                    watch = await self._list_or_watch_list()
            else:
                watch = await self._open_watch()
            await self._follow(watch)
        except (StatusError, ConnectionError, TimeoutError) as error:
            failure = error
        finally:
            await self._close_watch()
        self.last_error = failure
        if failure is not None:
            await self._recover(failure)

    async def _recover(self, error: Exception) -> None:
        if is_expired(error) or _too_large_resource_version(error):
            retry_now = bool(self._resource_version)
            self._relist, self._resource_version = True, ""
            if retry_now:
                return
        elif isinstance(error, StatusError):
            log.debug("watch of %s failed: %s", self.resource.group_resource, error)
            if error.code not in (429, 500, 503, 504):
                self._relist = True
        await self._back_off()

    async def _back_off(self) -> None:
        now = self._clock.monotonic()
        if now - self._last_failure > BACKOFF_RESET:
            self._backoff = BACKOFF_INITIAL
        self._last_failure = now
        delay = self._backoff * (1 + self._random.random())
        self._backoff = min(self._backoff * BACKOFF_FACTOR, BACKOFF_CAP)
        await self._clock.sleep(min(delay, BACKOFF_CAP))

    def _options(self, **more: str | int) -> ListOptions:
        return ListOptions(
            label_selector=self._label_selector,
            field_selector=self._field_selector,
            **more,  # type: ignore[arg-type]
        )

    def _watch_timeout(self) -> int:
        return int(MIN_WATCH_TIMEOUT * (1 + self._random.random()))

    async def _list_or_watch_list(self) -> _OpenWatch:
        try:
            return await self._watch_list()
        except StatusError as error:
            if is_expired(error) or _too_large_resource_version(error) or error.code == 429:
                raise
            await self._close_watch()
            log.debug("no WatchList for %s: %s", self.resource.group_resource, error)
        await self._list()
        return await self._open_watch()

    async def _watch_list(self) -> _OpenWatch:
        """Reads the initial events up to their closing bookmark; the watch goes on from there."""
        watch = await self._client.watch(
            self.resource,
            self._namespace,
            self._options(
                resource_version=self._resource_version, resource_version_match="NotOlderThan"
            ),
            send_initial_events=True,
            timeout_seconds=self._watch_timeout(),
        )
        self._watch = watch
        opened = _OpenWatch(watch, self._clock.monotonic())
        objects: dict[tuple[str, str], Obj] = {}
        async for batch in opened.batches:
            for position, event in enumerate(batch):
                metadata = meta(event.object)
                if event.type == "BOOKMARK":
                    if (metadata.get("annotations") or {}).get(INITIAL_EVENTS_END) == "true":
                        self._replaced(list(objects.values()), metadata["resourceVersion"])
                        opened.seen = True
                        self._apply(batch[position + 1 :])
                        return opened
                elif event.type == "DELETED":
                    objects.pop((metadata.get("namespace", ""), metadata["name"]), None)
                else:
                    objects[(metadata.get("namespace", ""), metadata["name"])] = event.object
        raise ConnectionError(_WATCH_ENDED)

    async def _list(self) -> None:
        first = self._resource_version or ("" if self._synced else "0")
        page = await self._client.list(
            self.resource,
            self._namespace,
            self._options(resource_version=first, limit=PAGE_SIZE if first in ("", "0") else 0),
        )
        objects = list(page.items)
        while page.continue_token:
            try:
                page = await self._client.list(
                    self.resource,
                    self._namespace,
                    self._options(limit=PAGE_SIZE, continue_token=page.continue_token),
                )
            except StatusError as error:
                if not is_expired(error):
                    raise
                page = await self._client.list(self.resource, self._namespace, self._options())
                objects = []
            objects.extend(page.items)
        self._replaced(objects, page.resource_version)

    def _replaced(self, objects: list[Obj], resource_version: str) -> None:
        self._sink.replace(objects, resource_version)
        self._resource_version = resource_version
        self._synced = True
        self._relist = False

    async def _open_watch(self) -> _OpenWatch:
        self._watch = await self._client.watch(
            self.resource,
            self._namespace,
            self._options(resource_version=self._resource_version),
            timeout_seconds=self._watch_timeout(),
        )
        return _OpenWatch(self._watch, self._clock.monotonic())

    async def _follow(self, opened: _OpenWatch) -> None:
        async for batch in opened.batches:
            opened.seen = True
            self._apply(batch)
        if not opened.seen and self._clock.monotonic() - opened.since < VERY_SHORT_WATCH:
            raise ConnectionError("very short watch: it ended at once without an event")

    def _apply(self, batch: list[WatchEvent]) -> None:
        """Hands a batch on; the position moves only once the sink has it."""
        if not batch:
            return
        last = batch[-1].object
        if any(event.type == "BOOKMARK" for event in batch):
            batch = [event for event in batch if event.type != "BOOKMARK"]
        if batch:
            self._sink.apply(batch)
        self._resource_version = meta(last).get("resourceVersion") or self._resource_version

    async def _close_watch(self) -> None:
        watch, self._watch = self._watch, None
        if watch is not None:
            await watch.close()


class _OpenWatch:
    """A watch with its one iterator (initial events and changes come through the same)."""

    def __init__(self, watch: Watch, since: float) -> None:
        self.batches = watch.__aiter__()
        self.since = since
        self.seen = False


def _too_large_resource_version(error: Exception) -> bool:
    return isinstance(error, StatusError) and error.has_cause("ResourceVersionTooLarge")
