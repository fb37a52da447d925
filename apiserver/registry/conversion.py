"""Between served and stored versions of the built-in kinds that have two.

``events.k8s.io/v1`` Events are stored as core ones, ``autoscaling/v1`` autoscalers as v2.
Pure functions to new objects; unchanged parts are shared with the input.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from pilothouse.apimachinery.errors import new_bad_request
from pilothouse.apimachinery.schema import GroupVersionResource
from pilothouse.apis.schemas import definition
from pilothouse.apiserver.codec.coercion import CoercionError, coerce
from pilothouse.apiserver.registry.autoscaling.metrics_v1 import (
    metric_from_v1,
    metric_to_v1,
    status_from_v1,
    status_to_v1,
)
from pilothouse.apiserver.registry.core.event_conversion import CONVERTER as EVENT_CONVERTER

if TYPE_CHECKING:
    from pilothouse.apimachinery.object import Obj
    from pilothouse.apiserver.registry.resources import Converter

_PREFIX = "autoscaling.alpha.kubernetes.io/"
_METRICS, _BEHAVIOR = f"{_PREFIX}metrics", f"{_PREFIX}behavior"
_CURRENT, _CONDITIONS = f"{_PREFIX}current-metrics", f"{_PREFIX}conditions"


def _is_cpu(metric: Obj) -> bool:
    resource = metric.get("resource") or {}
    target = resource.get("target") or {}
    return (
        metric.get("type") == "Resource"
        and resource.get("name") == "cpu"
        and target.get("type") == "Utilization"
    )


def _is_used_cpu(metric: Obj) -> bool:
    resource = metric.get("resource") or {}
    used = (resource.get("current") or {}).get("averageUtilization")
    return resource.get("name") == "cpu" and used is not None


class AutoscalerConverter:
    """``autoscaling/v1`` ↔ ``v2``: what v1 can't say is kept in annotations."""

    field_labels: dict[str, str] = {}

    def default(self, obj: Obj) -> None:
        """What v2's defaults look like in v1, set before anybody is said to manage fields."""
        spec = obj.get("spec")
        if not isinstance(spec, dict):
            return
        if spec.get("minReplicas") is None:
            spec["minReplicas"] = 1
        metadata = obj.get("metadata") or {}
        others = _METRICS in (metadata.get("annotations") or {})
        if spec.get("targetCPUUtilizationPercentage") is None and not others:
            spec["targetCPUUtilizationPercentage"] = 80

    def to_storage(self, obj: Obj) -> Obj:
        metadata, kept = _take_annotations(obj["metadata"])
        spec = dict(obj.get("spec") or {})
        metrics = [metric_from_v1(metric) for metric in kept.get(_METRICS) or ()]
        percentage = spec.pop("targetCPUUtilizationPercentage", None)
        if percentage is not None:
            target = {"type": "Utilization", "averageUtilization": percentage}
            resource = {"name": "cpu", "target": target}
            metrics.append({"type": "Resource", "resource": resource})
        if metrics:
            spec["metrics"] = metrics
        if kept.get(_BEHAVIOR):
            spec["behavior"] = _wire_behavior(kept[_BEHAVIOR])
        result = {**obj, "apiVersion": "autoscaling/v2", "metadata": metadata, "spec": spec}
        status = dict(obj.get("status") or {})
        # The annotation knows more than the field: where it is, it counts alone.
        current = [status_from_v1(metric) for metric in kept.get(_CURRENT) or ()]
        percentage = status.pop("currentCPUUtilizationPercentage", None)
        if percentage is not None and not any(_is_used_cpu(metric) for metric in current):
            average = {"averageUtilization": percentage, "averageValue": "0"}
            current.append({"type": "Resource", "resource": {"name": "cpu", "current": average}})
        if current:
            status["currentMetrics"] = current
        if kept.get(_CONDITIONS):
            status["conditions"] = kept[_CONDITIONS]
        if status or "status" in obj:
            result["status"] = status
        return _typed(result) if kept else result

    def from_storage(self, obj: Obj) -> Obj:
        spec, status = dict(obj.get("spec") or {}), dict(obj.get("status") or {})
        keep: dict[str, Any] = {}
        others = []
        for metric in spec.pop("metrics", None) or ():
            if _is_cpu(metric) and "targetCPUUtilizationPercentage" not in spec:
                target = metric["resource"]["target"]
                spec["targetCPUUtilizationPercentage"] = target.get("averageUtilization")
            else:
                others.append(metric_to_v1(metric))
        keep[_METRICS] = others
        keep[_BEHAVIOR] = spec.pop("behavior", None)
        currents = []
        for metric in status.pop("currentMetrics", None) or ():
            if _is_used_cpu(metric):
                used = metric["resource"]["current"]["averageUtilization"]
                status["currentCPUUtilizationPercentage"] = used
            currents.append(status_to_v1(metric))
        keep[_CURRENT] = currents
        keep[_CONDITIONS] = status.pop("conditions", None)
        annotations = dict(obj["metadata"].get("annotations") or {})
        if keep[_BEHAVIOR]:
            keep[_BEHAVIOR] = _internal_behavior(keep[_BEHAVIOR])
        for key, value in keep.items():
            if value:
                annotations[key] = json.dumps(value, separators=(",", ":"))
        metadata = dict(obj["metadata"])
        if annotations:
            metadata["annotations"] = annotations
        result = {**obj, "apiVersion": "autoscaling/v1", "metadata": metadata, "spec": spec}
        if "status" in obj:
            status.setdefault("currentReplicas", 0)
        if status or "status" in obj:
            result["status"] = status
        return result


