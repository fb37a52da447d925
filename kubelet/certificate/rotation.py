"""Keeps one certificate fresh: asks for the next when 70 to 90 % of its life are over (client-go's
certificate manager).
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from pilothouse.apimachinery.errors import StatusError
from pilothouse.apimachinery.wait import Backoff
from pilothouse.kubelet.certificate.request import (
    NotIssued,
    Wanted,
    new_key,
    request_certificate,
)

if TYPE_CHECKING:
    from random import Random

    from pilothouse.apimachinery.clock import Clock
    from pilothouse.componentbase.der import CertificateFields
    from pilothouse.kubeclient.interfaces import Client
    from pilothouse.kubelet.certificate.store import CertificateStore, Pair

log = logging.getLogger(__name__)
WAIT_SECONDS = 15 * 60.0
"""A request that nobody has answered by then is made anew."""
LOOK_AGAIN = 5.0
"""While the node has no address yet, or when it might have got another."""


def deadline(fields: CertificateFields, share: float) -> datetime:
    """When the next certificate is due; ``share`` of the life is over, between 0.7 and 0.9."""
    life = fields.not_after - fields.not_before
    return fields.not_before + timedelta(seconds=life.total_seconds() * share)


def satisfies(fields: CertificateFields, wanted: Wanted) -> bool:
    """Whether the certificate says all that is wanted."""
    return (
        fields.common_name == f"system:node:{wanted.node_name}"
        and set(wanted.dns_names) <= set(fields.dns_names)
        and set(wanted.ips) <= set(fields.ip_addresses)
    )


class Rotation:
    """``wanted()`` is None while it can't be said yet; ``use(pair)`` is awaited with each new
    pair, and with the one that is there at the start."""

    def __init__(
        self,
        store: CertificateStore,
        client: Client,
        clock: Clock,
        random: Random,
        wanted: Callable[[], Wanted | None],
        use: Callable[[Pair], Awaitable[None]],
    ) -> None:
        self._store = store
        self._client = client
        self._clock = clock
        self._random = random
        self._wanted = wanted
        self._use = use

    async def run(self) -> None:
        """Until it is cancelled."""
        pair = self._store.current()
        if pair is not None and pair.fields.not_after > self._clock.now():
            await self._use(pair)
        while True:
            wanted = await self._due(pair)
            pair = await self._next(wanted)
            await self._use(pair)

    async def _due(self, pair: Pair | None) -> Wanted:
        """Returns when another certificate is needed, and what it is to say."""
        share = 0.7 + 0.2 * self._random.random()
        while True:
            wanted = self._wanted()
            if wanted is None:
                await self._clock.sleep(LOOK_AGAIN)
                continue
            if pair is None or not satisfies(pair.fields, wanted):
                return wanted
            left = (deadline(pair.fields, share) - self._clock.now()).total_seconds()
            if left <= 0:
                return wanted
            # Not for ever: the node's addresses may change.
            await self._clock.sleep(min(left, 60.0) if wanted.ips else left)

    async def _next(self, wanted: Wanted) -> Pair:
        backoff = Backoff(2.0, factor=2.0, jitter=0.1, steps=8, cap=128.0, random=self._random)
        while True:
            key = new_key()
            try:
                certificate = await request_certificate(
                    self._client, self._clock, wanted, key, patience=WAIT_SECONDS
                )
                return self._store.update(certificate, key, self._clock.now())
            except (NotIssued, StatusError, OSError, ValueError) as error:
                log.error("certificate request was not answered: %s", error or type(error).__name__)
            await self._clock.sleep(backoff.step())
