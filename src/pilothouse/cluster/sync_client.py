"""The client of a synchronous ``with Cluster()``: the same methods, without ``await``."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from typing import Any

from pilothouse.kubeclient.interfaces import Client, WatchEvent


class SyncClient:
    """Runs each method of a :class:`Client` on the cluster's loop and returns its result."""

    def __init__(self, client: Client, run: Callable[[Any], Any]) -> None:
        self._client = client
        self._run = run

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._client, name)
        if not inspect.iscoroutinefunction(method):
            return method

        def call(*args: Any, **kwargs: Any) -> Any:
            result = self._run(method(*args, **kwargs))
            return SyncWatch(result, self._run) if name == "watch" else result

        call.__name__ = name
        call.__doc__ = method.__doc__
        return call


class SyncWatch:
    """Iterates over single events, blocking; close it or use it in ``with``."""

    def __init__(self, watch: Any, run: Callable[[Any], Any]) -> None:
        self._watch = watch
        self._batches = watch.__aiter__()
        self._run = run

    def __iter__(self) -> Iterator[WatchEvent]:
        while True:
            try:
                batch = self._run(self._batches.__anext__())
            except StopAsyncIteration:
                return
            yield from batch

    def __enter__(self) -> SyncWatch:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def close(self) -> None:
        self._run(self._watch.close())
