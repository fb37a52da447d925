"""Which watchers a change concerns, without asking all of them.

Watchers are kept by scope (whole resource, a namespace, one object) and, within a scope, by
trigger: a watcher with an exact field selector such as ``spec.nodeName=x`` hears only of objects
whose indexed field has, or had, that value (upstream's IndexerFuncs and triggerValue).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pilothouse.apiserver.storage.cacher.cache_watcher import CacheWatcher
    from pilothouse.apiserver.storage.cacher.watch_cache import Entry, Event

log = logging.getLogger(__name__)

Watchers = dict["CacheWatcher", None]


_ByField = Mapping[str, Callable[["Entry"], str]]
Indexers = _ByField | Callable[[], _ByField]
"""Functions by field, or what gives them when the first watcher has a trigger."""


class _Scope:
    __slots__ = ("by_trigger", "everything")

    def __init__(self) -> None:
        self.everything: Watchers = {}
        self.by_trigger: dict[tuple[str, str], Watchers] = {}

    def empty(self) -> bool:
        return not self.everything and not self.by_trigger


class WatcherIndex:
    """Watchers of one cacher."""

    def __init__(self, prefix: str, indexers: Indexers | None = None) -> None:
        self._prefix = prefix
        self._load: Callable[[], _ByField] | None = indexers if callable(indexers) else None
        self._indexers: _ByField = {} if indexers is None or callable(indexers) else indexers
        self._scopes: dict[str, _Scope] = {}
        self._prefix_of: dict[CacheWatcher, str] = {}

    def __len__(self) -> int:
        return len(self._prefix_of)

    def __iter__(self) -> Iterator[CacheWatcher]:
        return iter(list(self._prefix_of))

    def supports(self, field: str) -> bool:
        load, self._load = self._load, None
        if load is not None:
            self._indexers = load()
        return field in self._indexers

    def add(self, prefix: str, watcher: CacheWatcher) -> None:
        scope = self._scopes.setdefault(prefix, _Scope())
        if watcher.trigger is None:
            scope.everything[watcher] = None
        else:
            scope.by_trigger.setdefault(watcher.trigger, {})[watcher] = None
        self._prefix_of[watcher] = prefix

    def remove(self, watcher: CacheWatcher) -> None:
        prefix = self._prefix_of.pop(watcher, None)
        if prefix is None:
            return
        scope = self._scopes[prefix]
        if watcher.trigger is None:
            del scope.everything[watcher]
        else:
            watchers = scope.by_trigger[watcher.trigger]
            del watchers[watcher]
            if not watchers:
                del scope.by_trigger[watcher.trigger]
        if scope.empty():
            del self._scopes[prefix]

    def dispatch(self, event: Event) -> None:
        """Offers ``event`` to the watchers that it may concern."""
        if not self._scopes:
            return
        entry = event.entry
        triggers: set[tuple[str, str]] | None = None
        for scope in self._scopes_of(entry):
            for watcher in list(scope.everything):
                watcher.offer(event)
            if scope.by_trigger:
                if triggers is None:
                    triggers = self._triggers_of(event)
                for trigger in triggers:
                    for watcher in list(scope.by_trigger.get(trigger, ())):
                        watcher.offer(event)

    def _scopes_of(self, entry: Entry) -> list[_Scope]:
        """Every prefix of the key that ends in "/" from the resource's on, and the key itself."""
        scopes = self._scopes
        key = entry.key
        found = []
        at = len(self._prefix)
        while at:
            scope = scopes.get(key[:at])
            if scope is not None:
                found.append(scope)
            at = key.find("/", at) + 1
        scope = scopes.get(key)
        if scope is not None:
            found.append(scope)
        return found

    def _triggers_of(self, event: Event) -> set[tuple[str, str]]:
        states = (event.entry,) if event.prev is None else (event.entry, event.prev)
        triggers = set()
        for field, indexer in self._indexers.items():
            for entry in states:
                try:
                    triggers.add((field, indexer(entry)))
                except Exception:
                    log.exception("indexing %s by %s failed", entry, field)
        return triggers
