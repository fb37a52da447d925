"""The metrics of HorizontalPodAutoscalers, and references to what they scale."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pilothouse.apimachinery import names
from pilothouse.apis.core.resource_names import parse_quantity
from pilothouse.apis.core.validation_resources import container_resource_name_messages
from pilothouse.apis.meta import validation as check
from pilothouse.apis.meta.errors import add_all, forbidden, invalid, not_supported, required

if TYPE_CHECKING:
    from collections.abc import Callable

    from pilothouse.apimachinery.fieldpath import ErrorList
    from pilothouse.apimachinery.object import Obj

_FIELDS = {
    "ContainerResource": "containerResource",
    "External": "external",
    "Object": "object",
    "Pods": "pods",
    "Resource": "resource",
}
_ORDER = ("object", "external", "pods", "resource", "containerResource")
_TARGET_TYPES = ("Utilization", "Value", "AverageValue")


def validate_reference(
    errors: ErrorList, reference: Obj, path: str, *, empty_group: bool, any_version: bool
) -> None:
    """ValidateCrossVersionObjectReference."""
    for field in ("kind", "name"):
        value = reference.get(field) or ""
        if not value:
            errors.append(required(f"{path}.{field}"))
        else:
            add_all(errors, f"{path}.{field}", value, names.is_path_segment_name(value))
    message = "" if any_version else api_version_message(reference, empty_group=empty_group)
    if message:
        errors.append(invalid(f"{path}.apiVersion", reference.get("apiVersion") or "", message))


def api_version_message(reference: Obj, *, empty_group: bool) -> str:
    version = reference.get("apiVersion") or ""
    if version.count("/") > 1:
        return f"unexpected GroupVersion string: {version}"
    if not empty_group and not version.rpartition("/")[0]:
        return "apiVersion must specify API group"
    return ""


def validate_metrics(errors: ErrorList, spec: Obj, *, any_version: bool) -> None:
    metrics = spec.get("metrics") or ()
    for i, metric in enumerate(metrics):
        _metric(errors, metric, f"spec.metrics[{i}]", any_version)
    if spec.get("minReplicas") == 0 and not any(
        metric.get("type") in ("Object", "External") for metric in metrics
    ):
        message = (
            "must specify at least one Object or External metric to support scaling to zero "
            "replicas"
        )
        errors.append(forbidden("spec.metrics", message))


def _metric(errors: ErrorList, metric: Obj, path: str, any_version: bool) -> None:
    kind = metric.get("type") or ""
    if not kind:
        errors.append(required(f"{path}.type", "must specify a metric source type"))
    present = [field for field in _ORDER if metric.get(field) is not None]
    if present:
        first = present[0]
        if first == "object":
            reference = metric["object"].get("describedObject") or {}
            at = f"{path}.object.describedObject"
            validate_reference(errors, reference, at, empty_group=True, any_version=any_version)
        _SOURCES[first](errors, metric[first], f"{path}.{first}")
    expected = _FIELDS.get(kind)
    if expected is None:
        errors.append(not_supported(f"{path}.type", kind, tuple(_FIELDS)))
    elif metric.get(expected) is None:
        message = "must populate information for the given metric source"
        errors.append(required(f"{path}.{expected}", message))
    if len(present) != 1:
        for field in present:
            if field != expected:
                message = "must populate the given metric source only"
                errors.append(forbidden(f"{path}.{field}", message))


def _object(errors: ErrorList, source: Obj, path: str) -> None:
    target = _identified(errors, source, path)
    if target.get("value") is None and target.get("averageValue") is None:
        message = "must set either a target value or averageValue"
        errors.append(required(f"{path}.target.averageValue", message))


def _external(errors: ErrorList, source: Obj, path: str) -> None:
    target = _identified(errors, source, path)
    value, average = target.get("value"), target.get("averageValue")
    if value is None and average is None:
        message = "must set either a target value for metric or a per-pod target"
        errors.append(required(f"{path}.target.averageValue", message))
    if value is not None and average is not None:
        message = "may not set both a target value for metric and a per-pod target"
        errors.append(forbidden(f"{path}.target.value", message))


def _pods(errors: ErrorList, source: Obj, path: str) -> None:
    target = _identified(errors, source, path)
    if target.get("averageValue") is None:
        message = "must specify a positive target averageValue"
        errors.append(required(f"{path}.target.averageValue", message))


def _resource(errors: ErrorList, source: Obj, path: str) -> None:
    if not source.get("name"):
        errors.append(required(f"{path}.name", "must specify a resource name"))
    _resource_target(errors, source, path)


def _container_resource(errors: ErrorList, source: Obj, path: str) -> None:
    name, container = source.get("name") or "", source.get("container") or ""
    if not name:
        errors.append(required(f"{path}.name", "must specify a resource name"))
    else:
        add_all(errors, f"{path}.name", name, container_resource_name_messages(name))
    if not container:
        errors.append(required(f"{path}.container", "must specify a container"))
    else:
        check.dns_label(errors, container, f"{path}.container")
    _resource_target(errors, source, path)


_SOURCES: dict[str, Callable[[ErrorList, Obj, str], None]] = {
    "object": _object,
    "external": _external,
    "pods": _pods,
    "resource": _resource,
    "containerResource": _container_resource,
}


def _identified(errors: ErrorList, source: Obj, path: str) -> Obj:
    """Checks what names the metric and its target, which it returns."""
    name = (source.get("metric") or {}).get("name") or ""
    if not name:
        errors.append(required(f"{path}.metric.name", "must specify a metric name"))
    else:
        add_all(errors, f"{path}.metric.name", name, names.is_path_segment_name(name))
    target: Obj = source.get("target") or {}
    _target(errors, target, f"{path}.target")
    return target


def _resource_target(errors: ErrorList, source: Obj, path: str) -> None:
    target = source.get("target") or {}
    _target(errors, target, f"{path}.target")
    utilization, average = target.get("averageUtilization"), target.get("averageValue")
    if utilization is None and average is None:
        message = "must set either a target raw value or a target utilization"
        errors.append(required(f"{path}.target.averageUtilization", message))
    if utilization is not None and average is not None:
        message = "may not set both a target raw value and a target utilization"
        errors.append(forbidden(f"{path}.target.averageValue", message))


def _target(errors: ErrorList, target: Obj, path: str) -> None:
    kind = target.get("type") or ""
    if not kind:
        errors.append(required(f"{path}.type", "must specify a metric target type"))
    if kind not in _TARGET_TYPES:
        message = "must be either Utilization, Value, or AverageValue"
        errors.append(invalid(f"{path}.type", kind, message))
    for field in ("value", "averageValue"):
        amount = target.get(field)
        if amount is not None and not parse_quantity("0") < parse_quantity(amount):
            errors.append(invalid(f"{path}.{field}", str(amount), "must be positive"))
    utilization = target.get("averageUtilization")
    if utilization is not None and utilization < 1:
        message = "must be greater than 0"
        errors.append(invalid(f"{path}.averageUtilization", utilization, message))
