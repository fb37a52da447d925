"""Devices that must be attached before a pod may come (binding conditions, KEP-5007). Pure."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

from pilothouse.apimachinery.object import Obj, get_nested, name_of
from pilothouse.apimachinery.timefmt import parse_time


class BindingError(Exception):
    """A device cannot be attached, or took too long."""


def waits(claim: Obj) -> bool:
    return any(result.get("bindingConditions") for result in _results(claim))


def is_ready(claim: Obj) -> bool:
    """Whether all its devices are attached. :raises BindingError: one never will be."""
    if not get_nested(claim, "status", "allocation"):
        return False
    for result in _results(claim):
        if not result.get("bindingConditions"):
            continue
        conditions = _conditions(claim, result)
        for type_ in result.get("bindingFailureConditions") or ():
            failed = conditions.get(type_)
            if failed is not None and failed.get("status") == "True":
                raise BindingError(
                    f"device binding failed: claim={name_of(claim)}, "
                    f'reason={failed.get("reason") or ""}, message="{failed.get("message") or ""}"'
                )
        for type_ in result["bindingConditions"]:
            if (conditions.get(type_) or {}).get("status") != "True":
                return False
    return True


def is_late(claim: Obj, now: datetime, timeout: float) -> bool:
    since = get_nested(claim, "status", "allocation", "allocationTimestamp")
    if not since or not waits(claim):
        return False
    return parse_time(since) + timedelta(seconds=timeout) < now


def is_hopeless(claim: Obj, now: datetime, timeout: float) -> bool:
    try:
        return not is_ready(claim) and is_late(claim, now, timeout)
    except BindingError:
        return True


def _results(claim: Obj) -> Iterator[Obj]:
    yield from get_nested(claim, "status", "allocation", "devices", "results", default=())


def _conditions(claim: Obj, result: Obj) -> dict[str, Obj]:
    for device in get_nested(claim, "status", "devices", default=()):
        if all(device.get(part) == result[part] for part in ("driver", "pool", "device")):
            return {c["type"]: c for c in device.get("conditions") or ()}
    return {}
