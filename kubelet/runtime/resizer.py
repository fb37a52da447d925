"""Carries out in-place resizes: a pod's own limits and those of its running containers.

Part of the runtime manager; what is due is decided in ``resizes.py``. The kernel wants the pod to
have at least what each container has: the pod is widened first and narrowed last, and a container
that restarts for its new resources starts in between.
"""

from __future__ import annotations

import logging

from pilothouse.apimachinery.object import Obj
from pilothouse.apimachinery.quantity import Quantity
from pilothouse.kubelet.pod_cache import PodCache
from pilothouse.kubelet.runtime.container_specs import container_resources, pod_resources
from pilothouse.kubelet.runtime.errors import RuntimeFailure, Unsupported
from pilothouse.kubelet.runtime.interfaces import Resources, RuntimeService
from pilothouse.kubelet.runtime.killing import Killer
from pilothouse.kubelet.runtime.pod_actions import ContainerToKill
from pilothouse.kubelet.runtime.resizes import GivenResources, Resize, pending, widest

log = logging.getLogger(__name__)


class Resizer:
    def __init__(
        self,
        runtime: RuntimeService,
        cache: PodCache,
        killer: Killer,
        *,
        node_memory: int = 0,
        pids_limit: int = 0,
    ) -> None:
        self._runtime = runtime
        self._cache = cache
        self._killer = killer
        self._node_memory = node_memory
        self._pids_limit = pids_limit
        self._given = GivenResources()
        self._pods: dict[str, Resources] = {}
        """What each pod as a whole has been given, by uid."""
        self._restarting: set[str] = set()
        """Containers that ended for a resize."""

    def of_pod(self, pod: Obj) -> Resources:
        return pod_resources(pod, self._pids_limit)

    def note_sandbox(self, uid: str, resources: Resources | None) -> None:
        """A sandbox was made with these."""
        if resources is not None:
            self._pods[uid] = resources

    def forget(self, container_id: str) -> None:
        self._given.forget(container_id)
        self._restarting.discard(container_id)

    def forget_pod(self, uid: str) -> None:
        self._pods.pop(uid, None)

    def restarts(self, container_id: str) -> bool:
        """Whether it ended for a resize: it starts again without a back-off."""
        return container_id in self._restarting

    def in_progress(self, pod: Obj) -> bool:
        uid = pod["metadata"]["uid"]
        status = self._cache.get(uid)
        newest = (history[0] for history in status.containers.values() if history)
        if any(container.id in self._restarting for container in newest):
            return True
        if pending(pod, status, self._given):
            return True
        return self._pods.get(uid) not in (None, self.of_pod(pod))

    def behind(self, pod: Obj) -> dict[str, Obj]:
        """What running containers (by id) have that isn't what the spec says."""
        due = pending(pod, self._cache.get(pod["metadata"]["uid"]), self._given)
        return {resize.id: resize.have for resize in due}

    def pod_behind(self, pod: Obj) -> Resources | None:
        have = self._pods.get(pod["metadata"]["uid"])
        return have if have is not None and have != self.of_pod(pod) else None

    async def widen(self, pod: Obj) -> None:
        """Before containers start: the pod has room for them."""
        want = self.of_pod(pod)
        have = self._pods.get(pod["metadata"]["uid"])
        if have is not None and have != want:
            await self._limit_pod(pod, widest(have, want))

    async def resize(self, pod: Obj) -> str:
        """Does what is due; answers why it can't be done (yet), or ''."""
        uid = pod["metadata"]["uid"]
        due = pending(pod, self._cache.get(uid), self._given)
        want = self.of_pod(pod)
        have = self._pods.get(uid)
        if not due and have == want:
            return ""
        try:
            problem = await self._too_small(pod, due, have, want)
            if problem:
                return problem
            if due:
                await self._limit_pod(pod, widest(have or want, want))
            for resize in due:
                await self._resize(pod, resize)
            if not any(resize.restart for resize in due):
                await self._limit_pod(pod, want)
        except RuntimeFailure as error:
            log.warning("resize of %s failed: %s", pod["metadata"]["name"], error)
            return str(error)
        return ""

    async def _limit_pod(self, pod: Obj, resources: Resources) -> None:
        uid = pod["metadata"]["uid"]
        sandbox = self._cache.get(uid).sandbox
        if sandbox is None or sandbox.state != "ready" or self._pods.get(uid) == resources:
            return
        try:
            await self._runtime.update_pod_sandbox_resources(sandbox.id, resources)
        except Unsupported:
            pass  # this runtime has no limits: nothing to change
        self._pods[uid] = resources

    async def _resize(self, pod: Obj, resize: Resize) -> None:
        """New limits for a running container, or its end, after which it starts with these."""
        container = resize.container
        if resize.restart:
            message = f"Container {container['name']} resize requires restart"
            kill = ContainerToKill(resize.id, container["name"], message)
            self._restarting.add(resize.id)
            await self._killer.kill_container(pod, kill, None)
            return
        resources = container_resources(pod, container, self._node_memory)
        try:
            await self._runtime.update_container_resources(resize.id, resources)
        except Unsupported:
            pass
        self._given.note(resize.id, resize.want)

    async def _too_small(
        self, pod: Obj, due: list[Resize], have: Resources | None, want: Resources
    ) -> str:
        """Neither the pod nor a running container may get less memory than it uses."""
        problems = []
        if have is not None and _shrinks(have.memory_limit, want.memory_limit):
            running = self._cache.get(pod["metadata"]["uid"]).running
            used = sum([await self._memory(container.id) for container in running])
            if used >= want.memory_limit:
                problems.append(
                    f"attempting to set pod memory limit ({want.memory_limit}) "
                    f"below current usage ({used})"
                )
        for resize in due:
            before, limit = (
                Quantity.parse((r.get("limits") or {}).get("memory") or 0).value()
                for r in (resize.have, resize.want)
            )
            if resize.restart or not _shrinks(before, limit):
                continue
            used = await self._memory(resize.id)
            if used >= limit:
                problems.append(
                    f'attempting to set container "{resize.container["name"]}" memory limit '
                    f"({limit}) below current usage ({used})"
                )
        if not problems:
            return ""
        listed = problems[0] if len(problems) == 1 else f"[{', '.join(problems)}]"
        return f"cannot decrease memory limits: {listed}"

    async def _memory(self, container_id: str) -> int:
        return (await self._runtime.container_stats(container_id)).memory_usage_bytes


def _shrinks(before: int, limit: int) -> bool:
    """Whether a limit of memory is new or less than before; 0 is none."""
    return bool(limit) and not 0 < before <= limit
