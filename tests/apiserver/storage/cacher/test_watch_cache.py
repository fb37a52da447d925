"""Entries of the watch cache: what they decode, when, and what they let go."""

from __future__ import annotations

from typing import Any

from pilothouse.apiserver.storage.cacher import watch_cache
from pilothouse.apiserver.storage.cacher.watch_cache import Entry, WatchCache
from pilothouse.apiserver.storage.interfaces import StorageEvent
from pilothouse.apiserver.storage.versioner import encode

PODS = "/registry/pods/"


def pod(name: str, **labels: str) -> dict[str, Any]:
    metadata = {"name": name, "namespace": "default", "labels": labels}
    return {"kind": "Pod", "apiVersion": "v1", "metadata": metadata, "spec": {"nodeName": "n"}}


def put(cache: WatchCache, name: str, revision: int, **labels: str) -> Entry:
    change = StorageEvent("PUT", PODS + "default/" + name, encode(pod(name, **labels)), revision,
                          None, 0)  # fmt: skip
    return cache.apply(change, 0.0).entry


def decoded(entry: Entry) -> bool:
    """Whether the entry holds its object."""
    try:
        watch_cache._OBJ.__get__(entry)
    except AttributeError:
        return False
    return True


def test_peek_and_labels_keep_no_decoded_object() -> None:
    entry = put(WatchCache(PODS), "a", 1, app="web")
    assert entry.peek()["spec"] == {"nodeName": "n"}
    assert entry.labels == {"app": "web"}
    assert not decoded(entry)
    assert entry.obj["metadata"]["resourceVersion"] == "1"
    assert entry.peek() is entry.obj


def test_peek_takes_the_writers_object() -> None:
    cache = WatchCache(PODS)
    obj = pod("a", app="web")
    change = StorageEvent("PUT", PODS + "default/a", encode(obj), 1, None, 0)
    entry = cache.apply(change, 0.0, obj).entry
    assert entry.peek() is obj
    entry.forget_base()
    assert entry.peek() == entry.obj
    assert entry.labels == {"app": "web"}


def test_replicas_share_their_labels() -> None:
    cache = WatchCache(PODS)
    first, second = put(cache, "a", 1, app="web"), put(cache, "b", 2, app="web")
    other = put(cache, "c", 3, app="db")
    assert first.labels is second.labels
    assert other.labels == {"app": "db"}
    assert put(cache, "d", 4).labels is None


def test_labels_that_are_no_map_of_strings_do_no_harm() -> None:
    value = b'{"metadata":{"name":"a","labels":{"x":["y"]}}}'
    entry = WatchCache(PODS).entry(PODS + "default/a", value, 1)
    assert entry.labels == {"x": ["y"]}


def test_a_superseded_version_can_still_be_read() -> None:
    entry = put(WatchCache(PODS), "a", 1, app="web")
    before = entry.obj
    entry.superseded()
    assert not decoded(entry)
    assert entry.labels == {"app": "web"}
    assert entry.obj == before


def test_the_last_state_of_a_superseded_version() -> None:
    entry = put(WatchCache(PODS), "a", 1, app="web")
    last = entry.at(7)
    entry.superseded()
    assert last.obj["metadata"]["resourceVersion"] == "7"
    assert last.labels == {"app": "web"}
