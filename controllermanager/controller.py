"""What all controllers have in common: informers → keys → queue → workers → ``sync(key)``.

A controller registers handlers that only enqueue keys, and implements ``sync``, which reads its
informers, asks a pure core what to do and writes with the client. A failed key comes back with
a growing delay; after ``max_retries`` it is dropped until its object changes (None: never).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from typing import TYPE_CHECKING, Any, TypeVar

from pilothouse.apimachinery.errors import StatusError, is_conflict
from pilothouse.apimachinery.object import Obj, object_key
from pilothouse.apimachinery.timefmt import format_time, parse_time
from pilothouse.componentbase.tasks import TaskOwner
from pilothouse.kubeclient.record import EventRecorder
from pilothouse.kubeclient.workqueue import WorkQueue
from pilothouse.kubeclient.workqueue.rate_limiters import retry_limiter

if TYPE_CHECKING:
    from pilothouse.apimachinery.schema import GroupVersionResource
    from pilothouse.componentbase.metrics import Metric
    from pilothouse.kubeclient.cache.informer import (
        AddHandler,
        Registration,
        SharedInformer,
        UpdateHandler,
    )
    from pilothouse.kubeclient.interfaces import Environment
    from pilothouse.kubeclient.workqueue.rate_limiters import RateLimiter

log = logging.getLogger(__name__)

MAX_RETRIES = 15
QUICK_RETRIES = 3
"""How often a conflict is tried again without waiting."""
CATCH_UP_TURNS = 5
T = TypeVar("T")


class SyncError(Exception):
    """A sync that must be tried again, with a text for the log."""


class Controller:
    """Base of the queue-driven controllers. ``start`` returns when the workers run."""

    name = ""
    """As in ``--controllers``: ``deployment-controller``."""
    max_retries: int | None = MAX_RETRIES
    retry_delays: tuple[float, float] = (0.005, 1000.0)
    """Seconds that a failed key waits: at first, doubling with each failure, and at most."""
    own_metrics: tuple[Metric, ...] = ()
    """What /metrics shows of it beside its queue."""

    def __init__(self, env: Environment, *, workers: int = 1, component: str = "") -> None:
        self.env = env
        self.client = env.client
        self.clock = env.clock
        self.workers = workers
        limiter: RateLimiter[str] = retry_limiter(env.clock, *self.retry_delays)
        self.queue: WorkQueue[str] = WorkQueue(self.name, env.clock, env.activity, limiter)
        self.recorder = EventRecorder(
            env.client,
            component or self.name,
            clock=env.clock,
            random=env.random,
            activity=env.activity,
        )
        self._informers: list[SharedInformer] = []
        self._registrations: list[Registration] = []
        self.crashed = ""
        """What ended a task of this controller, if anything did."""
        self._tasks = TaskOwner(self.name, self._note_crash)
        self._running_workers = 0
        self._subscriptions: list[Callable[[], Registration]] = []

    # What a controller implements.

    async def sync(self, key: str) -> None:
        """Brings one object nearer to what is wanted. May be called at any time, again and
        again; never twice at once for a key."""
        raise AssertionError(f"{self.name} has no sync")

    # What it uses.

    def watch(
        self,
        resource: GroupVersionResource,
        on_add: AddHandler | None = None,
        on_update: UpdateHandler | None = None,
        on_delete: AddHandler | None = None,
    ) -> SharedInformer:
        """The shared informer of ``resource``; the handlers are registered on ``start``."""
        informer = self.env.informers.informer(resource)
        self._informers.append(informer)
        if on_add or on_update or on_delete:
            self._subscriptions.append(lambda: informer.add_handler(on_add, on_update, on_delete))
        return informer

    def watch_keys(self, resource: GroupVersionResource) -> SharedInformer:
        """Follows the resource that the controller is for: any change enqueues its key."""
        return self.watch(resource, self.enqueue, lambda _, new: self.enqueue(new), self.enqueue)

    def enqueue(self, obj: Obj) -> None:
        self.queue.add(object_key(obj))

    def now(self) -> float:
        """Wall time as seconds since the epoch."""
        return self.clock.time()

    def timestamp(self) -> str:
        return format_time(self.clock.now())

    def run_task(self, coroutine: Any, name: str) -> None:
        self._tasks.start(coroutine, name)

    # Its life.

    async def start(self) -> None:
        self.begin()
        await self.wait_synced()
        self.start_workers()

    def begin(self) -> None:
        """Registers the handlers and starts the informers (the first half of ``start``)."""
        for subscribe in self._subscriptions:
            self._registrations.append(subscribe())
        self.env.informers.start()

    async def wait_synced(self) -> None:
        await self.env.informers.wait_synced(self._informers)

    def start_workers(self) -> None:
        self._start_worker()

    async def stop(self) -> None:
        for registration in self._registrations:
            registration.remove()
        self._registrations.clear()
        self.queue.shut_down()
        await self._tasks.close()
        await self.recorder.close()
        self.queue.clear()

    def _note_crash(self, task: str, error: BaseException) -> None:
        self.crashed = f"{task}: {error!r}"

    def _start_worker(self) -> None:
        self._running_workers += 1
        self._tasks.start(self._work(), f"worker-{self._running_workers}")

    async def _work(self) -> None:
        while await self.step():
            pass

    async def step(self) -> bool:
        """Works on one key; False when the queue is shut down."""
        key = await self.queue.get()
        if key is None:
            return False
        # Workers start when there is work for one more of them.
        if len(self.queue) and self._running_workers < self.workers:
            self._start_worker()
        try:
            await self.sync(key)
        except (StatusError, SyncError, ConnectionError, TimeoutError) as error:
            await self._retry(key, error)
        except Exception as error:
            log.exception("%s: sync of %s failed", self.name, key)
            await self._retry(key, error)
        else:
            self.queue.forget(key)
        finally:
            self.queue.done(key)
        return True

    async def _retry(self, key: str, error: Exception) -> None:
        failures = self.queue.num_requeues(key)
        if is_conflict(error) and failures < QUICK_RETRIES:
            # The informer was a moment behind: a few turns of the loop later it is not.
            for _ in range(CATCH_UP_TURNS):
                await asyncio.sleep(0)
            self.queue.add_failed(key)
        elif self.max_retries is None or failures < self.max_retries:
            log.debug("%s: %s will be tried again: %s", self.name, key, error)
            self.queue.add_rate_limited(key)
        else:
            log.warning("%s: dropped %s out of the queue: %s", self.name, key, error)
            self.queue.forget(key)


async def gather_writes(writes: Iterable[Awaitable[T]]) -> list[T]:
    """Runs the writes of one sync side by side and waits for all of them.

    :raises Exception: the first that failed, after the others have ended.
    """
    results = await asyncio.gather(*writes, return_exceptions=True)
    done: list[T] = []
    for result in results:
        if isinstance(result, BaseException):
            raise result
        done.append(result)
    return done


async def slow_start_batch(
    count: int, function: Callable[[], Awaitable[object]], initial: int = 1
) -> tuple[int, BaseException | None]:
    """Calls ``function`` ``count`` times in batches of 1, 2, 4 … and stops after the batch in
    which one fails: (how many succeeded, the first error). So a quota that refuses everything
    costs one request, not hundreds."""
    successes, remaining = 0, count
    batch = min(remaining, initial)
    while batch > 0:
        results = await asyncio.gather(*(function() for _ in range(batch)), return_exceptions=True)
        failures = [r for r in results if isinstance(r, BaseException)]
        successes += batch - len(failures)
        if failures:
            return successes, failures[0]
        remaining -= batch
        batch = min(2 * batch, remaining)
    return successes, None


def with_status(obj: Obj, status: Obj) -> Obj:
    """``obj`` with that status, for writing (every client copies what it is given)."""
    return {**obj, "status": status}


def seconds_of(timestamp: str | None) -> float:
    """A metav1.Time as seconds since the epoch; 0 when there is none."""
    return parse_time(timestamp).timestamp() if timestamp else 0.0
