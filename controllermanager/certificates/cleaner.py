"""Deletes CertificateSigningRequests that have served their time.

Issued, denied and failed ones go an hour after that was said, pending and approved but unsigned
ones after a day, issued ones also when their certificate expires. When is known in advance, so
each request waits in the queue until then instead of being looked at every hour.
"""

from __future__ import annotations

import base64
from datetime import datetime
from typing import TYPE_CHECKING

from pilothouse.apimachinery.errors import StatusError, is_not_found
from pilothouse.apimachinery.object import get_nested, meta, name_of
from pilothouse.apimachinery.timefmt import parse_time
from pilothouse.componentbase.der import pem_blocks, read_certificate
from pilothouse.controllermanager.certificates.request import (
    APPROVED,
    DENIED,
    FAILED,
    conditions_of,
)
from pilothouse.controllermanager.controller import Controller
from pilothouse.kubeclient.resources import CERTIFICATE_SIGNING_REQUESTS

if TYPE_CHECKING:
    from pilothouse.apimachinery.object import Obj
    from pilothouse.kubeclient.interfaces import Environment

DECIDED_SECONDS = 3600
PENDING_SECONDS = 24 * 3600


def due_time(csr: Obj) -> float | None:
    """Seconds since the epoch after which the request is to be deleted; None: never, as it is."""
    certificate = get_nested(csr, "status", "certificate")
    conditions = conditions_of(csr)
    due: list[float] = []
    if not conditions and (created := meta(csr).get("creationTimestamp")):
        due.append(_seconds(created) + PENDING_SECONDS)
    for condition in conditions:
        kind, updated = condition.get("type"), condition.get("lastUpdateTime")
        if kind == APPROVED and certificate and (end := _certificate_end(certificate)):
            due.append(end.timestamp())
        if not updated:
            continue
        if kind in (DENIED, FAILED):
            due.append(_seconds(updated) + DECIDED_SECONDS)
        elif kind == APPROVED:
            due.append(_seconds(updated) + (DECIDED_SECONDS if certificate else PENDING_SECONDS))
    return min(due, default=None)


def _seconds(timestamp: str) -> float:
    return parse_time(timestamp).timestamp()


def _certificate_end(certificate: str) -> datetime | None:
    try:
        blocks = pem_blocks(base64.b64decode(certificate))
        return read_certificate(blocks[0]).not_after if blocks else None
    except ValueError:
        return None


class CleanerController(Controller):
    name = "certificatesigningrequest-cleaner-controller"

    def __init__(self, env: Environment, *, workers: int = 1) -> None:
        super().__init__(env, workers=workers)
        self._requests = self.watch_keys(CERTIFICATE_SIGNING_REQUESTS)

    async def sync(self, key: str) -> None:
        csr = self._requests.get(key)
        if csr is None or (due := due_time(csr)) is None:
            return
        remaining = due - self.now()
        if remaining >= 0:
            self.queue.add_after(key, remaining + 1)
            return
        try:
            await self.client.delete(CERTIFICATE_SIGNING_REQUESTS, name_of(csr))
        except StatusError as error:
            if not is_not_found(error):
                raise
