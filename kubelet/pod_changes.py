"""Questions about one pod: what has changed, how long it may run, what the runtime knows (pure)."""

from __future__ import annotations

from datetime import datetime, timedelta

from pilothouse.apimachinery.object import Obj
from pilothouse.apimachinery.timefmt import parse_time
from pilothouse.kubelet.pod_cache import PodCache
from pilothouse.kubelet.runtime.pod_actions import PodRuntimeStatus

REFRESHED_VOLUMES = ("configMap", "secret", "projected", "downwardAPI")


def key_of(pod: Obj) -> str:
    return f"{pod['metadata'].get('namespace')}/{pod['metadata']['name']}"


def has_refreshed_volumes(pod: Obj) -> bool:
    """Whether what is mounted follows objects of the API."""
    volumes = pod["spec"].get("volumes") or ()
    return any(kind in volume for volume in volumes for kind in REFRESHED_VOLUMES)


def only_status_changed(old: Obj, new: Obj) -> bool:
    """Whether an update is (most likely) the echo of a status write."""
    if old["spec"] != new["spec"]:
        return False
    ignored = ("resourceVersion", "managedFields")
    before = {k: v for k, v in old["metadata"].items() if k not in ignored}
    after = {k: v for k, v in new["metadata"].items() if k not in ignored}
    return before == after


def foreign_conditions(pod: Obj) -> list[tuple[str, str]]:
    """Conditions that readiness gates may wait for."""
    gates = {gate["conditionType"] for gate in pod["spec"].get("readinessGates") or ()}
    conditions = (pod.get("status") or {}).get("conditions") or ()
    return [(c["type"], c["status"]) for c in conditions if c["type"] in gates]


def is_lost(pod: Obj, runtime: PodRuntimeStatus) -> bool:
    """Whether it ran, as the API has it, but nothing of it is there any more (the machine, or the
    cluster, was down): it isn't ready until it runs again."""
    return not runtime.sandboxes and (pod.get("status") or {}).get("phase") == "Running"


def pod_from_runtime(cache: PodCache, uid: str) -> Obj:
    """As much of a pod as the runtime remembers, enough to end it."""
    status = cache.get(uid)
    sandbox = status.sandbox
    return {
        "metadata": {
            "uid": uid,
            "name": sandbox.name if sandbox is not None else uid,
            "namespace": sandbox.namespace if sandbox is not None else "",
        },
        "spec": {"containers": [{"name": name} for name in status.containers]},
        "status": {},
    }


def deadline_left(pod: Obj, now: datetime) -> float | None:
    """Seconds until its activeDeadlineSeconds are over; None: it has no deadline (yet)."""
    seconds = pod["spec"].get("activeDeadlineSeconds")
    started = (pod.get("status") or {}).get("startTime")
    if seconds is None or not started:
        return None
    return (parse_time(started) + timedelta(seconds=seconds) - now).total_seconds()
