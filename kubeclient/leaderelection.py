"""One leader among several processes, by a Lease (client-go tools/leaderelection).

Clocks of different machines are not compared: a candidate waits the lease's duration from when
*it* last saw the record change. So no two act as leader as long as clocks run at nearly the
same speed, but a leader that hangs can overlap with its successor.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pilothouse.apimachinery.errors import StatusError, is_conflict, is_not_found
from pilothouse.apimachinery.object import Obj, get_nested
from pilothouse.apimachinery.timefmt import format_micro_time
from pilothouse.kubeclient.resources import LEASES

if TYPE_CHECKING:
    from random import Random

    from pilothouse.apimachinery.clock import Clock
    from pilothouse.kubeclient.interfaces import Client
    from pilothouse.kubeclient.record import EventRecorder

log = logging.getLogger(__name__)

JITTER_FACTOR = 1.2


@dataclass(frozen=True, slots=True)
class LeaderElectionConfig:
    name: str
    """Of the Lease."""
    identity: str
    """Must differ between candidates: ``<host>_<uuid>``."""
    namespace: str = "kube-system"
    lease_duration: float = 15.0
    """A candidate takes over when it has seen no renewal for this long."""
    renew_deadline: float = 10.0
    """A leader that could not renew for this long gives up."""
    retry_period: float = 2.0
    release_on_cancel: bool = True

    def validate(self) -> None:
        """:raises ValueError: with upstream's text."""
        if self.lease_duration <= self.renew_deadline:
            raise ValueError("leaseDuration must be greater than renewDeadline")
        if self.renew_deadline <= JITTER_FACTOR * self.retry_period:
            raise ValueError("renewDeadline must be greater than retryPeriod*JitterFactor")
        if self.retry_period <= 0:
            raise ValueError("retryPeriod must be greater than zero")
        if not self.identity:
            raise ValueError("Lock identity is empty")


class LeaderElector:
    """``await acquire()``, then ``await renew()``, which returns when leadership is lost."""

    def __init__(
        self,
        client: Client,
        config: LeaderElectionConfig,
        *,
        clock: Clock,
        random: Random,
        recorder: EventRecorder | None = None,
        on_new_leader: Callable[[str], None] | None = None,
    ) -> None:
        config.validate()
        self.config = config
        self._client = client
        self._clock = clock
        self._random = random
        self._recorder = recorder
        self._on_new_leader = on_new_leader
        self._lease: Obj | None = None
        self._observed_spec: dict[str, Any] = {}
        self._observed_at = float("-inf")
        self._reported = ""

    @property
    def leader(self) -> str:
        """Who holds the lease as far as this candidate has seen."""
        return self._observed_spec.get("holderIdentity") or ""

    @property
    def is_leader(self) -> bool:
        return self.leader == self.config.identity

    async def acquire(self) -> None:
        """Returns once this candidate leads."""
        while not await self.try_acquire_or_renew():
            self._report()
            period = self.config.retry_period
            await self._clock.sleep(period * (1 + JITTER_FACTOR * self._random.random()))
        self._report()
        self._record("became leader")

    async def renew(self) -> None:
        """Keeps the lease; returns when it could not be renewed within the deadline."""
        last = self._clock.monotonic()
        while self._clock.monotonic() - last < self.config.renew_deadline:
            await self._clock.sleep(self.config.retry_period)
            if await self.try_acquire_or_renew():
                last = self._clock.monotonic()
            self._report()
        self._record("stopped leading")

    async def release(self) -> None:
        """Gives the lease back so that the next leader need not wait (best effort)."""
        if not self.is_leader:
            return
        try:
            lease = await self._client.get(LEASES, self.config.name, self.config.namespace)
            if get_nested(lease, "spec", "holderIdentity") != self.config.identity:
                return
            now = format_micro_time(self._clock.now())
            spec = {
                "holderIdentity": "",
                "leaseDurationSeconds": 1,
                "leaseTransitions": get_nested(lease, "spec", "leaseTransitions", default=0),
                "acquireTime": now,
                "renewTime": now,
            }
            await self._write(lease, spec)
        except (StatusError, ConnectionError, TimeoutError) as error:
            log.info("lease %s was not released: %s", self.config.name, error)

    async def try_acquire_or_renew(self) -> bool:
        """One attempt; False when another holds a valid lease or the server did not agree."""
        try:
            return await self._attempt()
        except (StatusError, ConnectionError, TimeoutError) as error:
            log.debug("lease %s: %s", self.config.name, error)
            return False

    async def _attempt(self) -> bool:
        now = format_micro_time(self._clock.now())
        spec: dict[str, Any] = {
            "holderIdentity": self.config.identity,
            "leaseDurationSeconds": int(self.config.lease_duration),
            "acquireTime": now,
            "renewTime": now,
            "leaseTransitions": 0,
        }
        if self.is_leader and self._lease is not None and self._valid():
            # Nobody else may write while the lease is ours: no need to read it first.
            old = self._observed_spec
            renewed = spec | {
                "acquireTime": old.get("acquireTime", now),
                "leaseTransitions": old.get("leaseTransitions") or 0,
            }
            try:
                await self._write(self._lease, renewed)
                return True
            except StatusError as error:
                if not is_conflict(error) and not is_not_found(error):
                    raise
        try:
            lease = await self._client.get(LEASES, self.config.name, self.config.namespace)
        except StatusError as error:
            if not is_not_found(error):
                raise
            await self._create(spec)
            return True
        return await self._take_over(lease, spec)

    async def _take_over(self, lease: Obj, spec: dict[str, Any]) -> bool:
        held = lease.get("spec") or {}
        if held != self._observed_spec:
            self._observe(lease)
        self._lease = lease
        if self.leader and self._valid() and not self.is_leader:
            return False
        transitions = held.get("leaseTransitions") or 0
        if self.is_leader:
            spec["acquireTime"] = held.get("acquireTime") or spec["acquireTime"]
            spec["leaseTransitions"] = transitions
        else:
            spec["leaseTransitions"] = transitions + 1
        await self._write(lease, spec)
        return True

    async def _create(self, spec: dict[str, Any]) -> None:
        lease = {
            "apiVersion": LEASES.api_version,
            "kind": "Lease",
            "metadata": {"name": self.config.name, "namespace": self.config.namespace},
            "spec": spec,
        }
        self._observe(await self._client.create(LEASES, lease, self.config.namespace))

    async def _write(self, lease: Obj, spec: dict[str, Any]) -> None:
        self._observe(await self._client.update(LEASES, {**lease, "spec": spec}))

    def _observe(self, lease: Obj) -> None:
        self._lease = lease
        self._observed_spec = lease.get("spec") or {}
        self._observed_at = self._clock.monotonic()

    def _valid(self) -> bool:
        duration = self._observed_spec.get("leaseDurationSeconds") or 0
        return self._observed_at + float(duration) > self._clock.monotonic()

    def _report(self) -> None:
        if self.leader != self._reported:
            self._reported = self.leader
            if self._on_new_leader is not None:
                self._on_new_leader(self.leader)

    def _record(self, what: str) -> None:
        log.info("%s %s", self.config.identity, what)
        if self._recorder is not None and self._lease is not None:
            message = f"{self.config.identity} {what}"
            self._recorder.event(self._lease, "Normal", "LeaderElection", message)
