"""Selections over cache entries: one by one and many at once give the same."""

from __future__ import annotations

from typing import Any

import pytest

from pilothouse.apimachinery.fields import parse_field_selector
from pilothouse.apimachinery.labels import NOTHING, parse_selector
from pilothouse.apiserver.registry.core.pod import STRATEGY
from pilothouse.apiserver.registry.selection import Selection
from pilothouse.apiserver.storage.cacher.watch_cache import WatchCache
from pilothouse.apiserver.storage.interfaces import StorageEvent
from pilothouse.apiserver.storage.versioner import encode

PODS = "/registry/pods/"
LABELS: tuple[dict[str, str] | None, ...] = (
    None, {}, {"app": "web"}, {"app": "web", "tier": "back"}, {"app": "db"}, {"tier": ""},
)  # fmt: skip


@pytest.fixture
def cache() -> WatchCache:
    cache = WatchCache(PODS)
    for number, labels in enumerate(LABELS):
        metadata: dict[str, Any] = {"name": f"p{number}", "namespace": "default"}
        if labels is not None:
            metadata["labels"] = labels
        value = encode({"metadata": metadata, "spec": {"nodeName": f"n{number % 2}"}})
        cache.apply(
            StorageEvent("PUT", f"{PODS}default/p{number}", value, number + 1, None, 0), 0.0
        )
    return cache


@pytest.mark.parametrize(
    ("selector", "found"),
    [
        ("app=web", ["p2", "p3"]),
        ("app==web,tier=back", ["p3"]),
        ("app in (web)", ["p2", "p3"]),
        ("app in (web,db)", ["p2", "p3", "p4"]),
        ("app!=web", ["p0", "p1", "p4", "p5"]),
        ("!app", ["p0", "p1", "p5"]),
        ("tier", ["p3", "p5"]),
        ("tier=", ["p5"]),
        ("app=nothing", []),
    ],
)
def test_labels(cache: WatchCache, selector: str, found: list[str]) -> None:
    predicate = Selection(parse_selector(selector)).predicate(STRATEGY)
    assert predicate is not None
    entries, more, left = cache.list(PODS, predicate=predicate)
    assert ([entry.name for entry in entries], more, left) == (found, False, 0)
    assert [e.name for e in cache.entries.values() if predicate(e)] == found
    assert cache.list(PODS, limit=1, predicate=predicate)[0] == entries[:1]


def test_a_selector_that_matches_nothing(cache: WatchCache) -> None:
    assert cache.list(PODS, predicate=Selection(NOTHING).predicate(STRATEGY))[0] == []


def test_labels_and_fields(cache: WatchCache) -> None:
    selection = Selection(parse_selector("app"), parse_field_selector("spec.nodeName=n0"))
    entries, _, _ = cache.list(PODS, predicate=selection.predicate(STRATEGY))
    assert [entry.name for entry in entries] == ["p2", "p4"]
