"""Creating and deleting a controller's pods, with the events that users see (RealPodControl)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pilothouse.apimachinery.errors import StatusError, is_not_found
from pilothouse.apimachinery.object import Obj, name_of, namespace_of
from pilothouse.controllermanager.controller import SyncError
from pilothouse.kubeclient.resources import PODS

if TYPE_CHECKING:
    from pilothouse.kubeclient.interfaces import Client
    from pilothouse.kubeclient.record import EventRecorder

NAMESPACE_TERMINATING = "NamespaceTerminating"


class PodControl:
    """Writes pods for owners; the owner gets an event for each success and failure."""

    def __init__(self, client: Client, recorder: EventRecorder) -> None:
        self._client = client
        self._recorder = recorder

    async def create(self, pod: Obj, owner: Obj) -> Obj:
        try:
            created = await self._client.create(PODS, pod, namespace_of(owner))
        except StatusError as error:
            if not error.has_cause(NAMESPACE_TERMINATING):
                self._recorder.event(owner, "Warning", "FailedCreate", f"Error creating: {error}")
            raise
        message = f"Created pod: {name_of(created)}"
        self._recorder.event(owner, "Normal", "SuccessfulCreate", message)
        return created

    async def delete(self, pod: Obj, owner: Obj) -> None:
        """:raises StatusError: NotFound, which callers count as deleted."""
        try:
            await self._client.delete(PODS, name_of(pod), namespace_of(pod))
        except StatusError as error:
            if is_not_found(error):
                raise
            self._recorder.event(owner, "Warning", "FailedDelete", f"Error deleting: {error}")
            raise SyncError(f"unable to delete pods: {error}") from error
        message = f"Deleted pod: {name_of(pod)}"
        self._recorder.event(owner, "Normal", "SuccessfulDelete", message)
