"""Writes pods' statuses to the API server: only what changed, only the newest (status_manager.go).

``set`` only remembers; one writer task per kubelet sends what is due. Several changes of a pod
before its turn cost one write.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass

from pilothouse.apimachinery.errors import StatusError, is_not_found
from pilothouse.apimachinery.object import Obj
from pilothouse.componentbase.activity import ActivityTracker
from pilothouse.componentbase.tasks import TaskOwner
from pilothouse.kubeclient.interfaces import Client, DeleteOptions
from pilothouse.kubeclient.resources import PODS
from pilothouse.kubelet import terminations

log = logging.getLogger(__name__)
OWN_CONDITIONS = ("PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady")
PASSING_CONDITIONS = ("PodResizePending", "PodResizeInProgress")
"""Ours too, but only there while they are true."""
RETRY_SECONDS = 1.0


@dataclass(slots=True)
class _Due:
    pod: Obj
    status: Obj
    delete: bool = False
    """The pod has ended for good: delete the API object after the status."""


class StatusManager:
    def __init__(
        self,
        client: Client,
        activity: ActivityTracker,
        current: Callable[[str], Obj | None],
        call_later: Callable[[float, Callable[[], None]], object],
        concurrency: int = 8,
    ) -> None:
        """``current(uid)``: the API object as the informer has it (of a static pod its mirror)."""
        self._client = client
        self._activity = activity
        self._current = current
        self._call_later = call_later
        self._due: dict[str, _Due] = {}
        self._written: dict[str, tuple[Obj, int]] = {}
        """The last status that we wrote, by uid, and its resourceVersion: the informer may lag
        behind. What it shows after that counts: others (the node lifecycle controller) write,
        too, and what they changed has to be put right."""
        self._writing: set[str] = set()
        self._slots = concurrency
        self._flushes: list[asyncio.Future[None]] = []
        self._tasks = TaskOwner("status-manager")
        self.terminations = terminations.counter()

    async def stop(self) -> None:
        await self._tasks.close()
        for _ in self._due:
            self._activity.end("pod status")
        self._due.clear()

    async def flush(self) -> None:
        """Returns when what is due has been written, or can't be now."""
        while self._writing:
            written: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._flushes.append(written)
            await written

    def last(self, pod: Obj) -> Obj:
        """The pod with the newest status known: ours, if the API's is older."""
        uid = pod["metadata"]["uid"]
        due = self._due.get(uid)
        status = due.status if due is not None else self._unseen(uid, pod)
        return pod if status is None else pod | {"status": _merged(pod.get("status") or {}, status)}

    def _unseen(self, uid: str, pod: Obj) -> Obj | None:
        """What we wrote after this version of the pod, if anything."""
        status, version = self._written.get(uid, (None, 0))
        shown = int(pod["metadata"].get("resourceVersion") or 0)
        return status if shown < version else None

    def was_overwritten(self, pod: Obj) -> bool:
        """Whether somebody else has changed what we wrote (status_manager.go: needsReconcile)."""
        uid = pod["metadata"]["uid"]
        written = self._written.get(uid)
        if written is None or uid in self._writing:
            return False
        status, version = written
        newer = int(pod["metadata"].get("resourceVersion") or 0) > version
        return newer and status_patch(pod.get("status") or {}, status) is not None

    def set(self, pod: Obj, status: Obj, *, delete: bool = False) -> None:
        """``status`` is what the pod's should be; ``delete``: then delete the pod, it has ended."""
        uid = pod["metadata"]["uid"]
        if uid not in self._due:
            last = self.last(pod).get("status") or {}
            same = not delete and last.get("phase") == status["phase"]
            if same and status_patch(last, status) is None:
                return
            terminations.count(self.terminations, last, status)
            self._activity.begin("pod status")
            self._due[uid] = _Due(pod, status, delete)
        else:
            due = self._due[uid]
            terminations.count(self.terminations, due.status, status)
            due.pod, due.status, due.delete = pod, status, due.delete or delete
        self._start_writers()

    def forget(self, uid: str) -> None:
        """The pod is gone from the API."""
        self._written.pop(uid, None)
        if self._due.pop(uid, None) is not None:
            self._activity.end("pod status")

    def show_again(self, pod: Obj) -> bool:
        """The API has another object for this pod now, or somebody has changed what it tells.
        False: nothing was written yet."""
        uid = pod["metadata"]["uid"]
        if uid not in self._written:
            return uid in self._due
        if uid not in self._due:
            self._activity.begin("pod status")
            self._due[uid] = _Due(pod, self._written[uid][0])
            self._start_writers()
        return True

    def _start_writers(self) -> None:
        for uid in self._due:
            if len(self._writing) >= self._slots:
                return
            if uid not in self._writing:
                self._writing.add(uid)
                self._tasks.start(self._write(uid), f"write {uid}")

    async def _write(self, uid: str) -> None:
        try:
            # Let the pod's sync finish its turn: its next state may be due already.
            await asyncio.sleep(0)
            while (due := self._due.get(uid)) is not None:
                if not await self._write_once(uid, due):
                    return
                if self._due.get(uid) is due:
                    del self._due[uid]
                    self._activity.end("pod status")
        finally:
            self._writing.discard(uid)
            flushes, self._flushes = self._flushes, []
            for flush in flushes:
                if not flush.done():
                    flush.set_result(None)
            if len(self._due) > len(self._writing):
                self._start_writers()

    async def _write_once(self, uid: str, due: _Due) -> bool:
        """False: it did not work now; it is tried again later."""
        status, pod, delete = due.status, due.pod, due.delete
        try:
            live = self._current(uid) or pod
            known = self._unseen(uid, live)
            base = live.get("status") or {}
            patch = status_patch(_merged(base, known) if known else base, status)
            if patch is not None:
                self._written[uid] = status, await self._patch(live, patch)
            if delete:
                await self._delete(live)
        except (StatusError, OSError) as error:
            if is_not_found(error) or (isinstance(error, StatusError) and error.code == 409):
                return True  # deleted, or replaced by another of the same name
            log.warning("status of %s was not written: %s", pod["metadata"]["name"], error)
            self._activity.end("pod status")
            retry = self._due.pop(uid)
            self._call_later(RETRY_SECONDS, lambda: self._retry(retry))
            return False
        if self._due.get(uid) is due and (due.status is not status or due.delete is not delete):
            return await self._write_once(uid, due)
        return True

    def _retry(self, due: _Due) -> None:
        uid = due.pod["metadata"]["uid"]
        if uid not in self._due and self._current(uid) is not None:
            self.set(due.pod, due.status, delete=due.delete)

    async def _patch(self, pod: Obj, patch: Obj) -> int:
        metadata = pod["metadata"]
        written = await self._client.patch(
            PODS,
            metadata["name"],
            {"metadata": {"uid": metadata["uid"]}, "status": patch},
            "application/strategic-merge-patch+json",
            metadata.get("namespace") or "",
            subresource="status",
            field_manager="kubelet",
        )
        return int(written["metadata"].get("resourceVersion") or 0)

    async def _delete(self, pod: Obj) -> None:
        metadata = pod["metadata"]
        await self._client.delete(
            PODS,
            metadata["name"],
            metadata.get("namespace") or "",
            DeleteOptions(grace_period_seconds=0, precondition_uid=metadata["uid"]),
        )


