"""What extension servers say that they serve (handler_discovery.go's discovery manager).

For each remote APIService one entry of the aggregated document: fetched in that form, or made
from the legacy list of its group version. An entry that can't be fetched is there all the same,
empty and Stale, so that clients know what they can't see. Fetched anew once a minute, and when
the APIService changes.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import orjson

from pilothouse.apimachinery.errors import StatusError
from pilothouse.kubeclient.workqueue.queue import WorkQueue
from pilothouse.kubeclient.workqueue.rate_limiters import ItemExponentialFailureRateLimiter

if TYPE_CHECKING:
    from collections.abc import Callable

    from pilothouse.apimachinery.object import Obj
    from pilothouse.apiserver.aggregator.extension import Extension
    from pilothouse.apiserver.server import APIServer

log = logging.getLogger(__name__)

REFRESH = 60.0
_FIRST_RETRY = 0.5
_TIMEOUT = 5.0
_ACCEPT = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"


class DiscoveryFailure(Exception):
    """No discovery could be had; the text says why."""


@dataclass(slots=True)
class RemoteEntry:
    """One group version in merged discovery (``endpoints/discovery.py`` reads these)."""

    group: str
    version: str
    group_priority: int
    version_priority: int
    document: Obj = field(default_factory=dict)
    """An APIVersionDiscovery."""


class RemoteDiscovery:
    def __init__(
        self,
        server: APIServer,
        extensions: dict[str, Extension],
        changed: Callable[[], None],
    ) -> None:
        self.entries: dict[str, RemoteEntry] = {}
        self._extensions = extensions
        self._changed = changed
        self._server = server
        self._queue: WorkQueue[str] = WorkQueue(
            "apiservice-discovery",
            server.clock,
            server.activity,
            ItemExponentialFailureRateLimiter(_FIRST_RETRY, REFRESH),
        )

    def start(self) -> None:
        self._server.tasks.start(self._work(), "apiservice-discovery")

    def stop(self) -> None:
        self._queue.shut_down()
        self._queue.clear()

    def changed(self, name: str) -> None:
        """The APIService ``name`` or its availability is another; at once it is in the document,
        with what is known of it."""
        extension = self._extensions.get(name)
        if extension is None:
            if self.entries.pop(name, None) is not None:
                self._changed()
            return
        known = self.entries.get(name)
        stale = {"version": extension.version, "resources": [], "freshness": "Stale"}
        self._set(extension, known.document if known is not None else stale)
        self._queue.forget(name)
        self._queue.add(name)

    def _set(self, extension: Extension, document: Obj) -> None:
        spec = extension.spec
        entry = RemoteEntry(
            extension.group,
            extension.version,
            int(spec.get("groupPriorityMinimum") or 0),
            int(spec.get("versionPriority") or 0),
            document,
        )
        if self.entries.get(extension.name) != entry:
            self.entries[extension.name] = entry
            self._changed()

    async def _work(self) -> None:
        queue = self._queue
        while (name := await queue.get()) is not None:
            try:
                extension = self._extensions.get(name)
                if extension is not None:
                    await self._sync(extension)
            except Exception:
                log.exception("discovery of APIService %s", name)
                queue.add_rate_limited(name)
            finally:
                queue.done(name)

    async def _sync(self, extension: Extension) -> None:
        name = extension.name
        try:
            document = await fetch(extension) | {"freshness": "Current"}
        except (OSError, StatusError, DiscoveryFailure, ValueError) as error:
            log.debug("discovery of APIService %s: %s", name, error)
            document = {"version": extension.version, "resources": [], "freshness": "Stale"}
            self._queue.add_rate_limited(name)
        else:
            self._queue.forget(name)
            self._queue.add_after(name, REFRESH)
        if self._extensions.get(name) is extension:
            self._set(extension, document)


async def fetch(extension: Extension) -> Obj:
    """An APIVersionDiscovery of the extension's group version.

    :raises DiscoveryFailure, OSError, StatusError, ValueError: there is none to be had.
    """
    if not extension.available:
        raise DiscoveryFailure("service unavailable")
    status, content_type, body, _ = await extension.fetch(
        "/apis", {"accept": _ACCEPT}, timeout=_TIMEOUT
    )
    if status == 503:
        raise DiscoveryFailure(f"service {extension.reference} returned 503")
    if status == 200 and _is_aggregated(content_type):
        return from_aggregated(orjson.loads(body), extension.group, extension.version)
    status, _, body, _ = await extension.fetch(
        extension.root, {"accept": "application/json"}, timeout=_TIMEOUT
    )
    if status != 200:
        raise DiscoveryFailure(f"failed to download legacy discovery for {extension.root}")
    return from_legacy(orjson.loads(body), extension.version)


def _is_aggregated(content_type: str) -> bool:
    parameters = {part.strip().lower() for part in content_type.split(";")}
    return {"g=apidiscovery.k8s.io", "v=v2", "as=apigroupdiscoverylist"} <= parameters


def from_aggregated(document: Obj, group: str, version: str) -> Obj:
    """The entry of one group version; empty when the server does not name it."""
    for item in document.get("items") or ():
        if ((item.get("metadata") or {}).get("name") or "") != group:
            continue
        for entry in item.get("versions") or ():
            if entry.get("version") == version:
                for resource in entry.get("resources") or ():
                    # Old clients expect a kind everywhere.
                    resource.setdefault("responseKind", _kind({}))
                    for sub in resource.get("subresources") or ():
                        sub.setdefault("responseKind", _kind({}))
                found: Obj = entry
                return found
    return {"version": version, "resources": []}


def from_legacy(document: Obj, version: str) -> Obj:
    """An APIResourceList in the form of the aggregated document."""
    resources: dict[str, Obj] = {}
    for entry in document.get("resources") or ():
        name, _, sub = entry["name"].partition("/")
        if not sub:
            resources[name] = resources.get(name, {}) | _resource(entry)
            continue
        parent = resources.setdefault(name, {"resource": name, "scope": _scope(entry)})
        parent.setdefault("subresources", []).append(
            {
                "subresource": sub,
                "responseKind": _kind(entry),
                "verbs": list(entry.get("verbs") or ()),
            }
        )
    return {"version": version, "resources": list(resources.values())}


def _resource(entry: Obj) -> Obj:
    resource: Obj = {
        "resource": entry["name"],
        "responseKind": _kind(entry),
        "scope": _scope(entry),
        "singularResource": entry.get("singularName") or "",
        "verbs": list(entry.get("verbs") or ()),
    }
    for key in ("shortNames", "categories"):
        if entry.get(key):
            resource[key] = list(entry[key])
    return resource


def _scope(entry: Obj) -> str:
    return "Namespaced" if entry.get("namespaced") else "Cluster"


def _kind(entry: Any) -> Obj:
    return {key: entry.get(key) or "" for key in ("group", "version", "kind")}
