"""In-place resizes as a pod's status and events tell of them (allocation_manager.go).

A resize is pending while the node has no room for it (tried again when room appears), in progress
from when it was allowed until its containers have it, and then over.
"""

from __future__ import annotations

import json
from typing import Any

from pilothouse.apimachinery.object import Obj
from pilothouse.apis.core.qos import pod_qos
from pilothouse.kubeclient.record import EventRecorder
from pilothouse.kubelet.admission import PodAdmission

Reason = tuple[str, str]
_QOS = {"Guaranteed": 0, "Burstable": 1, "BestEffort": 2}


class Resizes:
    """Of one node."""

    def __init__(self, admission: PodAdmission, recorder: EventRecorder) -> None:
        self._admission = admission
        self._recorder = recorder
        self._pending: dict[str, tuple[Obj, Reason]] = {}
        self._progress: dict[str, tuple[Obj, Reason]] = {}

    def pending(self, uid: str) -> Reason | None:
        found = self._pending.get(uid)
        return found[1] if found is not None else None

    def progress(self, uid: str) -> Reason | None:
        found = self._progress.get(uid)
        return found[1] if found is not None else None

    def waiting(self) -> list[str]:
        """Uids of pods whose resize may fit once there is room, the most important first."""
        deferred = [pod for pod, (reason, _) in self._pending.values() if reason == "Deferred"]
        deferred.sort(key=lambda pod: (-int(pod["spec"].get("priority") or 0), _QOS[pod_qos(pod)]))
        return [pod["metadata"]["uid"] for pod in deferred]

    def allowed(self, pod: Obj, node: Obj) -> tuple[Obj, bool]:
        """The pod with the resources that this node can give it; whether that is a change."""
        uid = pod["metadata"]["uid"]
        allowed, problem, changed = self._admission.resize(pod, node)
        if problem is None:
            self._pending.pop(uid, None)
        elif self.pending(uid) != problem:
            self._pending[uid] = (pod, problem)
            text = message(f"Pod resize {problem[0]}", pod, problem[1])
            self._recorder.event(pod, "Warning", f"Resize{problem[0]}", text)
        if changed:
            self._progress[uid] = (pod, ("", ""))
            self._recorder.event(pod, "Normal", "ResizeStarted", message("Pod resize started", pod))
        return allowed, changed

    def actuated(self, pod: Obj, error: str, *, unfinished: bool) -> None:
        """The runtime has been told. ``error``: why it could not do it."""
        uid = pod["metadata"]["uid"]
        begun = self._progress.get(uid)
        if error:
            if begun is None or begun[1] != ("Error", error):
                self._progress[uid] = (pod, ("Error", error))
                text = message("Pod resize error", pod, error)
                self._recorder.event(pod, "Warning", "ResizeError", text)
        elif unfinished:
            self._progress[uid] = (pod, ("", ""))
        elif begun is not None:
            del self._progress[uid]
            self._recorder.event(
                pod, "Normal", "ResizeCompleted", message("Pod resize completed", begun[0])
            )

    def forget(self, uid: str) -> None:
        self._pending.pop(uid, None)
        self._progress.pop(uid, None)


def message(prefix: str, pod: Obj, error: str = "") -> str:
    """With the resources that the pod wants, as JSON."""
    summary: dict[str, Any] = {}
    for kind in ("initContainers", "containers"):
        listed = pod["spec"].get(kind) or ()
        if listed:
            summary[kind] = [
                {"name": c["name"], "resources": c.get("resources") or {}} for c in listed
            ]
    summary["generation"] = pod["metadata"].get("generation") or 0
    if error:
        summary["error"] = error
    return f"{prefix}: {json.dumps(summary, separators=(',', ':'))}"
