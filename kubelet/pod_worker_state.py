"""One pod's life on this node as a state machine (pure; pod_workers.go).

SYNC: keep it as the spec says. TERMINATING: it must end (deleted, finished, evicted, past its
deadline); its containers are being stopped. TERMINATED: nothing of it runs; the final status is
due. States only go forward; a pod of the same name later has another uid and a state of its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from pilothouse.apimachinery.object import Obj


class Phase(Enum):
    SYNC = "sync"
    TERMINATING = "terminating"
    TERMINATED = "terminated"


@dataclass(slots=True)
class PodWorkerState:
    """``dirty``: something changed since the last look. The worker clears it before it looks.
    ``only_refreshes``: the next look, if nothing happens before, only keeps volumes fresh."""

    pod: Obj
    phase: Phase = Phase.SYNC
    dirty: bool = True
    only_refreshes: bool = False
    deleted: bool = False
    """The API object is gone: nobody wants a status any more."""
    failure: tuple[str, str] | None = None
    """(reason, message) when the kubelet itself ended the pod."""
    grace_seconds: int | None = None
    """Overrides the pod's own; only ever gets shorter."""
    removed: bool = False
    """Containers, volumes and files are gone, too."""

    def update(self, pod: Obj) -> None:
        """A new version of the object."""
        self.pod = pod
        self.dirty = True
        metadata = pod["metadata"]
        if "deletionTimestamp" in metadata:
            grace = metadata.get("deletionGracePeriodSeconds")
            self.terminate(None, int(grace) if grace is not None else None)

    def object_gone(self) -> None:
        self.deleted = True
        self.dirty = True
        self.terminate(None, None if self.grace_seconds is not None else 0)

    def terminate(self, failure: tuple[str, str] | None, grace_seconds: int | None) -> None:
        """The pod must end. A shorter grace period than before counts."""
        self.failure = self.failure or failure
        if grace_seconds is not None and (
            self.grace_seconds is None or grace_seconds < self.grace_seconds
        ):
            self.grace_seconds = grace_seconds
            self.dirty = True
        if self.phase is Phase.SYNC:
            self.phase = Phase.TERMINATING
            self.dirty = True

    def stopped(self) -> None:
        """No container runs any more."""
        if self.phase is Phase.TERMINATING:
            self.phase = Phase.TERMINATED
            self.dirty = True

    @property
    def urgency(self) -> tuple[object, ...]:
        """Changes when the step under way has become the wrong one."""
        return (self.phase, self.grace_seconds)

    @property
    def finished(self) -> bool:
        """The worker may forget the pod."""
        return self.phase is Phase.TERMINATED and self.deleted and self.removed
