"""Stops containers and pods: preStop hooks, stop signals, grace periods (killContainer).

Part of the runtime manager. Sidecars go after the others (``termination_order.py``).
"""

from __future__ import annotations

import asyncio
import logging

from pilothouse.apimachinery.clock import Clock
from pilothouse.apimachinery.object import Obj
from pilothouse.kubeclient.record import EventRecorder
from pilothouse.kubelet.interfaces import HookError, Hooks
from pilothouse.kubelet.pod_cache import PodCache
from pilothouse.kubelet.runtime.errors import NotFound
from pilothouse.kubelet.runtime.interfaces import RuntimeService
from pilothouse.kubelet.runtime.pod_actions import ContainerToKill
from pilothouse.kubelet.runtime.restart_all import ContainerToReset
from pilothouse.kubelet.runtime.termination_order import TerminationOrder

log = logging.getLogger(__name__)
MIN_GRACE_SECONDS = 2
LISTS = {"init": "initContainers", "container": "containers", "ephemeral": "ephemeralContainers"}


class Killer:
    def __init__(
        self,
        runtime: RuntimeService,
        *,
        cache: PodCache,
        hooks: Hooks,
        recorder: EventRecorder,
        clock: Clock,
    ) -> None:
        self._runtime = runtime
        self._cache = cache
        self._hooks = hooks
        self._recorder = recorder
        self._clock = clock

    async def reset(self, pod: Obj, reset: ContainerToReset) -> None:
        """Removes a container at once; its logs stay."""
        if reset.kill:
            message = f"Stopping container {reset.name}"
            await self.kill_container(pod, ContainerToKill(reset.id, reset.name, message), 0)
        try:
            await self._runtime.remove_container(reset.id)
        except NotFound:
            pass
        await self._cache.refresh_container(pod["metadata"]["uid"], reset.id)

    async def kill_pod(self, pod: Obj, grace_seconds: int | None) -> None:
        """Stops all running containers, then the sandboxes.

        ``grace_seconds`` overrides the pod's own grace period. All preStop hooks run at once;
        sidecars are stopped after the others.
        """
        uid = pod["metadata"]["uid"]
        status = self._cache.get(uid)
        order = TerminationOrder(pod["spec"], [c.name for c in status.running])
        kills = [
            self.kill_container(
                pod,
                ContainerToKill(c.id, c.name, f"Stopping container {c.name}"),
                grace_seconds,
                order,
            )
            for c in status.running
        ]
        await asyncio.gather(*kills)
        for sandbox in status.sandboxes:
            if sandbox.state == "ready":
                await self._runtime.stop_pod_sandbox(sandbox.id)
            await self._cache.refresh_sandbox(uid, sandbox.id)

    async def kill_container(
        self,
        pod: Obj,
        kill: ContainerToKill,
        grace_seconds: int | None,
        order: TerminationOrder | None = None,
    ) -> None:
        """preStop hook, its turn, stop signal, and KILL when the grace period is over."""
        uid = pod["metadata"]["uid"]
        list_name, container = _find_container(pod, kill.name)
        path = f"spec.{list_name}{{{kill.name}}}"
        grace = self._grace(pod, container, kill, grace_seconds)
        self._recorder.event(pod, "Normal", "Killing", kill.message, field_path=path)
        started = self._clock.monotonic()
        handler = ((container or {}).get("lifecycle") or {}).get("preStop")
        left = grace
        if handler and grace > 0:
            await self._pre_stop(pod, kill, handler, grace, path)
            left = grace - int(self._clock.monotonic() - started)
        if order is not None and left > 0:
            await order.turn(kill.name, left)
            left = grace - int(self._clock.monotonic() - started)
        if left != grace:
            left = max(left, MIN_GRACE_SECONDS)
        try:
            await self._runtime.stop_container(kill.id, left)
        except NotFound:
            pass
        finally:
            if order is not None:
                order.ended(kill.name)
        await self._cache.refresh_container(uid, kill.id)

    @staticmethod
    def _grace(
        pod: Obj, container: Obj | None, kill: ContainerToKill, grace_seconds: int | None
    ) -> int:
        if grace_seconds is not None:
            return grace_seconds
        if kill.reason == "unhealthy" and container is not None:
            for probe in ("livenessProbe", "startupProbe"):
                own = (container.get(probe) or {}).get("terminationGracePeriodSeconds")
                if own is not None:
                    return int(own)
        return int(pod["spec"].get("terminationGracePeriodSeconds") or 0)

    async def _pre_stop(
        self, pod: Obj, kill: ContainerToKill, handler: Obj, grace: int, path: str
    ) -> None:
        sandbox = self._cache.get(pod["metadata"]["uid"]).sandbox
        ip = sandbox.ips[0] if sandbox is not None and sandbox.ips else ""
        try:
            async with asyncio.timeout(grace):
                await self._hooks.run(pod, kill.id, handler, ip)
        except (HookError, TimeoutError) as error:
            log.info("preStop hook of %s failed: %s", kill.name, error)
            self._recorder.event(
                pod, "Warning", "FailedPreStopHook", "PreStopHook failed", field_path=path
            )


def _find_container(pod: Obj, name: str) -> tuple[str, Obj | None]:
    for list_name in LISTS.values():
        for container in pod["spec"].get(list_name) or ():
            if container["name"] == name:
                return list_name, container
    return "containers", None
