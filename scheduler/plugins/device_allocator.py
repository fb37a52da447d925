"""Allocates devices of ResourceSlices to ResourceClaims on one node. Pure.

A search with backtracking: request after request, device after device, until every request of every
claim has its devices and every constraint holds (structured parameters, KEP-4381). Devices that
share counters of their pool (partitions) are given out as long as the counters last, devices of
which several claims may have a part as long as their capacity lasts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from pilothouse.apimachinery.object import Obj, get_nested, name_of, object_key
from pilothouse.scheduler.plugins.device_capacity import (
    Amounts,
    CapacityError,
    added,
    amounts,
    fits,
    taken_by,
)
from pilothouse.scheduler.plugins.device_pools import Counter, Device, Key, Pools, consumption

Matches = Callable[[str, Device], bool]
"""(CEL expression, device) -> does it select it? :raises AllocationError:"""
MAX_STEPS = 50_000
MAX_DEVICES = 32
"""Of one claim."""


class AllocationError(Exception):
    """The claim can never be allocated as it is; the text says why."""


class SelectorError(AllocationError):
    """The text goes after ``selector #0``."""


class NodeError(AllocationError):
    """Not from this node's pools as they are now; others may do."""


@dataclass(frozen=True, slots=True, eq=False)
class Request:
    """One request, or one alternative of it, ready to be looked for."""

    claim: str
    name: str
    parent: str
    selectors: tuple[str, ...]
    """The class's, then its own."""
    count: int
    everything: bool
    admin: bool
    tolerations: tuple[Obj, ...]
    capacity: Amounts
    device_class: Obj

    def names(self) -> tuple[str, str]:
        return self.parent, self.name

    @property
    def title(self) -> str:
        return f"claim {self.claim}, request {self.name.rpartition('/')[2]}"


def requests_of(claim: Obj, classes: Callable[[str], Obj | None]) -> list[list[Request]]:
    """The alternatives of each request, best first. :raises AllocationError:"""
    found = []
    where = object_key(claim)
    for request in get_nested(claim, "spec", "devices", "requests", default=()):
        name = request["name"]
        if request.get("exactly") is not None:
            found.append([_request(where, name, name, request["exactly"], classes)])
        elif request.get("firstAvailable"):
            found.append([
                _request(where, f"{name}/{sub['name']}", name, sub, classes)
                for sub in request["firstAvailable"]
            ])  # fmt: skip
        else:
            raise AllocationError(f"resource claim {where}, request {name}: unknown request type")
    _check_size(where, found)
    return found


def _request(
    claim: str, name: str, parent: str, raw: Obj, classes: Callable[[str], Obj | None]
) -> Request:
    class_name = raw.get("deviceClassName") or ""
    device_class = classes(class_name)
    if device_class is None:
        raise AllocationError(f"request {name}: device class {class_name} does not exist")
    of_class = get_nested(device_class, "spec", "selectors", default=())
    return Request(
        claim,
        name,
        parent,
        tuple(
            get_nested(s, "cel", "expression", default="")
            for s in (*of_class, *(raw.get("selectors") or ()))
        ),
        raw.get("count") or 1,
        raw.get("allocationMode") == "All",
        bool(raw.get("adminAccess")),
        tuple(raw.get("tolerations") or ()),
        amounts(get_nested(raw, "capacity", "requests", default={})),
        device_class,
    )


def _check_size(claim: str, requests: Sequence[Sequence[Request]]) -> None:
    total = 0
    for options in requests:
        least = min(0 if r.everything else r.count for r in options)
        if total + least > MAX_DEVICES:
            raise AllocationError(
                f"claim {claim}, request {options[0].parent}: adding {least} devices exceeds the "
                f"claim limit of {MAX_DEVICES}, with {total} already accounted for"
            )
        total += least


def tolerated(device: Device, request: Request) -> bool:
    return all(
        taint.get("effect") not in ("NoSchedule", "NoExecute")
        or any(_tolerates(t, taint) for t in request.tolerations)
        for taint in device.taints
    )


