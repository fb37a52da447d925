"""What the script does in a kubelet's place: writes statuses of pods and lets deleted ones go."""

from __future__ import annotations

import re
from contextlib import suppress
from typing import Any

from hack.differential_controllers.worlds import World
from pilothouse.apimachinery.errors import StatusError
from pilothouse.apimachinery.timefmt import format_time
from pilothouse.kubeclient.interfaces import DeleteOptions
from pilothouse.kubeclient.resources import PODS

Obj = dict[str, Any]
_ENDED = ("Succeeded", "Failed")
_ROUNDS = 60


class Kubelet:
    """Of all nodes, for the pods of one namespace."""

    def __init__(self, world: World, namespace: str, number: int) -> None:
        self._world, self._namespace = world, namespace
        self._address = number * 256

    async def pods(self, match: str = "") -> list[Obj]:
        listed = await self._world.client.list(PODS, self._namespace)
        pods: list[Obj] = sorted(listed.items, key=lambda pod: pod["metadata"]["name"])
        return [pod for pod in pods if re.search(match, pod["metadata"]["name"])]

    async def run(
        self, *, one: bool = False, hold: str = "", ready: bool = True, quiet: float = 1.0
    ) -> None:
        """Everything that a kubelet would do, until there is nothing to do any more; ``one`` pod
        at a time. Pods whose names match ``hold`` don't get on."""
        for _ in range(_ROUNDS):
            await self._world.quiet(self._namespace, quiet)
            waiting = [pod for pod in await self.pods() if _has_work(pod)]
            if hold:
                waiting = [p for p in waiting if not re.search(hold, p["metadata"]["name"])]
            if not waiting:
                return
            for pod in waiting[:1] if one else waiting:
                await self._step(pod, ready)

    async def _step(self, pod: Obj, ready: bool) -> None:
        if not pod["metadata"].get("deletionTimestamp"):
            await self.write(pod, {"phase": "Running", "ready": ready})
            return
        if (pod.get("status") or {}).get("phase") not in _ENDED:
            await self.write(pod, {"phase": "Failed", "exit": 137})
        with suppress(StatusError):
            await self._world.client.delete(
                PODS, pod["metadata"]["name"], self._namespace, DeleteOptions(0)
            )

    async def write(self, pod: Obj, wanted: Obj) -> None:
        """A status with that ``phase``; ``ready``, ``exit``, ``reason``, ``message``, ``restarts``
        and ``conditions`` (beside those that all pods have) as wanted."""
        now = format_time(self._world.now())
        phase = wanted["phase"]
        running = phase == "Running"
        ready = bool(wanted.get("ready", True)) and running
        conditions = {"Initialized": True, "PodReadyToStartContainers": running,
                      "Ready": ready, "ContainersReady": ready}  # fmt: skip
        entries = [_condition(type_, on, phase, now) for type_, on in conditions.items()]
        entries += [{"lastTransitionTime": now, **c} for c in wanted.get("conditions") or ()]
        status: Obj = {
            "phase": phase,
            "conditions": entries,
            "containerStatuses": [
                _container(c, wanted, now, ready) for c in pod["spec"]["containers"]
            ],
        }
        old = pod.get("status") or {}
        if "startTime" not in old:
            status["startTime"] = now
        if not old.get("podIP"):
            status["podIP"] = wanted.get("ip") or self._next_address()
            status["podIPs"] = [{"ip": status["podIP"]}]
            status["hostIP"] = "192.168.7.1"
            status["hostIPs"] = [{"ip": "192.168.7.1"}]
        for key in ("reason", "message"):
            if key in wanted:
                status[key] = wanted[key]
        await self._patch(pod, {"status": status})

    async def _patch(self, pod: Obj, patch: Obj) -> None:
        metadata = pod["metadata"]
        with suppress(StatusError):
            await self._world.client.patch(
                PODS, metadata["name"], patch, "application/strategic-merge-patch+json",
                metadata["namespace"], subresource="status", field_manager="kubelet",
            )  # fmt: skip

    def _next_address(self) -> str:
        self._address += 1
        return f"10.77.{self._address >> 8 & 255}.{self._address & 255}"


def _has_work(pod: Obj) -> bool:
    if not pod["spec"].get("nodeName"):
        return False
    phase = (pod.get("status") or {}).get("phase")
    if not pod["metadata"].get("deletionTimestamp"):
        return phase == "Pending"
    # Finalizers keep it: there is nothing more that a kubelet could do.
    return pod["metadata"].get("deletionGracePeriodSeconds") != 0 or phase not in _ENDED


def _condition(type_: str, on: bool, phase: str, now: str) -> Obj:
    made = {"type": type_, "status": "True" if on else "False", "lastTransitionTime": now}
    if not on and phase == "Succeeded":
        made["reason"] = "PodCompleted"
    return made


def _container(container: Obj, wanted: Obj, now: str, ready: bool) -> Obj:
    phase = wanted["phase"]
    state: Obj = {"running": {"startedAt": now}}
    if phase in _ENDED:
        code = wanted.get("exit", 0 if phase == "Succeeded" else 1)
        reason = "Completed" if code == 0 else "Error"
        state = {"terminated": {"exitCode": code, "reason": reason, "finishedAt": now,
                                "startedAt": now}}  # fmt: skip
    elif phase == "Pending":
        state = {"waiting": {"reason": wanted.get("waiting", "ContainerCreating")}}
    return {
        "name": container["name"], "image": container.get("image", ""), "imageID": "",
        "ready": ready, "started": phase == "Running", "state": state, "lastState": {},
        "restartCount": wanted.get("restarts", 0),
    }  # fmt: skip
