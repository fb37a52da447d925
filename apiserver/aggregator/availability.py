"""Whether remote APIServices are available (remote_available_controller.go).

Woken by changes of APIServices, Services and EndpointSlices; what no watch tells (an extension
server that has stopped answering) is looked at every 30 seconds. What objects say is judged in
``api_service.endpoints_problem``; the rest is a request for the group version's discovery.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from pilothouse.apimachinery.errors import StatusError, is_conflict, is_not_found
from pilothouse.apimachinery.timefmt import format_time
from pilothouse.apiserver.aggregator.api_service import (
    API_SERVICES,
    PASSED,
    SERVICE_NAME_LABEL,
    Verdict,
    endpoints_problem,
    is_available,
    with_verdict,
)
from pilothouse.apiserver.aggregator.extension import Extension, slices_of
from pilothouse.componentbase.metrics import Counter
from pilothouse.kubeclient.resources import ENDPOINT_SLICES, SERVICES
from pilothouse.kubeclient.workqueue.queue import WorkQueue
from pilothouse.kubeclient.workqueue.rate_limiters import ItemExponentialFailureRateLimiter

if TYPE_CHECKING:
    from collections.abc import Callable

    from pilothouse.apimachinery.object import Obj
    from pilothouse.apiserver.server import APIServer
    from pilothouse.kubeclient.interfaces import Client

log = logging.getLogger(__name__)

JSON = "application/json"
RESYNC = 30.0
ATTEMPTS = 5
DISCOVERY_TIMEOUT = 5.0


class Availability:
    """``extensions`` are the remote APIServices by name, ``current`` the objects."""

    def __init__(
        self,
        server: APIServer,
        client: Client,
        extensions: dict[str, Extension],
        current: Callable[[str], Obj | None],
    ) -> None:
        self._server = server
        self._client = client
        self._extensions = extensions
        self._current = current
        self._queue: WorkQueue[str] = WorkQueue(
            "apiservice-availability",
            server.clock,
            server.activity,
            ItemExponentialFailureRateLimiter(0.005, RESYNC),
        )

        self._unavailable = Counter(
            "aggregator_unavailable_apiservice_total",
            "[ALPHA] Counter of APIServices which are marked as unavailable broken down by "
            "APIService name and reason.",
            ("name", "reason"),
        )
        server.metrics.add(self._unavailable)

    async def start(self) -> None:
        """Follows Services and EndpointSlices from now on."""
        listers = self._server.listers
        services, slices = SERVICES.group_resource, ENDPOINT_SLICES.group_resource
        await listers.ensure(services, slices)
        listers.subscribe(services, self._service_changed)
        listers.subscribe(slices, self._slice_changed)
        for worker in range(2):
            self._server.tasks.start(self._work(), f"apiservice-availability-{worker}")

    def stop(self) -> None:
        self._queue.shut_down()
        self._queue.clear()

    def changed(self, name: str) -> None:
        self._queue.add(name)

    def _service_changed(self, event: str, obj: Obj, old: Obj | None) -> None:
        metadata = obj["metadata"]
        self._touch(metadata.get("namespace", ""), metadata["name"])

    def _slice_changed(self, event: str, obj: Obj, old: Obj | None) -> None:
        metadata = obj["metadata"]
        service = (metadata.get("labels") or {}).get(SERVICE_NAME_LABEL)
        if service:
            self._touch(metadata.get("namespace", ""), service)

    def _touch(self, namespace: str, service: str) -> None:
        for name, extension in self._extensions.items():
            reference = extension.reference
            if (reference.namespace, reference.name) == (namespace, service):
                self._queue.add(name)

    async def _work(self) -> None:
        queue = self._queue
        while (name := await queue.get()) is not None:
            try:
                await self._sync(name)
            except StatusError as error:
                if not is_not_found(error):
                    if not is_conflict(error):
                        log.warning("APIService %s: %s", name, error)
                    queue.add_rate_limited(name)
            except Exception:
                log.exception("availability of APIService %s", name)
                queue.add_rate_limited(name)
            finally:
                queue.done(name)

    async def _sync(self, name: str) -> None:
        extension, api_service = self._extensions.get(name), self._current(name)
        if extension is None or api_service is None:
            self._queue.forget(name)
            return
        reference = extension.reference
        listers = self._server.listers
        service = listers.get(SERVICES.group_resource, reference.namespace, reference.name)
        verdict = endpoints_problem(reference, service, slices_of(listers, reference))
        failed = False
        if verdict is None:
            error = await check_discovery(extension)
            failed = bool(error)
            verdict = Verdict("False", "FailedDiscoveryCheck", error) if error else PASSED
        if self._extensions.get(name) is not extension:
            return  # another spec by now: it has been queued anew
        changed = with_verdict(api_service, verdict, format_time(self._server.clock.now()))
        if changed is not None:
            if is_available(api_service) and verdict.status != "True":
                self._unavailable.inc(name, verdict.reason)
            await self._client.update(API_SERVICES, changed, subresource="status")
        if failed:
            self._queue.add_rate_limited(name)
        else:
            self._queue.forget(name)
            self._queue.add_after(name, RESYNC)


async def check_discovery(extension: Extension) -> str:
    """What is wrong with the extension server's discovery; empty when it answers well.

    A Service's endpoints need not be alike: one good answer is enough.
    """
    try:
        endpoints = extension.endpoints()[:ATTEMPTS]
    except OSError as error:
        return str(error)
    errors = await asyncio.gather(*(_check_once(extension, each) for each in endpoints))
    return "" if "" in errors else errors[-1]


async def _check_once(extension: Extension, endpoint: tuple[str, int]) -> str:
    path = extension.root
    url = f"https://{endpoint[0]}:{endpoint[1]}{path}"
    try:
        status, _, _, _ = await extension.fetch(
            path, {"accept": JSON}, timeout=DISCOVERY_TIMEOUT, endpoint=endpoint
        )
    except (OSError, StatusError) as error:
        reason = str(error) or "context deadline exceeded"
        return f'failing or missing response from {url}: Get "{url}": {reason}'
    if not 200 <= status < 300:
        return f"failing or missing response from {url}: bad status from {url}: {status}"
    return ""
