"""What the runtime has, by pod: kept up to date by events and after our own actions.

The runtime's events only say "look again"; the look is one status call. At start and after a lost
connection everything is listed anew.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import replace

from pilothouse.kubelet.runtime.errors import NotFound
from pilothouse.kubelet.runtime.interfaces import (
    ContainerStatus,
    RuntimeEvent,
    RuntimeService,
    SandboxStatus,
)
from pilothouse.kubelet.runtime.pod_actions import PodRuntimeStatus

UID_LABEL = "io.kubernetes.pod.uid"


class PodCache:
    def __init__(
        self,
        runtime: RuntimeService,
        termination_message: Callable[[ContainerStatus], str] = lambda status: "",
    ) -> None:
        """``termination_message`` reads what a container that has exited left behind."""
        self._runtime = runtime
        self._termination_message = termination_message
        self._sandboxes: dict[str, dict[str, SandboxStatus]] = {}
        self._containers: dict[str, dict[str, ContainerStatus]] = {}
        self._status: dict[str, PodRuntimeStatus] = {}
        self._pod_of: dict[str, str] = {}
        """Pod uid by sandbox or container id."""
        self._exits: dict[str, list[asyncio.Future[None]]] = {}
        """Who waits for the exit of a container, by its id."""

    def get(self, uid: str) -> PodRuntimeStatus:
        """The pod's status as last seen, newest sandboxes and containers first."""
        status = self._status.get(uid)
        if status is None:
            status = self._status[uid] = self._assemble(uid)
        return status

    def uids(self) -> set[str]:
        return set(self._sandboxes) | set(self._containers)

    def pod_of(self, id_: str) -> str:
        return self._pod_of.get(id_, "")

    def _assemble(self, uid: str) -> PodRuntimeStatus:
        sandboxes = sorted(
            self._sandboxes.get(uid, {}).values(),
            key=lambda s: (s.attempt, s.created_at),
            reverse=True,
        )
        by_name: dict[str, list[ContainerStatus]] = {}
        for container in self._containers.get(uid, {}).values():
            by_name.setdefault(container.name, []).append(container)
        containers = {
            name: tuple(sorted(listed, key=lambda c: (c.attempt, c.created_at), reverse=True))
            for name, listed in by_name.items()
        }
        return PodRuntimeStatus(tuple(sandboxes), containers)

    # -- waiting -------------------------------------------------------------------------

    def exit_future(self, container_id: str) -> asyncio.Future[None]:
        """Done when the container has exited or is gone; cancel it to stop waiting."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        status = self._containers.get(self.pod_of(container_id), {}).get(container_id)
        if status is None or status.state == "exited":
            future.set_result(None)
            return future
        waiting = self._exits.setdefault(container_id, [])
        waiting.append(future)
        future.add_done_callback(lambda done: self._stop_waiting(container_id, done))
        return future

    async def wait_exited(self, container_id: str) -> None:
        """Returns when the container has exited or is gone."""
        await self.exit_future(container_id)

    def _stop_waiting(self, container_id: str, future: asyncio.Future[None]) -> None:
        waiting = self._exits.get(container_id)
        if waiting is not None and future in waiting:
            waiting.remove(future)
            if not waiting:
                del self._exits[container_id]

    def _exited(self, container_id: str) -> None:
        for future in self._exits.pop(container_id, ()):
            if not future.done():
                future.set_result(None)

    # -- updates -------------------------------------------------------------------------

    async def relist(self) -> set[str]:
        """Lists everything; returns the pods whose status has changed."""
        before = {uid: self.get(uid) for uid in self.uids()}
        sandboxes = await self._runtime.list_pod_sandboxes()
        containers = await self._runtime.list_containers()
        self._sandboxes.clear()
        self._containers.clear()
        self._status.clear()
        self._pod_of.clear()
        for sandbox in sandboxes:
            self._put_sandbox(sandbox)
        for container in containers:
            self._put_container(container)
        for container_id in self._exits.keys() - {c.id for c in containers}:
            self._exited(container_id)
        return {
            uid
            for uid in self.uids() | set(before)
            if before.get(uid, PodRuntimeStatus()) != self.get(uid)
        }

    async def refresh_container(self, uid: str, container_id: str) -> ContainerStatus | None:
        """Looks at one container again; None when it is gone."""
        status: ContainerStatus | None = None
        try:
            status = await self._runtime.container_status(container_id)
        except NotFound:
            self._containers.get(uid, {}).pop(container_id, None)
            self._pod_of.pop(container_id, None)
            self._exited(container_id)
        else:
            self._put_container(status, uid)
        self._status.pop(uid, None)
        return status

    async def refresh_sandbox(self, uid: str, sandbox_id: str) -> SandboxStatus | None:
        status: SandboxStatus | None = None
        try:
            status = await self._runtime.pod_sandbox_status(sandbox_id)
        except NotFound:
            self._sandboxes.get(uid, {}).pop(sandbox_id, None)
            self._pod_of.pop(sandbox_id, None)
        else:
            self._put_sandbox(status)
        self._status.pop(uid, None)
        return status

    async def on_event(self, event: RuntimeEvent) -> bool:
        """Takes an event in; true when the pod's status has changed."""
        uid = event.pod_uid or self.pod_of(event.container_id or event.sandbox_id)
        before = self.get(uid)
        if event.container_id:
            await self.refresh_container(uid, event.container_id)
        else:
            await self.refresh_sandbox(uid, event.sandbox_id)
        return self.get(uid) != before

    def forget(self, uid: str) -> None:
        """Everything of the pod has been removed."""
        for id_ in (*self._sandboxes.pop(uid, {}), *self._containers.pop(uid, {})):
            self._pod_of.pop(id_, None)
            self._exited(id_)
        self._status.pop(uid, None)

    def ids(self, uid: str) -> tuple[Iterable[str], Iterable[str]]:
        """(sandbox ids, container ids) of the pod."""
        return list(self._sandboxes.get(uid, ())), list(self._containers.get(uid, ()))

    def _put_sandbox(self, status: SandboxStatus) -> None:
        self._sandboxes.setdefault(status.uid, {})[status.id] = status
        self._pod_of[status.id] = status.uid

    def _put_container(self, status: ContainerStatus, uid: str = "") -> None:
        uid = uid or status.labels.get(UID_LABEL) or self.pod_of(status.sandbox_id)
        known = self._containers.get(uid, {}).get(status.id)
        if status.state == "exited" and not status.message:
            if known is not None and known.state == "exited":
                status = replace(status, message=known.message)
            else:
                status = replace(status, message=self._termination_message(status))
        self._containers.setdefault(uid, {})[status.id] = status
        self._pod_of[status.id] = uid
        if status.state == "exited":
            self._exited(status.id)
