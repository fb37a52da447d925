"""The aggregator of one API server: which group versions are somebody else's.

APIServices → :class:`~.extension.Extension` objects by group version → ``route``, which the API
handler asks when there is at least one. Availability, merged discovery and OpenAPI follow the
same set; their modules are loaded with the first remote APIService, so that a server without one
pays nothing.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from pilothouse.apiserver.aggregator.api_service import (
    API_SERVICES,
    is_available,
    service_reference,
)
from pilothouse.apiserver.aggregator.autoregister import AutoRegister

if TYPE_CHECKING:
    from collections.abc import Awaitable, Iterable

    from pilothouse.apimachinery.object import Obj
    from pilothouse.apiserver.aggregator.availability import Availability
    from pilothouse.apiserver.aggregator.extension import Extension
    from pilothouse.apiserver.aggregator.remote_discovery import RemoteDiscovery, RemoteEntry
    from pilothouse.apiserver.aggregator.remote_openapi import RemoteOpenAPI
    from pilothouse.apiserver.request.context import Request, Response
    from pilothouse.apiserver.server import APIServer
    from pilothouse.kubeclient.workqueue.queue import WorkQueue

log = logging.getLogger(__name__)

USER_AGENT = "kube-apiserver"


class Aggregator:
    """``start`` before requests come in; ``register`` once the server can be written to."""

    def __init__(self, server: APIServer) -> None:
        self.generation = 0
        """Grows when merged discovery changes."""
        self.openapi: RemoteOpenAPI | None = None
        """None as long as there has been no remote APIService."""
        self._server = server
        self._client = server.local_client(user_agent=USER_AGENT)
        self._extensions: dict[str, Extension] = {}
        self._by_version: dict[tuple[str, str], Extension] = {}
        self._autoregister: AutoRegister | None = None
        self._availability: Availability | None = None
        self._discovery: RemoteDiscovery | None = None

    async def start(self) -> None:
        listers = self._server.listers
        await listers.ensure(API_SERVICES.group_resource)
        listers.subscribe(API_SERVICES.group_resource, self._on_event)

    def register(self) -> None:
        """Begins to keep the APIServices of what this server serves itself."""
        names = [
            each["metadata"]["name"]
            for each in self._server.listers.list(API_SERVICES.group_resource)
        ]
        self._autoregister = AutoRegister(self._server, self._client, self._current, names)
        self._autoregister.start()
        if self._server.config.resource_metrics:
            self._server.tasks.start(self._ensure_role(), "metrics-reader")

    async def _ensure_role(self) -> None:
        from pilothouse.apiserver.aggregator.metrics.group import ensure_role

        with self._server.activity.work("metrics-reader"):
            await ensure_role(self._client)

    def stop(self) -> None:
        for part in (self._autoregister, self._availability, self._discovery):
            if part is not None:
                part.stop()

    def queues(self) -> list[WorkQueue[str]]:
        """Of its parts, as far as they are there; for metrics."""
        parts = (self._autoregister, self._availability, self._discovery)
        return [part._queue for part in parts if part is not None]

    def unregistered(self) -> list[str]:
        """Local APIServices that are still to be looked at."""
        return self._autoregister.pending() if self._autoregister is not None else ["all"]

    # -- APIServices ---------------------------------------------------------------------

    def _current(self, name: str) -> Obj | None:
        return self._server.listers.get(API_SERVICES.group_resource, "", name)

    def _on_event(self, event: str, obj: Obj, old: Obj | None) -> None:
        name = obj["metadata"]["name"]
        if event == "DELETED" or service_reference(obj) is None:
            self._drop(name)
        else:
            self._keep(name, obj)
        if self._autoregister is not None:
            self._autoregister.changed(name)

    def _keep(self, name: str, obj: Obj) -> None:
        known = self._extensions.get(name)
        if known is not None and known.spec == obj["spec"]:
            available = is_available(obj)
            if known.available != available:
                known.available = available
                self._changed(name)
            return
        from pilothouse.apiserver.aggregator.extension import Extension

        server = self._server
        extension = Extension(obj, server.config, server.listers, server.random)
        if server.port:
            host = server.config.bind_address
            extension.own_address = (host if host != "0.0.0.0" else "127.0.0.1", server.port)
        self._extensions[name] = extension
        self._by_version[extension.group, extension.version] = extension
        if self._availability is None:
            self._start_following()
        assert self._availability is not None
        self._availability.changed(name)
        self._changed(name)
        server.api.aggregated = self.route

    def _drop(self, name: str) -> None:
        extension = self._extensions.pop(name, None)
        if extension is None:
            return
        del self._by_version[extension.group, extension.version]
        if not self._extensions:
            self._server.api.aggregated = None
        if self._availability is not None:
            self._availability.changed(name)
        self._changed(name)

    def _changed(self, name: str) -> None:
        if self._discovery is not None:
            self._discovery.changed(name)

    def _start_following(self) -> None:
        """There is a remote APIService for the first time."""
        from pilothouse.apiserver.aggregator.availability import Availability
        from pilothouse.apiserver.aggregator.remote_discovery import RemoteDiscovery
        from pilothouse.apiserver.aggregator.remote_openapi import RemoteOpenAPI

        server = self._server
        self.openapi = RemoteOpenAPI(server.clock, self._extensions)
        self._discovery = RemoteDiscovery(server, self._extensions, self._discovery_changed)
        self._discovery.start()
        self._availability = Availability(server, self._client, self._extensions, self._current)
        server.tasks.start(self._availability.start(), "apiservice-availability")

    # -- what others ask -----------------------------------------------------------------

    def _discovery_changed(self) -> None:
        self.generation += 1

    def entries(self) -> Iterable[RemoteEntry]:
        """The remote group versions, for merged discovery."""
        return self._discovery.entries.values() if self._discovery is not None else ()

    def route(self, request: Request) -> Awaitable[Response] | None:
        """The answer of the extension server that the request is for; None when it is for us."""
        info = request.info
        if info.is_resource_request:
            extension = self._by_version.get((info.api_group, info.api_version))
        else:
            extension = self._extension_of_path(request.path)
        if extension is None:
            return None
        if request.local:
            from pilothouse.apiserver.aggregator import in_process

            return in_process.handle(extension, request, self._server.tasks)
        return extension.handle(request)

    def _extension_of_path(self, path: str) -> Extension | None:
        """For ``/apis/<group>/<version>`` itself."""
        parts = path.strip("/").split("/")
        if len(parts) >= 3 and parts[0] == "apis":
            return self._by_version.get((parts[1], parts[2]))
        if len(parts) >= 2 and parts[0] == "api":
            return self._by_version.get(("", parts[1]))
        return None
