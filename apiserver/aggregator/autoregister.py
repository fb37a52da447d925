"""Keeps an APIService for each group version that this server serves itself.

``decide`` is upstream's table (autoregister_controller.go ``checkAPIService``): those of the
built-in groups are put right once, when the server starts; those of CRDs for as long as it runs,
and they go when their group version goes. What users have taken out of our hands (no
``automanaged`` label) stays as it is.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Literal

from pilothouse.apimachinery.errors import (
    StatusError,
    is_already_exists,
    is_conflict,
    is_not_found,
)
from pilothouse.apimachinery.object import copy_object
from pilothouse.apimachinery.timefmt import format_time
from pilothouse.apiserver.aggregator.api_service import (
    API_SERVICES,
    LOCAL,
    service_reference,
    with_verdict,
)
from pilothouse.apiserver.aggregator.priorities import (
    ALWAYS,
    MANAGED_LABEL,
    METRICS,
    ON_START,
    local_api_service,
)
from pilothouse.kubeclient.interfaces import DeleteOptions
from pilothouse.kubeclient.workqueue.queue import WorkQueue

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from pilothouse.apimachinery.object import Obj
    from pilothouse.apiserver.server import APIServer
    from pilothouse.kubeclient.interfaces import Client

log = logging.getLogger(__name__)

Action = Literal["", "create", "update", "delete"]


def managed(api_service: Obj | None) -> str:
    if api_service is None:
        return ""
    label: str = (api_service["metadata"].get("labels") or {}).get(MANAGED_LABEL, "")
    return label


def decide(desired: Obj | None, current: Obj | None, *, at_start: bool, has_synced: bool) -> Action:
    """``at_start``: ``current`` was there when we started. ``has_synced``: once already."""
    if current is None and desired is None:
        return ""
    if managed(desired) == ON_START and has_synced:
        return ""
    if current is None:
        return "create"
    label = managed(current)
    if label not in (ON_START, ALWAYS):
        return ""
    if label == ON_START and (not at_start or has_synced):
        return ""
    if desired is None:
        return "delete"
    if desired["spec"].get("group") == METRICS and service_reference(current) is not None:
        # A metrics server was installed over ours: it stays.
        return ""
    return "" if _spec(current) == _spec(desired) else "update"


def _spec(api_service: Obj) -> Obj:
    return {key: value for key, value in api_service["spec"].items() if value not in ("", None)}


class AutoRegister:
    """``current`` finds an APIService by name, ``at_start`` are the names of those there are."""

    def __init__(
        self,
        server: APIServer,
        client: Client,
        current: Callable[[str], Obj | None],
        at_start: Iterable[str],
    ) -> None:
        self._server = server
        self._client = client
        self._current = current
        self._desired: dict[str, Obj] = {}
        self._at_start = frozenset(at_start)
        self._synced: set[str] = set()
        self._queue: WorkQueue[str] = WorkQueue("autoregister", server.clock, server.activity)

    def start(self) -> None:
        self._server.registry.on_change(self._refresh)
        self._refresh()
        for name in self._at_start:
            self._queue.add(name)
        self._server.tasks.start(self._work(), "autoregister")

    def stop(self) -> None:
        self._queue.shut_down()
        self._queue.clear()

    def changed(self, name: str) -> None:
        """The APIService ``name`` has been written or deleted."""
        if not self._is_settled(name):
            self._queue.add(name)

    def _is_settled(self, name: str) -> bool:
        """Nothing is to be done, which is so for nearly all events of a start."""
        if name not in self._synced or managed(self._desired.get(name)) != ON_START:
            return False
        current = self._current(name)
        return current is None or self._local_status(current) is None

    def _local_status(self, current: Obj) -> Obj | None:
        """``current`` with the condition of local APIServices, if it has another one."""
        if service_reference(current) is not None:
            return None
        return with_verdict(current, LOCAL, format_time(self._server.clock.now()))

    def pending(self) -> list[str]:
        """Names that have not been put right since the start."""
        return sorted(set(self._desired) - self._synced)

    def _refresh(self) -> None:
        wanted: dict[str, Obj] = {}
        for served in self._server.registry.all():
            row = served.resource
            made = local_api_service(row.group, row.version, custom=row.custom)
            if made is not None:
                wanted.setdefault(made["metadata"]["name"], made)
        old, self._desired = self._desired, wanted
        for name in {**old, **wanted}:
            if old.get(name) != wanted.get(name):
                self._queue.add(name)

    async def _work(self) -> None:
        queue = self._queue
        while (name := await queue.get()) is not None:
            try:
                await self._sync(name)
                queue.forget(name)
            except StatusError as error:
                log.warning("APIService %s: %s", name, error)
                queue.add_rate_limited(name)
            finally:
                queue.done(name)

    async def _sync(self, name: str) -> None:
        desired, current = self._desired.get(name), self._current(name)
        action = decide(
            desired, current, at_start=name in self._at_start, has_synced=name in self._synced
        )
        try:
            if action == "create" and desired is not None:
                await self._client.create(API_SERVICES, desired)
            elif action == "delete" and current is not None:
                uid = current["metadata"].get("uid") or ""
                options = DeleteOptions(precondition_uid=uid)
                await self._client.delete(API_SERVICES, name, options=options)
            elif action == "update" and current is not None and desired is not None:
                changed = {**copy_object(current), "spec": desired["spec"]}
                await self._client.update(API_SERVICES, changed)
            elif current is not None:
                status = self._local_status(current)
                if status is not None:
                    await self._client.update(API_SERVICES, status, subresource="status")
        except StatusError as error:
            # Others were quicker: their write brings us back here.
            if not (is_already_exists(error) or is_not_found(error) or is_conflict(error)):
                raise
        self._synced.add(name)
