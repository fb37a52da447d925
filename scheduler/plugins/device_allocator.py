"""Allocates devices of ResourceSlices to ResourceClaims on one node. Pure.

A search with backtracking: request after request, device after device, until every request of every
claim has its devices and every constraint holds (structured parameters, KEP-4381). Devices that
share counters of their pool (partitions) are given out as long as the counters last; devices with
consumable capacity are given out whole.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pilothouse.apimachinery.object import Obj, get_nested, name_of, object_key
from pilothouse.apimachinery.quantity import Quantity
from pilothouse.scheduler.framework.node_selector import NodeSelector

Key = tuple[str, str, str]
"""(driver, pool, device)"""
Counter = tuple[str, str, str, str]
"""(driver, pool, counter set, counter)"""
Matches = Callable[[str, "Device"], bool]
"""(CEL expression, device) -> does it select it? :raises AllocationError:"""
MAX_STEPS = 50_000
MAX_DEVICES = 32
"""Of one claim."""


class AllocationError(Exception):
    """The claim can never be allocated as it is; the text says why."""


@dataclass(frozen=True, slots=True)
class Device:
    driver: str
    pool: str
    name: str
    raw: Obj
    slice: Obj
    taints: tuple[Obj, ...] = ()

    @property
    def key(self) -> Key:
        return (self.driver, self.pool, self.name)

    def attribute(self, name: str) -> Any:
        """Its value by qualified name, with its type; None when it has none."""
        attributes = self.raw.get("attributes") or {}
        domain, _, short = name.rpartition("/")
        value = attributes.get(name)
        if value is None and domain == self.driver:
            value = attributes.get(short)
        return None if value is None else next(iter(value.items()))


@dataclass(slots=True)
class Pools:
    devices: list[Device] = field(default_factory=list)
    """Of complete pools, that can be used on the node."""
    incomplete: set[tuple[str, str]] = field(default_factory=set)
    """(driver, pool)"""
    counters: dict[Counter, int] = field(default_factory=dict)
    """In thousandths, as the pools publish them."""
    consumers: dict[Key, Obj] = field(default_factory=dict)
    """Devices that draw on counters, wherever they can be used."""


def gather(
    slices: Iterable[Obj], node_name: str, labels: Mapping[str, str], rules: Iterable[Obj] = ()
) -> Pools:
    """What the node can use. Only the newest generation of a pool counts."""
    by_pool: dict[tuple[str, str], list[Obj]] = {}
    for piece in slices:
        spec = piece["spec"]
        by_pool.setdefault((spec["driver"], spec["pool"]["name"]), []).append(piece)
    pools, rules = Pools(), list(rules)
    for key, pieces in sorted(by_pool.items()):
        newest = max(p["spec"]["pool"].get("generation") or 0 for p in pieces)
        current = [p for p in pieces if (p["spec"]["pool"].get("generation") or 0) == newest]
        usable = [p for p in current if _is_for_node(p["spec"], node_name, labels, whole=True)]
        if not usable:
            continue
        if len(current) != current[0]["spec"]["pool"].get("resourceSliceCount"):
            pools.incomplete.add(key)
            continue
        _count(pools, key, current)
        for piece in sorted(usable, key=name_of):
            pools.devices += _devices(piece, node_name, labels, rules)
    return pools


def _count(pools: Pools, key: tuple[str, str], pieces: Iterable[Obj]) -> None:
    for piece in pieces:
        for counter_set in piece["spec"].get("sharedCounters") or ():
            for name, counter in (counter_set.get("counters") or {}).items():
                amount = Quantity.parse(counter["value"]).milli_value()
                pools.counters[*key, counter_set["name"], name] = amount
        for raw in piece["spec"].get("devices") or ():
            if raw.get("consumesCounters"):
                pools.consumers[*key, raw["name"]] = raw


def consumption(key: Key, raw: Obj) -> Iterator[tuple[Counter, int]]:
    """What a device draws from the counters of its pool."""
    for use in raw.get("consumesCounters") or ():
        for name, counter in (use.get("counters") or {}).items():
            amount = Quantity.parse(counter["value"]).milli_value()
            yield (key[0], key[1], use["counterSet"], name), amount


def _devices(
    piece: Obj, node_name: str, labels: Mapping[str, str], rules: Sequence[Obj]
) -> Iterator[Device]:
    spec = piece["spec"]
    for raw in spec.get("devices") or ():
        if spec.get("perDeviceNodeSelection") and not _is_for_node(raw, node_name, labels):
            continue
        key = {"driver": spec["driver"], "pool": spec["pool"]["name"], "device": raw["name"]}
        added = [r["spec"]["taint"] for r in rules if _rule_means(r, key)]
        yield Device(
            spec["driver"], spec["pool"]["name"], raw["name"], raw, piece,
            (*(raw.get("taints") or ()), *added),
        )  # fmt: skip


def _is_for_node(
    place: Obj, node_name: str, labels: Mapping[str, str], *, whole: bool = False
) -> bool:
    if place.get("nodeName"):
        return bool(place["nodeName"] == node_name)
    if place.get("allNodes") or (whole and place.get("perDeviceNodeSelection")):
        return True
    selector = place.get("nodeSelector")
    if selector is None:
        return False
    return NodeSelector({}, selector.get("nodeSelectorTerms") or []).matches(node_name, labels)


def _rule_means(rule: Obj, key: Obj) -> bool:
    selector = get_nested(rule, "spec", "deviceSelector")
    return selector is not None and all(
        selector.get(part) in (None, "", value) for part, value in key.items()
    )


@dataclass(frozen=True, slots=True, eq=False)
class Request:
    """One request, or one alternative of it, ready to be looked for."""

    name: str
    parent: str
    selectors: tuple[str, ...]
    count: int
    everything: bool
    admin: bool
    tolerations: tuple[Obj, ...]
    class_config: tuple[Obj, ...]

    def names(self) -> tuple[str, str]:
        return self.parent, self.name


def requests_of(claim: Obj, classes: Callable[[str], Obj | None]) -> list[list[Request]]:
    """The alternatives of each request, best first. :raises AllocationError:"""
    found = []
    for request in get_nested(claim, "spec", "devices", "requests", default=()):
        if request.get("exactly") is not None:
            found.append([_request(request["name"], request["name"], request["exactly"], classes)])
        elif request.get("firstAvailable"):
            found.append([
                _request(f"{request['name']}/{sub['name']}", request["name"], sub, classes)
                for sub in request["firstAvailable"]
            ])  # fmt: skip
        else:
            raise AllocationError(
                f"resource claim {object_key(claim)}, request {request['name']}: "
                "unknown request type"
            )
    return found


def _request(name: str, parent: str, raw: Obj, classes: Callable[[str], Obj | None]) -> Request:
    class_name = raw.get("deviceClassName") or ""
    device_class = classes(class_name)
    if device_class is None:
        raise AllocationError(f"request {name}: device class {class_name} does not exist")
    spec = device_class.get("spec") or {}
    selectors = [*(spec.get("selectors") or ()), *(raw.get("selectors") or ())]
    return Request(
        name,
        parent,
        tuple(get_nested(s, "cel", "expression", default="") for s in selectors),
        raw.get("count") or 1,
        raw.get("allocationMode") == "All",
        bool(raw.get("adminAccess")),
        tuple(raw.get("tolerations") or ()),
        tuple(spec.get("config") or ()),
    )


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


class Allocator:
    """For all claims of one pod on one node."""

    def __init__(self, pools: Pools, taken: set[Key], matches: Matches) -> None:
        self._pools = pools
        self._taken = set(taken)
        self._left = dict(pools.counters)
        for key in taken:
            self._draw(key, -1)
        self._matches = matches
        self._chosen: list[tuple[int, Request, Device]] = []
        self._steps = 0
        self._fitting: dict[Request, list[Device]] = {}

    def allocate(
        self, claims: Sequence[Obj], requests: Sequence[Sequence[Sequence[Request]]]
    ) -> list[Obj] | None:
        """An AllocationResult a claim; None: there is no way. :raises AllocationError:"""
        wanted = [(i, options) for i, own in enumerate(requests) for options in own]
        if not self._place(claims, wanted):
            return None
        return [
            allocation_of(claim, [(r, d) for i, r, d in self._chosen if i == index])
            for index, claim in enumerate(claims)
        ]

    def _place(
        self, claims: Sequence[Obj], wanted: Sequence[tuple[int, Sequence[Request]]]
    ) -> bool:
        if not wanted:
            return True
        (index, options), rest = wanted[0], wanted[1:]
        for request in options:
            fitting = self._fits(request)
            if request.everything:
                # All devices are wanted: all must be known.
                if not fitting or self._pools.incomplete:
                    continue
                count = len(fitting)
            else:
                count = request.count
            if self._pick(claims, index, request, fitting, 0, count, rest):
                return True
        return False

    def _fits(self, request: Request) -> list[Device]:
        if request not in self._fitting:
            self._fitting[request] = [
                d for d in self._pools.devices
                if tolerated(d, request) and all(self._matches(s, d) for s in request.selectors)
            ]  # fmt: skip
        return self._fitting[request]

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
            if not request.admin and device.key in self._taken:
                if request.everything:
                    return False
                continue
            if not self._allowed(claims[index], index, request, device):
                continue
            self._take(index, request, device)
            if self._pick(claims, index, request, fitting, i + 1, left - 1, rest):
                return True
            self._give_back()
        return False

    def _take(self, index: int, request: Request, device: Device) -> None:
        self._chosen.append((index, request, device))
        if not request.admin:
            self._taken.add(device.key)
            self._draw(device.key, -1)

    def _give_back(self) -> None:
        _, request, device = self._chosen.pop()
        if not request.admin:
            self._taken.discard(device.key)
            self._draw(device.key, 1)

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
        if not request.admin and not self._lasts(device):
            return False
        mine = [(r, d) for i, r, d in self._chosen if i == index]
        if len(mine) >= MAX_DEVICES or any(d.key == device.key for _, d in mine):
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
    value = device.attribute(name)
    if value is None:
        return False
    if same:
        return all(other.attribute(name) == value for other in others)
    return all(other.attribute(name) != value for other in others)


def allocation_of(claim: Obj, chosen: Sequence[tuple[Request, Device]]) -> Obj:
    """The claim's ``status.allocation``."""
    results, config = [], []
    seen: set[str] = set()
    for request, device in chosen:
        result: Obj = {
            "request": request.name, "driver": device.driver, "pool": device.pool,
            "device": device.name,
        }  # fmt: skip
        if request.admin:
            result["adminAccess"] = True
        if request.tolerations:
            result["tolerations"] = list(request.tolerations)
        results.append(result)
        if request.name not in seen:
            seen.add(request.name)
            config += [
                {"source": "FromClass", "requests": [request.name], **c}
                for c in request.class_config
            ]
    for entry in get_nested(claim, "spec", "devices", "config", default=()):
        config.append({"source": "FromClaim", **entry})
    devices: Obj = {"results": results}
    if config:
        devices["config"] = config
    allocation: Obj = {"devices": devices}
    selector = node_selector_of([device for _, device in chosen])
    if selector is not None:
        allocation["nodeSelector"] = selector
    return allocation


