"""Cells of apps, batch, autoscaling and policy kinds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pilothouse.apimachinery.labels import selector_from_label_selector
from pilothouse.apimachinery.object import controller_of
from pilothouse.apimachinery.quantity import canonical
from pilothouse.apimachinery.schema import parse_api_version
from pilothouse.apimachinery.timefmt import parse_time
from pilothouse.apiserver.registry.printing import (
    NO_DICT,
    NONE,
    UNKNOWN,
    UNSET,
    age,
    bool_text,
    container_cells,
    format_label_selector,
    format_labels,
    has_true_condition,
    name,
    since,
)

if TYPE_CHECKING:
    from datetime import datetime

    from pilothouse.apimachinery.object import Obj


def _template_spec(spec: Obj) -> Obj:
    return (spec.get("template") or NO_DICT).get("spec") or NO_DICT


def deployment(obj: Obj, now: datetime) -> list[Any]:
    spec, status = obj.get("spec") or NO_DICT, obj.get("status") or NO_DICT
    names, images = container_cells(_template_spec(spec))
    try:
        selector = str(selector_from_label_selector(spec.get("selector")))
    except ValueError:
        selector = "<invalid>"
    return [
        name(obj),
        f"{status.get('readyReplicas') or 0}/{spec.get('replicas') or 0}",
        status.get("updatedReplicas") or 0,
        status.get("availableReplicas") or 0,
        age(obj, now),
        names,
        images,
        selector,
    ]


def replica_set(obj: Obj, now: datetime) -> list[Any]:
    spec, status = obj.get("spec") or NO_DICT, obj.get("status") or NO_DICT
    names, images = container_cells(_template_spec(spec))
    return [
        name(obj),
        spec.get("replicas") or 0,
        status.get("replicas") or 0,
        status.get("readyReplicas") or 0,
        age(obj, now),
        names,
        images,
        format_label_selector(spec.get("selector")),
    ]


def stateful_set(obj: Obj, now: datetime) -> list[Any]:
    spec, status = obj.get("spec") or NO_DICT, obj.get("status") or NO_DICT
    ready = f"{status.get('readyReplicas') or 0}/{spec.get('replicas') or 0}"
    return [name(obj), ready, age(obj, now), *container_cells(_template_spec(spec))]


def daemon_set(obj: Obj, now: datetime) -> list[Any]:
    spec, status = obj.get("spec") or NO_DICT, obj.get("status") or NO_DICT
    numbers = (
        "desiredNumberScheduled",
        "currentNumberScheduled",
        "numberReady",
        "updatedNumberScheduled",
        "numberAvailable",
    )
    return [
        name(obj),
        *(status.get(field) or 0 for field in numbers),
        format_labels(_template_spec(spec).get("nodeSelector")),
        age(obj, now),
        *container_cells(_template_spec(spec)),
        format_label_selector(spec.get("selector")),
    ]


def controller_revision(obj: Obj, now: datetime) -> list[Any]:
    reference = controller_of(obj)
    controller = NONE
    if reference is not None:
        group = parse_api_version(reference.get("apiVersion") or "").group
        kind = f"{reference.get('kind')}.{group}" if group else reference.get("kind") or ""
        controller = f"{kind.lower()}/{reference.get('name')}"
    return [name(obj), controller, obj.get("revision") or 0, age(obj, now)]


_JOB_STATES = (
    ("Complete", "Complete"),
    ("Failed", "Failed"),
    ("", "Terminating"),
    ("Suspended", "Suspended"),
    ("FailureTarget", "FailureTarget"),
    ("SuccessCriteriaMet", "SuccessCriteriaMet"),
)


def job(obj: Obj, now: datetime) -> list[Any]:
    spec, status = obj.get("spec") or NO_DICT, obj.get("status") or NO_DICT
    succeeded, parallelism = status.get("succeeded") or 0, spec.get("parallelism") or 0
    if spec.get("completions") is not None:
        completions = f"{succeeded}/{spec['completions']}"
    elif parallelism > 1:
        completions = f"{succeeded}/1 of {parallelism}"
    else:
        completions = f"{succeeded}/1"
    deleting = bool((obj.get("metadata") or NO_DICT).get("deletionTimestamp"))
    state = next(
        (
            shown
            for condition, shown in _JOB_STATES
            if (has_true_condition(obj, condition) if condition else deleting)
        ),
        "Running",
    )
    return [
        name(obj),
        state,
        completions,
        _job_duration(status, now),
        age(obj, now),
        *container_cells(_template_spec(spec)),
        format_label_selector(spec.get("selector")),
    ]


def _job_duration(status: Obj, now: datetime) -> str:
    start, end = status.get("startTime"), status.get("completionTime")
    if not start:
        return ""
    return since(start, parse_time(end) if end else now)


def cron_job(obj: Obj, now: datetime) -> list[Any]:
    spec, status = obj.get("spec") or NO_DICT, obj.get("status") or NO_DICT
    job_spec = (spec.get("jobTemplate") or NO_DICT).get("spec") or NO_DICT
    last, zone = status.get("lastScheduleTime"), spec.get("timeZone")
    return [
        name(obj),
        spec.get("schedule") or "",
        NONE if zone is None else zone,
        bool_text(spec.get("suspend")),
        len(status.get("active") or ()),
        since(last, now) if last else NONE,
        age(obj, now),
        *container_cells(_template_spec(job_spec)),
        format_label_selector(job_spec.get("selector")),
    ]


def scale(obj: Obj, now: datetime) -> list[Any]:
    spec, status = obj.get("spec") or NO_DICT, obj.get("status") or NO_DICT
    return [name(obj), spec.get("replicas") or 0, status.get("replicas") or 0, age(obj, now)]


def pod_disruption_budget(obj: Obj, now: datetime) -> list[Any]:
    spec, status = obj.get("spec") or NO_DICT, obj.get("status") or NO_DICT
    minimum, maximum = spec.get("minAvailable"), spec.get("maxUnavailable")
    return [
        name(obj),
        "N/A" if minimum is None else str(minimum),
        "N/A" if maximum is None else str(maximum),
        status.get("disruptionsAllowed") or 0,
        age(obj, now),
    ]


def horizontal_pod_autoscaler(obj: Obj, now: datetime) -> list[Any]:
    spec, status = obj.get("spec") or NO_DICT, obj.get("status") or NO_DICT
    target, minimum = spec.get("scaleTargetRef") or NO_DICT, spec.get("minReplicas")
    return [
        name(obj),
        f"{target.get('kind') or ''}/{target.get('name') or ''}",
        _metrics(obj, spec, status),
        UNSET if minimum is None else str(minimum),
        spec.get("maxReplicas") or 0,
        status.get("currentReplicas") or 0,
        age(obj, now),
    ]


def _metrics(obj: Obj, spec: Obj, status: Obj) -> str:
    if "targetCPUUtilizationPercentage" in spec:  # autoscaling/v1
        current = status.get("currentCPUUtilizationPercentage")
        used = UNKNOWN if current is None else f"{current}%"
        return f"cpu: {used}/{spec['targetCPUUtilizationPercentage']}%"
    metrics, current_metrics = spec.get("metrics") or (), status.get("currentMetrics") or ()
    if not metrics:
        return NONE
    shown = [
        _metric(metric, current_metrics[i] if i < len(current_metrics) else NO_DICT)
        for i, metric in enumerate(metrics)
    ]
    text = ", ".join(shown[:2])
    return f"{text} + {len(shown) - 2} more..." if len(shown) > 2 else text


_METRIC_FIELDS = {
    "External": "external",
    "Pods": "pods",
    "Object": "object",
    "Resource": "resource",
    "ContainerResource": "containerResource",
}


def _metric(metric: Obj, status: Obj) -> str:
    kind = metric.get("type") or ""
    field = _METRIC_FIELDS.get(kind)
    if field is None:
        return "<unknown type>"
    source = metric.get(field) or NO_DICT
    target = source.get("target") or NO_DICT
    current = (status.get(field) or NO_DICT).get("current") or NO_DICT
    of_resource = kind in ("Resource", "ContainerResource")
    prefix = f"{source.get('name') or ''}: " if of_resource else ""
    average = target.get("averageValue")
    if average is not None or kind == "Pods":
        suffix = " (avg)" if kind in ("External", "Object") else ""
        return f"{prefix}{_amount(current, 'averageValue')}/{canonical(average or '0')}{suffix}"
    if of_resource:
        return f"{prefix}{_percent(current, UNKNOWN)}/{_percent(target, '<auto>')}"
    return f"{_amount(current, 'value')}/{canonical(target.get('value') or '0')}"


def _amount(values: Obj, field: str) -> str:
    value = values.get(field)
    return UNKNOWN if value is None else canonical(value)


def _percent(values: Obj, otherwise: str) -> str:
    value = values.get("averageUtilization")
    return otherwise if value is None else f"{value}%"
