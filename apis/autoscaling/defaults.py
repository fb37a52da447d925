"""Defaults of HorizontalPodAutoscalers (autoscaling/v2, the stored form)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pilothouse.apimachinery.object import Obj

DEFAULT_CPU_UTILIZATION = 80


def set_autoscaler_defaults(autoscaler: Obj) -> None:
    spec = autoscaler.setdefault("spec", {})
    if spec.get("minReplicas") is None:
        spec["minReplicas"] = 1
    if not spec.get("metrics"):
        target = {"type": "Utilization", "averageUtilization": DEFAULT_CPU_UTILIZATION}
        spec["metrics"] = [{"type": "Resource", "resource": {"name": "cpu", "target": target}}]
    behavior = spec.get("behavior")
    if behavior is not None:
        behavior["scaleUp"] = scale_up_rules(behavior.get("scaleUp"))
        behavior["scaleDown"] = scale_down_rules(behavior.get("scaleDown"))


def scale_up_rules(rules: Obj | None) -> Obj:
    """By default at once: the larger of four pods and double, each 15 seconds."""
    defaults: dict[str, Any] = {
        "stabilizationWindowSeconds": 0,
        "selectPolicy": "Max",
        "policies": [
            {"type": "Pods", "value": 4, "periodSeconds": 15},
            {"type": "Percent", "value": 100, "periodSeconds": 15},
        ],
    }
    return _filled(rules, defaults)


def scale_down_rules(rules: Obj | None) -> Obj:
    """The stabilization window stays unset: the controller's own applies."""
    defaults: dict[str, Any] = {
        "selectPolicy": "Max",
        "policies": [{"type": "Percent", "value": 100, "periodSeconds": 15}],
    }
    return _filled(rules, defaults)


def _filled(rules: Obj | None, defaults: Obj) -> Obj:
    given = {key: value for key, value in (rules or {}).items() if value is not None}
    return {**defaults, **given}
