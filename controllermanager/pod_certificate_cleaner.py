"""Deletes PodCertificateRequests a quarter of an hour after they were made: by then the kubelet
has its certificate, or has asked again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pilothouse.apimachinery.errors import StatusError, is_not_found
from pilothouse.apimachinery.object import Obj, meta, name_of, namespace_of, object_key, uid_of
from pilothouse.controllermanager.controller import Controller, seconds_of
from pilothouse.kubeclient.interfaces import DeleteOptions
from pilothouse.kubeclient.resources import POD_CERTIFICATE_REQUESTS

if TYPE_CHECKING:
    from pilothouse.kubeclient.interfaces import Environment

LIFETIME = 15 * 60.0


class PodCertificateCleaner(Controller):
    name = "podcertificaterequest-cleaner-controller"
    max_retries = None

    def __init__(self, env: Environment) -> None:
        super().__init__(env)
        self._requests = self.watch(POD_CERTIFICATE_REQUESTS, self._seen)

    def _seen(self, request: Obj) -> None:
        self.queue.add_after(object_key(request), max(self._left(request), 0.0))

    def _left(self, request: Obj) -> float:
        return seconds_of(meta(request).get("creationTimestamp")) + LIFETIME - self.now()

    async def sync(self, key: str) -> None:
        request = self._requests.get(key)
        if request is None:
            return
        left = self._left(request)
        if left > 0:
            self.queue.add_after(key, left)
            return
        options = DeleteOptions(precondition_uid=uid_of(request))
        name, namespace = name_of(request), namespace_of(request)
        try:
            await self.client.delete(POD_CERTIFICATE_REQUESTS, name, namespace, options)
        except StatusError as error:
            if not is_not_found(error):
                raise
