"""The status of an autoscaler while it is worked on. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pilothouse.apimachinery.object import copy_object, get_nested, meta

if TYPE_CHECKING:
    from pilothouse.apimachinery.object import Obj

ABLE, ACTIVE, LIMITED = "AbleToScale", "ScalingActive", "ScalingLimited"
SCALED_TO_ZERO = "ScaledToZero"


class Status:
    """Starts from the status that the object has; ``value`` is the new one."""

    def __init__(self, autoscaler: Obj, now: str) -> None:
        self.value: Obj = copy_object(autoscaler.get("status") or {})
        self._generation = meta(autoscaler).get("generation") or 0
        self._now = now

    def set(self, type_: str, status: bool, reason: str, message: str) -> None:
        conditions = self.value.get("conditions") or []
        self.value["conditions"] = conditions
        wanted = "True" if status else "False"
        for condition in conditions:
            if condition["type"] == type_:
                break
        else:
            condition = {"type": type_}
            conditions.append(condition)
        if condition.get("status") != wanted:
            condition["lastTransitionTime"] = self._now
        condition.update(status=wanted, reason=reason, message=message)

    def is_true(self, type_: str) -> bool:
        return any(
            condition["type"] == type_ and condition["status"] == "True"
            for condition in self.value.get("conditions") or ()
        )

    def replicas(
        self, current: int, desired: int | None, metrics: list[Obj], *, rescaled: bool = False
    ) -> None:
        """``desired`` None: as it was."""
        old = self.value
        if desired is None:
            desired = int(old.get("desiredReplicas") or 0)
        new: Obj = {
            "observedGeneration": self._generation,
            "currentReplicas": current,
            "desiredReplicas": desired,
        }
        last = self._now if rescaled else old.get("lastScaleTime")
        if last:
            new["lastScaleTime"] = last
        if metrics:
            new["currentMetrics"] = metrics
        new["conditions"] = old.get("conditions") or []
        self.value = new


def min_replicas(autoscaler: Obj) -> int:
    return int(get_nested(autoscaler, "spec", "minReplicas", default=1))


def has_shared_metrics(autoscaler: Obj) -> bool:
    """Whether there is a metric that can be had without any pod."""
    return any(
        metric.get("type") in ("Object", "External")
        for metric in get_nested(autoscaler, "spec", "metrics", default=())
    )
