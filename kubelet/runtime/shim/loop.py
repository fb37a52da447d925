"""The shim's main thread: readiness callbacks, timers, and calls from worker threads.

A small loop over ``selectors``: asyncio would cost a third of the shim's start and memory.
"""

from __future__ import annotations

import heapq
import itertools
import os
import queue
import selectors
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable
from typing import Any

Callback = Callable[[], None]


class Timer:
    __slots__ = ("callback",)

    def __init__(self, callback: Callback) -> None:
        self.callback: Callback | None = callback

    def cancel(self) -> None:
        self.callback = None


class Loop:
    """``run`` until ``stop``; all callbacks run in the thread of ``run``."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._soon: deque[Callback] = deque()
        self._timers: list[tuple[float, int, Timer]] = []
        self._order = itertools.count()
        self._running = True
        self._wake_read, self.wake_write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._selector.register(self._wake_read, selectors.EVENT_READ, self._woken)
        self.on_wake: list[Callback] = []
        """Called on each wake-up: signals write to ``wake_write`` as well."""

    def watch(self, fd: int, events: int, callback: Callable[[int], None]) -> None:
        """``callback(events)`` when ``fd`` is ready (selectors' EVENT_READ and EVENT_WRITE)."""
        try:
            self._selector.modify(fd, events, callback)
        except KeyError:
            self._selector.register(fd, events, callback)

    def unwatch(self, fd: int) -> None:
        try:
            self._selector.unregister(fd)
        except (KeyError, ValueError):
            pass

    def soon(self, callback: Callback) -> None:
        """From any thread."""
        self._soon.append(callback)
        self.wake()

    def wake(self) -> None:
        try:
            os.write(self.wake_write, b"\0")
        except BlockingIOError:
            pass  # the pipe is full, so the loop wakes anyway

    def later(self, seconds: float, callback: Callback) -> Timer:
        """From the loop's thread."""
        timer = Timer(callback)
        entry = (time.monotonic() + seconds, next(self._order), timer)
        heapq.heappush(self._timers, entry)
        return timer

    def stop(self) -> None:
        self._running = False
        self.wake()

    def run(self) -> None:
        while self._running:
            for key, events in self._selector.select(self._timeout()):
                _guarded(lambda key=key, events=events: key.data(events))  # type: ignore[misc]
            self._due()
            for _ in range(len(self._soon)):
                _guarded(self._soon.popleft())

    def _timeout(self) -> float | None:
        if self._soon:
            return 0
        return max(0.0, self._timers[0][0] - time.monotonic()) if self._timers else None

    def _due(self) -> None:
        while self._timers and self._timers[0][0] <= time.monotonic():
            timer = heapq.heappop(self._timers)[2]
            if timer.callback is not None:
                _guarded(timer.callback)

    def _woken(self, _: int) -> None:
        try:
            while os.read(self._wake_read, 4096):
                pass
        except BlockingIOError:
            pass
        for callback in self.on_wake:
            callback()


def _guarded(callback: Callable[[], Any]) -> None:
    """One broken callback must not end the shim: its containers would lose their logs."""
    try:
        callback()
    except Exception:
        traceback.print_exc()


class Workers:
    """Up to ``limit`` threads for calls that block; started as they are needed."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._queue: queue.SimpleQueue[Callback] = queue.SimpleQueue()
        self._idle = 0
        self._count = 0
        self._lock = threading.Lock()

    def submit(self, job: Callback) -> None:
        with self._lock:
            start = self._idle == 0 and self._count < self._limit
            if start:
                self._count += 1
            else:
                self._idle -= 1 if self._idle else 0
        self._queue.put(job)
        if start:
            threading.Thread(target=self._work, name=f"worker-{self._count}", daemon=True).start()

    def _work(self) -> None:
        while True:
            _guarded(self._queue.get())
            with self._lock:
                self._idle += 1