def node_selector_of(devices: Sequence[Device]) -> Obj | None:
    """Where the devices can be used together; None: everywhere."""
    term: dict[str, list[Obj]] = {}
    for device in devices:
        spec = device.slice["spec"]
        place = device.raw if spec.get("perDeviceNodeSelection") else spec
        if place.get("nodeName"):
            only = {"key": "metadata.name", "operator": "In", "values": [place["nodeName"]]}
            return {"nodeSelectorTerms": [{"matchFields": [only]}]}
        for wanted in get_nested(place, "nodeSelector", "nodeSelectorTerms", default=()):
            for part in ("matchFields", "matchExpressions"):
                for requirement in wanted.get(part) or ():
                    if requirement not in term.setdefault(part, []):
                        term[part].append(requirement)
    term = {part: requirements for part, requirements in term.items() if requirements}
    return {"nodeSelectorTerms": [term]} if term else None


def devices_of(allocation: Obj) -> Iterator[Key]:
    """Devices that nobody else may have while the allocation stands."""
    for result in get_nested(allocation, "devices", "results", default=()):
        if not result.get("adminAccess"):
            yield (result["driver"], result["pool"], result["device"])


class Selectors:
    """CEL expressions over devices, compiled once."""

    def __init__(self) -> None:
        self._programs: dict[str, Any] = {}

    def matches(self, expression: str, device: Device) -> bool:
        from pilothouse.cel.interfaces import Budget, EvaluationError

        try:
            value = self._program(expression).evaluate({"device": view_of(device)}, Budget(1000000))
        except EvaluationError as error:
            where = "/".join(device.key)
            raise AllocationError(f"device {where}: CEL runtime error: {error}") from error
        return bool(value)

    def _program(self, expression: str) -> Any:
        if expression not in self._programs:
            from pilothouse.cel.interfaces import CompileError
            from pilothouse.cel.kubernetes import device_selector

            try:
                self._programs[expression] = device_selector().compile(expression)
            except CompileError as error:
                raise AllocationError(f"CEL compile error: {expression}: {error}") from error
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
