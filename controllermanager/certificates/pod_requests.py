"""Deletes PodCertificateRequests a quarter of an hour after they were made."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pilothouse.apimachinery.errors import StatusError, is_not_found
from pilothouse.apimachinery.object import meta, name_of, namespace_of
from pilothouse.controllermanager.controller import Controller, seconds_of
from pilothouse.kubeclient.interfaces import DeleteOptions
from pilothouse.kubeclient.resources import POD_CERTIFICATE_REQUESTS

if TYPE_CHECKING:
    from pilothouse.kubeclient.interfaces import Environment

LIFETIME_SECONDS = 15 * 60


class PodCertificateRequestCleaner(Controller):
    name = "podcertificaterequest-cleaner-controller"

    def __init__(self, env: Environment, *, workers: int = 1) -> None:
        super().__init__(env, workers=workers)
        self._requests = self.watch(POD_CERTIFICATE_REQUESTS, self.enqueue)

    async def sync(self, key: str) -> None:
        request = self._requests.get(key)
        if request is None:
            return
        created = seconds_of(meta(request).get("creationTimestamp"))
        remaining = created + LIFETIME_SECONDS - self.now()
        if remaining > 0:
            self.queue.add_after(key, remaining)
            return
        options = DeleteOptions(precondition_uid=meta(request).get("uid") or "")
        try:
            await self.client.delete(
                POD_CERTIFICATE_REQUESTS, name_of(request), namespace_of(request), options
            )
        except StatusError as error:
            if not is_not_found(error):
                raise
