"""CEL expressions over devices: the variable ``device`` and compiled programs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pilothouse.apimachinery.object import Obj
from pilothouse.apimachinery.quantity import Quantity
from pilothouse.scheduler.plugins.device_allocator import SelectorError
from pilothouse.scheduler.plugins.device_pools import Device

COST_LIMIT = 1_000_000


class Selectors:
    """CEL expressions over devices, compiled once."""

    def __init__(self) -> None:
        self._programs: dict[str, Any] = {}

    def matches(self, expression: str, device: Device) -> bool:
        from pilothouse.cel.interfaces import Budget, EvaluationError

        try:
            value = self._program(expression).evaluate(
                {"device": view_of(device)}, Budget(COST_LIMIT)
            )
        except EvaluationError as error:
            where = "/".join(device.key)
            raise SelectorError(f" on device {where}: CEL runtime error: {error}") from error
        return bool(value)

    def _program(self, expression: str) -> Any:
        if expression not in self._programs:
            from pilothouse.cel.interfaces import CompileError
            from pilothouse.cel.kubernetes import device_selector

            try:
                self._programs[expression] = device_selector().compile(expression)
            except CompileError as error:
                raise SelectorError(f": CEL compile error: {expression}: {error}") from error
        return self._programs[expression]


class Domains(dict[str, Any]):
    """Attributes by domain; one that is not there is empty, not an error."""

    def __missing__(self, key: str) -> dict[str, Any]:
        return {}

    def __contains__(self, key: object) -> bool:
        return True


def view_of(device: Device) -> Obj:
    """The variable ``device`` of expressions."""
    return {
        "driver": device.driver,
        "attributes": _by_domain(device, "attributes", _attribute),
        "capacity": _by_domain(device, "capacity", lambda c: Quantity.parse(c["value"])),
        "allowMultipleAllocations": bool(device.raw.get("allowMultipleAllocations")),
    }


def _by_domain(device: Device, part: str, value: Callable[[Obj], Any]) -> Domains:
    domains = Domains()
    for name, raw in (device.raw.get(part) or {}).items():
        domain, _, short = name.rpartition("/")
        domains.setdefault(domain or device.driver, {})[short] = value(raw)
    return domains


def _attribute(raw: Obj) -> Any:
    if "version" in raw:
        from pilothouse.cel.library.semvers import parse_semver

        return parse_semver(raw["version"])
    return next(iter(raw.values()))