def _tolerates(toleration: Obj, taint: Obj) -> bool:
    if toleration.get("effect") not in (None, "", taint.get("effect")):
        return False
    if toleration.get("key") and toleration["key"] != taint.get("key"):
        return False
    if (toleration.get("operator") or "Equal") == "Exists":
        return True
    return (toleration.get("value") or "") == (taint.get("value") or "")


@dataclass(slots=True)
class Taken:
    """What other claims have."""

    devices: set[Key] = field(default_factory=set)
    shared: dict[Key, Amounts] = field(default_factory=dict)
    """Devices of which claims have parts, and how much is gone."""

    def add(self, allocation: Obj) -> None:
        """Devices to which an administrator looks in are nobody's."""
        for result in get_nested(allocation, "devices", "results", default=()):
            if result.get("adminAccess"):
                continue
            key = (result["driver"], result["pool"], result["device"])
            if not result.get("shareID"):
                self.devices.add(key)
            else:
                used = amounts(result.get("consumedCapacity") or {})
                self.shared[key] = added(self.shared.get(key, {}), used)


@dataclass(frozen=True, slots=True)
class Choice:
    claim: int
    request: Request
    device: Device
    consumed: Amounts | None
    """Of a device of which several may have a part."""
    before: Amounts | None
    """What was gone of it; None: nobody had a part."""
    drawn: bool
    """Whether it drew on its pool's counters."""


