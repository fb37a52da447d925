"""Metrics of autoscalers as autoscaling/v1 writes them into its annotations, and back.

v1 names what v2 nests: ``metric.name`` is ``metricName``, ``target.averageValue`` of a resource is
``targetAverageValue``. Pure; ``registry/conversion.py`` calls these. Keys come in the order of
upstream's structs, because the annotations are text that clients compare.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pilothouse.apimachinery.object import Obj

_KEYS = {
    "Object": "object",
    "Pods": "pods",
    "Resource": "resource",
    "ContainerResource": "containerResource",
    "External": "external",
}
_RESOURCES = ("Resource", "ContainerResource")


def metric_to_v1(metric: Obj) -> Obj:
    """An item of v2's ``spec.metrics``."""
    return _to_v1(metric, "target")


def metric_from_v1(metric: Obj) -> Obj:
    return _from_v1(metric, "target")


def status_to_v1(metric: Obj) -> Obj:
    """An item of v2's ``status.currentMetrics``."""
    return _to_v1(metric, "current")


def status_from_v1(metric: Obj) -> Obj:
    return _from_v1(metric, "current")


def _present(**fields: Any) -> Obj:
    return {key: value for key, value in fields.items() if value is not None}


def _to_v1(metric: Obj, what: str) -> Obj:
    """``what``: "target" for a wish, "current" for what was measured."""
    kind = metric.get("type") or ""
    key = _KEYS.get(kind, "")
    source = metric.get(key)
    if not isinstance(source, dict):
        return {"type": kind}
    value: Obj = source.get(what) or {}
    named, average = source.get("metric") or {}, value.get("averageValue")
    name = named.get("name") or ""
    if kind in _RESOURCES:
        found = _present(
            name=source.get("name") or "",
            **{f"{what}AverageUtilization": value.get("averageUtilization")},
            **{f"{what}AverageValue": average or ("0" if what == "current" else None)},
            container=source.get("container") or "" if kind == "ContainerResource" else None,
        )
    elif kind == "Pods":
        found = {"metricName": name, f"{what}AverageValue": average or "0"}
        found |= _present(selector=named.get("selector"))
    elif kind == "Object":
        target = source.get("describedObject") or {}
        order = {k: target[k] for k in ("kind", "name", "apiVersion") if k in target}
        found = {"target": order, "metricName": name, f"{what}Value": value.get("value") or "0"}
        found |= _present(selector=named.get("selector"), averageValue=average)
    else:
        whole = value.get("value") or ("0" if what == "current" else None)
        found = {"metricName": name} | _present(
            metricSelector=named.get("selector"),
            **{f"{what}Value": whole, f"{what}AverageValue": average},
        )
    return {"type": kind, key: found}


def _from_v1(metric: Obj, what: str) -> Obj:
    kind = metric.get("type") or ""
    key = _KEYS.get(kind, "")
    source = metric.get(key)
    if not isinstance(source, dict) or (what in source and kind in _RESOURCES):
        return metric  # as servers before this one wrote it: v2's own form
    average = source.get(f"{what}AverageValue")
    if kind in _RESOURCES:
        used = source.get(f"{what}AverageUtilization")
        value = _present(averageUtilization=used, averageValue=average)
        found = {"name": source.get("name") or ""}
        if kind == "ContainerResource":
            found["container"] = source.get("container") or ""
        return _nested(kind, key, found, value, what)
    if "metric" in source:
        return metric
    selector = source.get("metricSelector" if kind == "External" else "selector")
    found = {"metric": {"name": source.get("metricName") or ""} | _present(selector=selector)}
    if kind == "Object":
        found["describedObject"] = source.get("target") or {}
        average = source.get("averageValue")
    whole = None if kind == "Pods" else source.get(f"{what}Value")
    if what == "target" and average is not None:
        whole = None  # a target is one of them
    return _nested(kind, key, found, _present(value=whole, averageValue=average), what)


def _nested(kind: str, key: str, found: Obj, value: Obj, what: str) -> Obj:
    """``value`` in its place; a target also says which of its kinds it is."""
    if what == "target":
        utilization = "averageUtilization" in value
        plain = "AverageValue" if "averageValue" in value else "Value"
        value = {"type": "Utilization" if utilization else plain} | value
    return {"type": kind, key: {**found, what: value}}
