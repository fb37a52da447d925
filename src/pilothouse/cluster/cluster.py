"""``from pilothouse import Cluster``: a whole cluster inside this Python process.

    with Cluster() as c:                       # in ordinary code: runs in a thread of its own
        c.client.create(PODS, pod, "default")
        c.settle()

    async with Cluster() as c:                 # on the running event loop
        await c.client.create(PODS, pod, "default")
        await c.settle()

    with Cluster(clock="virtual") as c:        # time stands still until it is moved
        c.client.create(CRON_JOBS, nightly, "default")
        c.advance(timedelta(days=30))

Each cluster has its own store, clock, informers, certificates and port; two share nothing.
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
import threading
from collections.abc import Coroutine
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeVar

from pilothouse.cluster.config import ClusterConfig, ConfigError
from pilothouse.cluster.core import ClusterCore
from pilothouse.cluster.preload import preload

if TYPE_CHECKING:
    from pilothouse.apimachinery.clock import Clock

T = TypeVar("T")
preload()


class Cluster:
    """An in-process cluster; a context manager, synchronous or asynchronous.

    Keyword arguments are the fields of :class:`~pilothouse.cluster.config.ClusterConfig`; the
    defaults here are one node, the fake runtime, the memory store and a free port.
    ``client`` speaks to the API server without HTTP (with administrator's rights): a
    ``kubeclient.interfaces.Client`` in ``async with``, the same methods without ``await`` in
    ``with``. ``kubeconfig`` is a file for any other client.

    ``clock="virtual"`` (or a ``VirtualClock``, which has a start of its own) makes time stand
    still: only :meth:`advance` moves it, and all that waits for time (controllers, back-offs,
    kubelets, probes, leases) happens at its moment, in order.
    """

    def __init__(self, *, clock: Clock | str | None = None, **settings: Any) -> None:
        self._directory: Path | None = None
        """Ours to remove; made when the cluster starts."""
        defaults: dict[str, Any] = {
            "runtime": "fake",
            "storage": "memory",
            "port": 0,
            "proxy_mode": "none",
        }
        self.config = ClusterConfig(**(defaults | settings))
        self.config.validate()
        self._clock = make_clock(clock)
        self._core: ClusterCore | None = None
        self._thread: _LoopThread | None = None

    # -- starting and stopping ----------------------------------------------------------

    def __enter__(self) -> Self:
        self._thread = _LoopThread(f"cluster-{self.config.name}")
        try:
            self._thread.run(self._start())
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *exc_info: object) -> None:
        thread, self._thread = self._thread, None
        if thread is not None:
            try:
                thread.run(self._stop())
            finally:
                thread.close()

    async def __aenter__(self) -> Self:
        try:
            await self._start()
        except BaseException:
            await self._stop()
            raise
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self._stop()

    async def _start(self) -> None:
        if not self.config.data_dir:
            self._directory = Path(tempfile.mkdtemp(prefix="pilothouse-"))
            self.config = self.config.replace(data_dir=str(self._directory))
        self._core = ClusterCore(self.config, clock=self._clock, merge_context=False)
        await self._core.start()

    async def _stop(self) -> None:
        core, self._core = self._core, None
        if core is not None:
            await core.stop()
        if self._directory is not None:
            shutil.rmtree(self._directory, ignore_errors=True)
            self._directory, self.config = None, self.config.replace(data_dir="")

    # -- what a test uses ---------------------------------------------------------------

    @property
    def core(self) -> ClusterCore:
        if self._core is None:
            raise RuntimeError("the cluster is not running: use `with Cluster() as c:`")
        return self._core

    @property
    def client(self) -> Any:
        if self._thread is None:
            return self.core.client
        from pilothouse.cluster.sync_client import SyncClient

        return SyncClient(self.core.client, self._thread.run)

    @property
    def kubeconfig(self) -> Path:
        """A kubeconfig file with administrator's rights (mode 0600)."""
        return self.core.own_kubeconfig

    @property
    def server(self) -> str:
        """The API server's URL."""
        return self.core.server_url

    def settle(self, timeout: float = 30.0) -> Any:
        """Returns (in ``async with``: an awaitable that returns) when every queue, informer and
        pending write is idle. What waits for time (back-off, resync) is not waited for.

        :raises TimeoutError: with the names of what was still busy.
        """
        return self._run(self.core.settle(timeout))

    def advance(
        self, span: float | timedelta, *, heartbeats: bool = True, timeout: float = 60.0
    ) -> Any:
        """Moves the virtual clock on by ``span`` (seconds, or a timedelta) from timer to timer;
        the cluster settles at each. Awaitable in ``async with``.

        ``heartbeats=False`` passes over what only keeps things alive (leases and statuses of
        nodes, bookmarks, resyncs) between two moments at which something else is due, where each
        happens once: months take seconds then. A node that died is noticed late, though.

        :raises TypeError: the cluster's clock is a real one.
        :raises TimeoutError: more than ``timeout`` real seconds without getting idle.
        """
        from pilothouse.cluster.virtual_time import advance

        seconds = span.total_seconds() if isinstance(span, timedelta) else span
        return self._run(advance(self.core, seconds, heartbeats=heartbeats, timeout=timeout))

    @property
    def now(self) -> datetime:
        """The cluster's time, UTC."""
        return self.core.clock.now()

    def _run(self, coroutine: Coroutine[Any, Any, T]) -> Any:
        return coroutine if self._thread is None else self._thread.run(coroutine)


def make_clock(clock: Clock | str | None) -> Clock | None:
    """``"virtual"`` starts at the present second, so that certificates are valid for others."""
    if clock is None or clock == "real":
        return None
    if not isinstance(clock, str):
        return clock
    if clock != "virtual":
        raise ConfigError(f'clock {clock!r}: use "virtual", "real" or a Clock')
    from pilothouse.apimachinery.clock import RealClock
    from pilothouse.apimachinery.virtual_clock import VirtualClock

    return VirtualClock(RealClock().now().replace(microsecond=0))


class _LoopThread:
    """An event loop in a thread of its own."""

    def __init__(self, name: str) -> None:
        self._loop = _new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name=name, daemon=True)
        self._thread.start()

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        future = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()  # Ctrl-C here: it must not go on over there
            raise

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.run_until_complete(self._loop.shutdown_asyncgens())
        self._loop.run_until_complete(self._loop.shutdown_default_executor())
        self._loop.close()


def _new_event_loop() -> asyncio.AbstractEventLoop:
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()