class Allocator:
    """For all claims of one pod on one node."""

    def __init__(self, pools: Pools, taken: Taken, matches: Matches) -> None:
        self._pools = pools
        self._taken = set(taken.devices)
        self._shared = dict(taken.shared)
        self._left: dict[Counter, int] = dict(pools.counters)
        for key in self._taken | self._shared.keys():
            self._draw(key, -1)
        self._matches = matches
        self._chosen: list[Choice] = []
        self._steps = 0
        self._fitting: dict[Request, list[Device]] = {}

    def allocate(
        self, claims: Sequence[Obj], requests: Sequence[Sequence[Sequence[Request]]]
    ) -> list[list[Choice]] | None:
        """The choices of each claim; None: there is no way. :raises AllocationError:"""
        wanted = [(i, options) for i, own in enumerate(requests) for options in own]
        for _, options in wanted:
            for request in options:
                self._check_pools(request)
        try:
            if not self._place(claims, wanted):
                if self._pools.invalid:
                    raise NodeError("invalid resource pools were encountered")
                return None
        except CapacityError as error:
            raise AllocationError(str(error)) from error
        return [[c for c in self._chosen if c.claim == i] for i in range(len(claims))]

    def _check_pools(self, request: Request) -> None:
        """All devices are wanted: all must be known."""
        if not request.everything:
            return
        for keys, state in ((self._pools.incomplete, "being updated"), (self._pools.invalid, "")):
            for driver, pool in sorted(keys):
                raise NodeError(
                    f"{request.title}: asks for all devices, but resource pool {driver}/{pool} is "
                    f"currently {state or 'invalid'}"
                )

    def _place(
        self, claims: Sequence[Obj], wanted: Sequence[tuple[int, Sequence[Request]]]
    ) -> bool:
        if not wanted:
            return True
        (index, options), rest = wanted[0], wanted[1:]
        for request in options:
            fitting = self._fits(request)
            count = len(fitting) if request.everything else request.count
            if count and self._pick(claims, index, request, fitting, 0, count, rest):
                return True
        return False

    def _fits(self, request: Request) -> list[Device]:
        """By itself, whatever is taken."""
        if request not in self._fitting:
            self._fitting[request] = [
                d for d in self._pools.devices
                if (request.everything or tolerated(d, request))
                and self._is_selected(d, request)
                and (not request.everything or fits(d, request.capacity, {}))
            ]  # fmt: skip
        return self._fitting[request]

    def _is_selected(self, device: Device, request: Request) -> bool:
        of_class = len(get_nested(request.device_class, "spec", "selectors", default=()))
        for i, expression in enumerate(request.selectors):
            try:
                if not self._matches(expression, device):
                    return False
            except SelectorError as error:
                place = i if i < of_class else i - of_class
                whose = f"claim {request.claim}"
                if i < of_class:
                    whose = f"class {name_of(request.device_class)}"
                raise AllocationError(f"{whose}: selector #{place}{error}") from error
        return True

    def _pick(
        self,
        claims: Sequence[Obj],
        index: int,
        request: Request,
        fitting: Sequence[Device],
        start: int,
        left: int,
        rest: Sequence[tuple[int, Sequence[Request]]],
    ) -> bool:
        """``left`` more devices from ``start`` on, then the other requests."""
        if left == 0:
            return self._place(claims, rest)
        for i in range(start, len(fitting) - left + 1):
            self._steps += 1
            if self._steps > MAX_STEPS:
                return False
            device = fitting[i]
            if not self._free(device, request) or not self._allowed(claims[index], index, request,
                                                                    device):  # fmt: skip
                if request.everything:
                    return False
                continue
            self._take(index, request, device)
            if self._pick(claims, index, request, fitting, i + 1, left - 1, rest):
                return True
            self._give_back()
        return False

    def _free(self, device: Device, request: Request) -> bool:
        if not request.admin and device.key in self._taken:
            return False
        if request.everything and not tolerated(device, request):
            return False
        return fits(device, request.capacity, self._shared.get(device.key, {}))

    def _take(self, index: int, request: Request, device: Device) -> None:
        key = device.key
        draws = not request.admin and not (device.shared and key in self._shared)
        consumed = taken_by(device, request.capacity) if device.shared else None
        before = self._shared.get(key)
        self._chosen.append(Choice(index, request, device, consumed, before, draws))
        if draws:
            self._draw(key, -1)
        if consumed is not None:
            self._shared[key] = added(before or {}, consumed)
        elif not request.admin:
            self._taken.add(key)

    def _give_back(self) -> None:
        choice = self._chosen.pop()
        key = choice.device.key
        if choice.drawn:
            self._draw(key, 1)
        if choice.before is not None:
            self._shared[key] = choice.before
        elif choice.consumed is not None:
            del self._shared[key]
        elif not choice.request.admin:
            self._taken.discard(key)

    def _draw(self, key: Key, sign: int) -> None:
        for counter, amount in consumption(key, self._pools.consumers.get(key) or {}):
            self._left[counter] = self._left.get(counter, 0) + sign * amount

    def _lasts(self, device: Device) -> bool:
        return all(
            self._left.get(counter, 0) >= amount
            for counter, amount in consumption(device.key, device.raw)
        )

    def _allowed(self, claim: Obj, index: int, request: Request, device: Device) -> bool:
        """By the counters and the claim's constraints, given what it has already."""
        begun = device.shared and device.key in self._shared
        if not request.admin and not begun and not self._lasts(device):
            return False
        mine = [(c.request, c.device) for c in self._chosen if c.claim == index]
        if len(mine) >= MAX_DEVICES:
            return False
        if not device.shared and any(d.key == device.key for _, d in mine):
            return False
        for constraint in get_nested(claim, "spec", "devices", "constraints", default=()):
            names = constraint.get("requests") or ()
            if names and not any(n in names for n in request.names()):
                continue
            others = [d for r, d in mine if not names or any(n in names for n in r.names())]
            if not _holds(constraint, device, others):
                return False
        return True


def _holds(constraint: Obj, device: Device, others: Sequence[Device]) -> bool:
    same, different = constraint.get("matchAttribute"), constraint.get("distinctAttribute")
    name = same or different
    if not name:
        return False  # a constraint of a newer version
    value: Any = device.attribute(name)
    if value is None:
        return False
    if same:
        return all(other.attribute(name) == value for other in others)
    return all(other.attribute(name) != value for other in others)