def status_patch(old: Obj, new: Obj) -> Obj | None:
    """A strategic merge patch from ``old`` to ``new``; conditions of others stay. None: equal."""
    patch: Obj = {}
    for key, value in new.items():
        if key == "conditions":
            changed = _changed_conditions(old.get(key) or (), value)
            if changed:
                patch[key] = changed
        elif old.get(key) != value and not (value in ([], {}, "") and key not in old):
            patch[key] = _with_replaced_ips(key, old.get(key), value)
    for key in ("reason", "message"):
        if key in old and key not in new:
            patch[key] = None
    return patch or None


def _changed_conditions(old: object, new: list[Obj]) -> list[Obj]:
    """Conditions that differ; what they no longer have (a reason) is null, which removes it."""
    before = {c["type"]: c for c in old}  # type: ignore[attr-defined]
    changed = []
    for condition in new:
        known = {k: v for k, v in before.get(condition["type"], {}).items() if v is not None}
        if known != {k: v for k, v in condition.items() if v is not None}:
            changed.append(dict.fromkeys(known) | condition)
    left = before.keys() - {c["type"] for c in new}
    changed += ({"$patch": "delete", "type": t} for t in PASSING_CONDITIONS if t in left)
    return changed


def _with_replaced_ips(key: str, old: object, value: object) -> object:
    """podIPs and hostIPs are merged by address: old addresses must be removed by name. What a
    pod has of resources counts as a whole, too."""
    if key in ("resources", "allocatedResources") and old:
        return {"$patch": "replace", **value}  # type: ignore[dict-item]
    if key not in ("podIPs", "hostIPs") or not old:
        return value
    return [{"$patch": "replace"}, *value]  # type: ignore[misc]


def _merged(base: Obj, ours: Obj) -> Obj:
    """``base`` with what we own taken from ``ours``."""
    merged = base | ours
    own = {c["type"]: c for c in ours.get("conditions") or ()}
    foreign = own.keys() | set(PASSING_CONDITIONS)
    others = [c for c in base.get("conditions") or () if c["type"] not in foreign]
    merged["conditions"] = [*others, *own.values()]
    return merged
