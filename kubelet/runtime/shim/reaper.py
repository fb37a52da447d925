"""Every child's end, in one place: crun calls, container processes and orphans.

The shim is a child subreaper, so whatever loses its parent arrives here; a PID namespace only
ends when all of it is reaped. One waitpid for all, and whoever wants a status asks here.
"""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

MAX_UNCLAIMED = 4096


class Reaper:
    """``reap`` runs in the main thread after SIGCHLD; the rest from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._watchers: dict[int, Callable[[int], None]] = {}
        self._unclaimed: OrderedDict[int, int] = OrderedDict()

    def reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            code = exit_code(status)
            with self._lock:
                watcher = self._watchers.pop(pid, None)
                if watcher is None:
                    self._unclaimed[pid] = code
                    while len(self._unclaimed) > MAX_UNCLAIMED:
                        self._unclaimed.popitem(last=False)
            if watcher is not None:
                watcher(code)

    def watch(self, pid: int, callback: Callable[[int], None]) -> None:
        """``callback(exit code)`` once, at once when it has ended already."""
        with self._lock:
            code = self._unclaimed.pop(pid, None)
            if code is None:
                self._watchers[pid] = callback
                return
        callback(code)

    def forget(self, pid: int) -> None:
        """An orphan's status left under this number must not be taken for a new child's."""
        with self._lock:
            self._unclaimed.pop(pid, None)

    def wait(self, pid: int) -> int:
        """Blocks a worker thread until ``pid`` has ended."""
        done = threading.Event()
        result: list[int] = []

        def ended(code: int) -> None:
            result.append(code)
            done.set()

        self.watch(pid, ended)
        done.wait()
        return result[0]


def exit_code(status: int) -> int:
    """128 + n for a process that signal n ended."""
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code
