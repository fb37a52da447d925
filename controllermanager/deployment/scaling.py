"""The arithmetic of a rollout: how many replicas each ReplicaSet should have. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from pilothouse.apimachinery.object import Obj, get_nested
from pilothouse.controllermanager.deployment.revisions import (
    DESIRED_REPLICAS,
    MAX_REPLICAS,
    annotations_of,
    creation_order,
)
from pilothouse.controllermanager.intstr import scaled_value
from pilothouse.controllermanager.replicaset import replicas_of

MAX_INT32 = (1 << 31) - 1


def is_rolling_update(deployment: Obj) -> bool:
    kind = get_nested(deployment, "spec", "strategy", "type", default="RollingUpdate")
    return bool(kind == "RollingUpdate")


def resolve_fenceposts(deployment: Obj) -> tuple[int, int]:
    """(maxSurge, maxUnavailable) as numbers; never both 0, or nothing could move."""
    rolling = get_nested(deployment, "spec", "strategy", "rollingUpdate", default={})
    desired = replicas_of(deployment)
    surge = scaled_value(rolling.get("maxSurge"), desired, round_up=True)
    unavailable = scaled_value(rolling.get("maxUnavailable"), desired, round_up=False)
    if surge == 0 and unavailable == 0:
        unavailable = 1
    return surge, unavailable


def max_surge(deployment: Obj) -> int:
    return resolve_fenceposts(deployment)[0] if is_rolling_update(deployment) else 0


def max_unavailable(deployment: Obj) -> int:
    desired = replicas_of(deployment)
    if not is_rolling_update(deployment) or desired == 0:
        return 0
    return min(resolve_fenceposts(deployment)[1], desired)


def total_replicas(replica_sets: Iterable[Obj]) -> int:
    """What they ask for."""
    return sum(replicas_of(rs) for rs in replica_sets)


def status_count(replica_sets: Iterable[Obj], field: str) -> int:
    """What they report."""
    return sum(get_nested(rs, "status", field, default=0) for rs in replica_sets)


def new_replicas(deployment: Obj, everything: Sequence[Obj], new: Obj) -> int:
    """How far the new ReplicaSet may grow now."""
    desired, current = replicas_of(deployment), replicas_of(new)
    if not is_rolling_update(deployment):
        return desired
    rolling = get_nested(deployment, "spec", "strategy", "rollingUpdate", default={})
    surge = scaled_value(rolling.get("maxSurge"), desired, round_up=True)
    room = desired + surge - total_replicas(everything)
    if room <= 0:
        return current
    return current + min(room, desired - current)


def may_scale_down(deployment: Obj, everything: Sequence[Obj], new: Obj) -> int:
    """How many old replicas may go at most, new ones that are not available yet kept aside."""
    minimum = replicas_of(deployment) - max_unavailable(deployment)
    unavailable_new = replicas_of(new) - status_count((new,), "availableReplicas")
    return total_replicas(everything) - minimum - unavailable_new


def active(replica_sets: Iterable[Obj]) -> list[Obj]:
    return [rs for rs in replica_sets if replicas_of(rs) > 0]


def active_or_latest(new: Obj | None, old: Sequence[Obj]) -> Obj | None:
    """The only ReplicaSet with replicas, or the newest when none has; None when several do."""
    everything = [*old, new] if new is not None else list(old)
    running = active(everything)
    if len(running) == 1:
        return running[0]
    if running or not everything:
        return None
    return new if new is not None else max(old, key=creation_order)


def is_saturated(deployment: Obj, new: Obj | None) -> bool:
    """The new ReplicaSet alone is all that is wanted."""
    if new is None:
        return False
    desired = replicas_of(deployment)
    return (
        replicas_of(new) == desired
        and annotations_of(new).get(DESIRED_REPLICAS) == str(desired)
        and status_count((new,), "availableReplicas") == desired
    )


def proportional_sizes(deployment: Obj, replica_sets: Sequence[Obj]) -> list[tuple[Obj, int]]:
    """Spreads a change of ``spec.replicas`` in mid-rollout over the ReplicaSets by size; the
    largest takes what rounding leaves over."""
    desired = replicas_of(deployment)
    allowed = desired + max_surge(deployment) if desired > 0 else 0
    to_add = allowed - total_replicas(replica_sets)
    ordered = sorted(replica_sets, key=creation_order, reverse=to_add > 0)
    ordered.sort(key=replicas_of, reverse=True)
    sizes: list[tuple[Obj, int]] = []
    added = 0
    for replica_set in ordered:
        share = _proportion(replica_set, deployment, to_add, added) if to_add else 0
        added += share
        sizes.append((replica_set, replicas_of(replica_set) + share))
    if sizes and to_add:
        first, size = sizes[0]
        sizes[0] = (first, max(0, size + to_add - added))
    return sizes


def _proportion(replica_set: Obj, deployment: Obj, to_add: int, added: int) -> int:
    if replicas_of(replica_set) == 0 or to_add == added:
        return 0
    fraction = _fraction(replica_set, deployment)
    left = to_add - added
    return min(fraction, left) if to_add > 0 else max(fraction, left)


def _fraction(replica_set: Obj, deployment: Obj) -> int:
    current, desired = replicas_of(replica_set), replicas_of(deployment)
    if desired == 0:
        return -current
    before = replicas_annotation(replica_set, MAX_REPLICAS)
    if not before:
        before = get_nested(deployment, "status", "replicas", default=0)
        if not before:
            return 0
    new_size = current * (desired + max_surge(deployment)) / before
    return math.floor(new_size + 0.5) - current


def replicas_annotation(replica_set: Obj, name: str) -> int | None:
    """A non-negative int32, or None."""
    text = annotations_of(replica_set).get(name, "")
    if not text.isascii() or not text.isdigit():
        return None
    value = int(text)
    return value if value <= MAX_INT32 else None
