"""LimitRanger: a namespace's defaults, minima, maxima and ratios (admission/limitranger)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pilothouse.apis.core.resource_names import parse_quantity
from pilothouse.apis.core.resource_requests import (
    ResourceList,
    parse_list,
    pod_limits,
    pod_requests,
)
from pilothouse.apiserver.admission.plugin import Plugin, refuse

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pilothouse.apimachinery.object import Obj
    from pilothouse.apimachinery.quantity import Quantity
    from pilothouse.apimachinery.schema import GroupResource
    from pilothouse.apiserver.admission.interfaces import Attributes, Operation

ANNOTATION = "kubernetes.io/limit-ranger"
_MAX_MILLI = ((1 << 63) - 1) // 1000


class LimitRanger(Plugin):
    def interested(self, operation: Operation, resource: GroupResource, subresource: str) -> bool:
        # The resources of a pod only change through its resize sub-resource.
        if resource.resource == "pods":
            return (operation == "CREATE") == (subresource == "")
        return subresource == "" and super().interested(operation, resource, subresource)

    def _ranges(self, attributes: Attributes) -> list[Obj]:
        old = attributes.old_obj
        if old is not None and old["metadata"].get("deletionTimestamp"):
            return []
        return list(self.context.limit_ranges.in_namespace(attributes.namespace))

    async def admit(self, attributes: Attributes) -> None:
        if attributes.resource.resource != "pods" or attributes.obj is None:
            return
        for limit_range in self._ranges(attributes):
            set_defaults(attributes.obj, limit_range)

    async def validate(self, attributes: Attributes) -> None:
        obj = attributes.obj
        if obj is None:
            return
        for limit_range in self._ranges(attributes):
            if attributes.resource.resource == "pods":
                problems = list(pod_problems(obj, limit_range))
            else:
                problems = list(claim_problems(obj, limit_range))
            if problems:
                unique = list(dict.fromkeys(problems))
                text = unique[0] if len(unique) == 1 else f"[{', '.join(unique)}]"
                raise refuse(attributes, text)


def _items(limit_range: Obj, kind: str) -> list[Obj]:
    limits = (limit_range.get("spec") or {}).get("limits") or ()
    return [item for item in limits if item.get("type") == kind]


def set_defaults(pod: Obj, limit_range: Obj) -> None:
    """Adds missing requests and limits to containers and says so in an annotation."""
    requests: Obj = {}
    limits: Obj = {}
    for item in _items(limit_range, "Container"):
        requests.update(item.get("defaultRequest") or {})
        limits.update(item.get("default") or {})
    if not requests and not limits:
        return
    notes: list[str] = []
    for field, title in (("containers", "container"), ("initContainers", "init container")):
        for container in pod["spec"].get(field) or ():
            notes += _merge(container, requests, limits, title)
    if notes:
        annotations = pod["metadata"].get("annotations") or {}
        text = "LimitRanger plugin set: " + "; ".join(notes)
        pod["metadata"]["annotations"] = {**annotations, ANNOTATION: text}


def _merge(container: Obj, requests: Obj, limits: Obj, title: str) -> Iterator[str]:
    resources = container.get("resources") or {}
    for field, word, defaults in (
        ("requests", "request", requests),
        ("limits", "limit", limits),
    ):
        present = resources.get(field) or {}
        added = {name: value for name, value in defaults.items() if name not in present}
        if added:
            resources = {**resources, field: {**present, **added}}
            yield f"{', '.join(sorted(added))} {word} for {title} {container.get('name')}"
    container["resources"] = resources


def _comparable(*quantities: Quantity | None) -> tuple[int, ...]:
    """At one precision: thousandths unless one of them would overflow."""
    known = [0 if quantity is None else quantity.value() for quantity in quantities]
    if all(value <= _MAX_MILLI for value in known):
        return tuple(0 if q is None else q.milli_value() for q in quantities)
    return tuple(known)


def _minimum(
    kind: str, name: str, bound: Quantity, request: Quantity | None, limit: Quantity | None
) -> str:
    asked, limited, enforced = _comparable(request, limit, bound)
    head = f"minimum {name} usage per {kind} is {bound}"
    if request is None:
        return f"{head}.  No request is specified"
    if asked < enforced:
        return f"{head}, but request is {request}"
    if limit is not None and limited < enforced:
        return f"{head}, but limit is {limit}"
    return ""


def _maximum(
    kind: str, name: str, bound: Quantity, request: Quantity | None, limit: Quantity | None
) -> str:
    asked, limited, enforced = _comparable(request, limit, bound)
    head = f"maximum {name} usage per {kind} is {bound}"
    if limit is None:
        return f"{head}.  No limit is specified"
    if limited > enforced:
        return f"{head}, but limit is {limit}"
    if request is not None and asked > enforced:
        return f"{head}, but request is {request}"
    return ""


def _ratio(
    kind: str, name: str, bound: Quantity, request: Quantity | None, limit: Quantity | None
) -> str:
    asked, limited, _ = _comparable(request, limit, bound)
    head = f"{name} max limit to request ratio per {kind} is {bound}"
    if not asked:
        return f"{head}, but no request is specified or request is 0"
    if not limited:
        return f"{head}, but no limit is specified or limit is 0"
    ratio = limited / asked
    if bound.value() <= _MAX_MILLI:
        exceeded = ratio * 1000 > bound.milli_value()
    else:
        exceeded = ratio > bound.value()
    return f"{head}, but provided ratio is {ratio:f}" if exceeded else ""


def _problems(item: Obj, kind: str, requests: ResourceList, limits: ResourceList) -> Iterator[str]:
    for field, check in (("min", _minimum), ("max", _maximum), ("maxLimitRequestRatio", _ratio)):
        for name, text in (item.get(field) or {}).items():
            problem = check(kind, name, parse_quantity(text), requests.get(name), limits.get(name))
            if problem:
                yield problem


def pod_problems(pod: Obj, limit_range: Obj) -> Iterator[str]:
    spec = pod["spec"]
    for item in (limit_range.get("spec") or {}).get("limits") or ():
        kind = item.get("type")
        if kind == "Container":
            for field in ("containers", "initContainers"):
                for container in spec.get(field) or ():
                    resources = container.get("resources") or {}
                    requests = parse_list(resources.get("requests"))
                    yield from _problems(item, kind, requests, parse_list(resources.get("limits")))
        elif kind == "Pod":
            requests = pod_requests(pod, exclude_overhead=True)
            yield from _problems(item, kind, requests, pod_limits(pod, exclude_overhead=True))


def claim_problems(claim: Obj, limit_range: Obj) -> Iterator[str]:
    """Only what a claim requests counts."""
    kind = "PersistentVolumeClaim"
    resources = (claim.get("spec") or {}).get("resources") or {}
    requests = parse_list(resources.get("requests"))
    for item in _items(limit_range, kind):
        for name, text in (item.get("min") or {}).items():
            problem = _minimum(kind, name, parse_quantity(text), requests.get(name), None)
            if problem:
                yield problem
        for name, text in (item.get("max") or {}).items():
            bound, request = parse_quantity(text), requests.get(name)
            head = f"maximum {name} usage per {kind} is {bound}"
            asked, enforced = _comparable(request, bound)
            if request is None:
                yield f"{head}.  No request is specified"
            elif asked > enforced:
                yield f"{head}, but request is {request}"


PLUGINS = {"LimitRanger": LimitRanger}
