"""Whether a change fits into a namespace's quotas, and what they hold afterwards; pure.

The decision of resourcequota/controller.go's CheckRequest; ``plugins/resource_quota.py`` reads
the quotas and writes the new usage.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pilothouse.apimachinery.quantity import Quantity
from pilothouse.apis.core.quota_usage import (
    PODS,
    matches_quota,
    matching_resources,
    missing_constraints,
    usage,
)
from pilothouse.apis.core.resource_requests import ResourceList, parse_list
from pilothouse.apiserver.admission.plugin import refuse

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from datetime import datetime

    from pilothouse.apimachinery.object import Obj
    from pilothouse.apimachinery.schema import GroupResource
    from pilothouse.apiserver.admission.interfaces import Attributes

    Count = Callable[[GroupResource, Obj, datetime], ResourceList]

_ZERO = Quantity.of(0)


def charge(
    quotas: Mapping[str, Obj], attributes: Attributes, now: datetime, count: Count = usage
) -> dict[str, Obj]:
    """The quotas (by name) that change, with their new ``status.used``; ``count`` says what an
    object counts for.

    :raises StatusError: 403, a quota would be exceeded or cannot be judged.
    """
    resource = attributes.resource.group_resource
    obj = attributes.obj
    assert obj is not None
    concerned: list[Obj] = []
    for quota in quotas.values():
        if matches_quota(resource, obj, quota):
            _check_usable(quota, attributes)
            concerned.append(quota)
    if not concerned:
        return {}
    counted = count(resource, obj, now)
    negative = sorted(name for name, quantity in counted.items() if quantity.sign() < 0)
    if negative:
        names = ",".join(negative)
        raise refuse(attributes, f"quota usage is negative for resource(s): {names}")
    changed: dict[str, Obj] = {}
    for quota in concerned:
        delta = _delta(quota, attributes, counted, now, count)
        if delta:
            used = _new_usage(quota, attributes, delta)
            status = {**quota["status"], "used": used}
            changed[quota["metadata"]["name"]] = {**quota, "status": status}
    return changed


def _check_usable(quota: Obj, attributes: Attributes) -> None:
    name, status = quota["metadata"]["name"], quota.get("status") or {}
    restricted = matching_resources(attributes.resource.group_resource, status.get("hard") or {})
    if attributes.resource.group_resource == PODS and attributes.obj is not None:
        problem = missing_constraints(restricted, attributes.obj)
        if problem:
            raise refuse(attributes, f"failed quota: {name}: {problem}")
    used = status.get("used") or {}
    if any(item not in used for item in restricted):
        names = ",".join(sorted(restricted))
        raise refuse(attributes, f"status unknown for quota: {name}, resources: {names}")


def _delta(
    quota: Obj, attributes: Attributes, counted: ResourceList, now: datetime, count: Count
) -> ResourceList:
    """What the quota is charged: on update only the growth, if it counted the old object too."""
    old = attributes.old_obj
    resource = attributes.resource.group_resource
    delta = counted
    if attributes.operation == "UPDATE" and old is not None and matches_quota(resource, old, quota):
        before = count(resource, old, now)
        delta = {name: quantity - before.get(name, _ZERO) for name, quantity in counted.items()}
    hard = quota["status"]["hard"]
    return {n: quantity for n, quantity in delta.items() if quantity.sign() > 0 and n in hard}


def _new_usage(quota: Obj, attributes: Attributes, delta: ResourceList) -> Obj:
    status = quota["status"]
    hard, used = parse_list(status["hard"]), parse_list(status.get("used"))
    new = {name: used.get(name, _ZERO) + quantity for name, quantity in delta.items()}
    exceeded = [name for name, quantity in new.items() if quantity > hard[name]]
    if exceeded and attributes.subresource != "status":
        name = quota["metadata"]["name"]
        raise refuse(
            attributes,
            f"exceeded quota: {name}, requested: {_show(delta, exceeded)}, "
            f"used: {_show(used, exceeded)}, limited: {_show(hard, exceeded)}",
        )
    return {**(status.get("used") or {}), **{name: str(q) for name, q in new.items()}}


def _show(resources: ResourceList, names: Iterable[str]) -> str:
    return ",".join(f"{name}={resources.get(name, _ZERO)}" for name in sorted(names))
