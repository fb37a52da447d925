"""How often containers of this node have ended: the kubelet's terminated_containers_total.

Counted where the status manager learns of a pod's next status: once for each time that a
container's state becomes ``terminated`` (status_manager.go: updateStatusInternal).
"""

from __future__ import annotations

from pilothouse.apimachinery.object import Obj
from pilothouse.componentbase.metrics import Counter

STATUSES = {
    "initContainerStatuses": "init_container",
    "containerStatuses": "container",
    "ephemeralContainerStatuses": "ephemeral_container",
}


def counter() -> Counter:
    return Counter(
        "kubelet_terminated_containers_total",
        "[ALPHA] Cumulative number of container terminations.",
        ("container_type", "exit_code", "reason"),
    )


def count(total: Counter, old: Obj, new: Obj) -> None:
    """What has ended between two statuses of a pod."""
    for key, kind in STATUSES.items():
        before: dict[str, Obj] | None = None
        for status in new.get(key) or ():
            ended = (status.get("state") or {}).get("terminated")
            if ended is None:
                continue
            if before is None:
                before = {one["name"]: one.get("state") or {} for one in old.get(key) or ()}
            if before.get(status["name"], {}).get("terminated") is None:
                total.inc(kind, str(ended.get("exitCode", 0)), ended.get("reason") or "")