def _typed(obj: Obj) -> Obj:
    """What came out of annotations is anybody's text. :raises StatusError: 400, it does not fit."""
    try:
        return coerce(obj, definition("io.k8s.api.autoscaling.v2.HorizontalPodAutoscaler"))
    except CoercionError as error:
        raise new_bad_request(str(error)) from None


_RULES = ("stabilizationWindowSeconds", "selectPolicy", "policies", "tolerance")


def _internal_behavior(behavior: Obj) -> Obj:
    """As upstream's annotation has it: the internal struct with its field names."""
    shown: Obj = {}
    for direction in ("scaleUp", "scaleDown"):
        rules = behavior.get(direction)
        if rules is not None:
            rules = {_upper(key): rules.get(key) for key in _RULES}
            policies = rules["Policies"]
            fields = ("type", "value", "periodSeconds")
            if policies is not None:
                rules["Policies"] = [{_upper(f): p.get(f) for f in fields} for p in policies]
        shown[_upper(direction)] = rules
    return shown


def _wire_behavior(shown: Any) -> Any:
    """Back to the wire form; Go reads keys in any case."""
    if isinstance(shown, dict):
        pairs = ((key[:1].lower() + key[1:], value) for key, value in shown.items())
        return {key: _wire_behavior(value) for key, value in pairs if value is not None}
    return [_wire_behavior(item) for item in shown] if isinstance(shown, list) else shown


def _upper(key: str) -> str:
    return key[:1].upper() + key[1:]


def _fits(value: Any, kind: type) -> bool:
    if kind is dict or not isinstance(value, list):
        return isinstance(value, kind)
    return all(isinstance(item, dict) for item in value)


def _take_annotations(metadata: Obj) -> tuple[Obj, dict[str, Any]]:
    """Metadata without our annotations, and what they held; broken ones are dropped."""
    annotations = metadata.get("annotations") or {}
    found: dict[str, Any] = {}
    for key in (_METRICS, _BEHAVIOR, _CURRENT, _CONDITIONS):
        if key in annotations:
            try:
                value = json.loads(annotations[key])
            except ValueError:
                continue
            if _fits(value, dict if key == _BEHAVIOR else list):
                found[key] = value
    if not any(key.startswith(_PREFIX) for key in annotations):
        return metadata, found
    rest = {key: value for key, value in annotations.items() if not key.startswith(_PREFIX)}
    kept = {key: value for key, value in metadata.items() if key != "annotations"}
    if rest:
        kept["annotations"] = rest
    return kept, found


CONVERTERS: dict[GroupVersionResource, Converter] = {
    GroupVersionResource("events.k8s.io", "v1", "events"): EVENT_CONVERTER,
    GroupVersionResource("autoscaling", "v1", "horizontalpodautoscalers"): AutoscalerConverter(),
}
