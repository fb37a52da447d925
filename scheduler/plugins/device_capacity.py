"""Parts of devices: how much of a device's capacity a request takes (KEP-5075). Pure.

What is asked for is rounded up by the device's request policy; a device of which several claims
may have a part is given out as long as its capacity lasts.
"""

from __future__ import annotations

from collections.abc import Mapping

from pilothouse.apimachinery.object import Obj
from pilothouse.apimachinery.quantity import Quantity
from pilothouse.scheduler.plugins.device_pools import Device

Amounts = dict[str, Quantity]
"""By the capacity's name."""
MAX_INT64 = (1 << 63) - 1


class CapacityError(Exception):
    """A request that no device can mean: the search for devices is given up."""


def amounts(raw: Mapping[str, str]) -> Amounts:
    return {name: Quantity.parse(value) for name, value in raw.items()}


def added(one: Amounts, other: Amounts) -> Amounts:
    total = dict(one)
    for name, amount in other.items():
        total[name] = total[name] + amount if name in total else amount
    return total


def taken_by(device: Device, wanted: Amounts) -> Amounts:
    """What a request for ``wanted`` takes of the device. :raises CapacityError:"""
    taken = {}
    for name, capacity in (device.raw.get("capacity") or {}).items():
        amount = _rounded(wanted.get(name), capacity, name)
        if amount.sign() < 0:
            raise CapacityError(f'capacity "{name}": capacity value is negative')
        taken[name] = amount
    return taken


def fits(device: Device, wanted: Amounts, used: Amounts) -> bool:
    """Whether so much is left when ``used`` is gone. :raises CapacityError:"""
    capacities = device.raw.get("capacity") or {}
    if not wanted.keys() <= capacities.keys():
        return False
    return all(
        _allowed(amount, capacities[name].get("requestPolicy") or {})
        and amount + used.get(name, Quantity.of(0)) <= Quantity.parse(capacities[name]["value"])
        for name, amount in taken_by(device, wanted).items()
    )


def _rounded(wanted: Quantity | None, capacity: Obj, name: str) -> Quantity:
    policy = capacity.get("requestPolicy") or {}
    if wanted is None:
        return Quantity.parse(policy.get("default") or capacity["value"])
    valid = policy.get("validRange") or {}
    if valid.get("min") is not None:
        return _up_to_step(wanted, valid, name)
    for value in map(Quantity.parse, policy.get("validValues") or ()):
        if wanted <= value:
            return value
    return wanted


def _up_to_step(wanted: Quantity, valid: Obj, name: str) -> Quantity:
    low = Quantity.parse(valid["min"])
    if wanted < low:
        return low
    if valid.get("step") is None:
        return wanted
    step = Quantity.parse(valid["step"])
    scale = _scale(valid)
    value = wanted.scaled_value(scale)
    if Quantity(value, scale) != wanted and (scale or value >= MAX_INT64):
        raise _beyond(name, wanted)
    base, size = low.scaled_value(scale), step.scaled_value(scale)
    rounded = base + -(-(value - base) // size) * size
    if rounded > MAX_INT64:
        raise _beyond(name, wanted)
    whole = scale and rounded % 1000 == 0
    return Quantity(rounded // 1000 if whole else rounded, 0 if whole else scale, step.format)


def _beyond(name: str, wanted: Quantity) -> CapacityError:
    return CapacityError(
        f'capacity "{name}": capacity request cannot be represented in the device\'s range '
        f"arithmetic: request {wanted}"
    )


def _scale(valid: Obj) -> int:
    """Thousandths when the range can be told in them, else whole units."""
    for part in ("min", "max", "step"):
        if valid.get(part) is not None:
            quantity = Quantity.parse(valid[part])
            if Quantity.of_milli(quantity.milli_value()) != quantity:
                return 0
    return -3


def _allowed(amount: Quantity, policy: Obj) -> bool:
    if policy.get("default") is not None and amount == Quantity.parse(policy["default"]):
        return True
    valid = policy.get("validRange")
    if valid:
        if valid.get("max") is not None and amount > Quantity.parse(valid["max"]):
            return False
        if valid.get("step") is None:
            return True
        scale = _scale(valid)
        low = Quantity.parse(valid.get("min") or "0")
        off = amount.scaled_value(scale) - low.scaled_value(scale)
        return off % Quantity.parse(valid["step"]).scaled_value(scale) == 0
    values = policy.get("validValues")
    return not values or any(amount == Quantity.parse(v) for v in values)
