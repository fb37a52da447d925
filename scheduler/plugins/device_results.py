"""What was chosen, as a claim's ``status.allocation``. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from pilothouse.apimachinery.object import Obj, get_nested, name_of
from pilothouse.scheduler.plugins.device_allocator import Choice, Request
from pilothouse.scheduler.plugins.device_pools import Device, Key


def allocation_of(
    claim: Obj, chosen: Sequence[Choice], node_name: str, new_id: Callable[[], str]
) -> Obj:
    """``new_id``: names a share of a device."""
    devices: Obj = {"results": [_result(choice, new_id) for choice in chosen]}
    config = _config(claim, chosen)
    if config:
        devices["config"] = config
    allocation: Obj = {"devices": devices}
    selector = node_selector_of([choice.device for choice in chosen], node_name)
    if selector is not None:
        allocation["nodeSelector"] = selector
    return allocation


def _result(choice: Choice, new_id: Callable[[], str]) -> Obj:
    request, device = choice.request, choice.device
    result: Obj = {
        "request": request.name, "driver": device.driver, "pool": device.pool,
        "device": device.name,
    }  # fmt: skip
    if request.admin:
        result["adminAccess"] = True
    if request.tolerations:
        result["tolerations"] = list(request.tolerations)
    if choice.consumed is not None:
        result["shareID"] = new_id()
        if choice.consumed:
            result["consumedCapacity"] = {n: str(a) for n, a in choice.consumed.items()}
    for part in ("bindingConditions", "bindingFailureConditions"):
        if device.raw.get(part):
            result[part] = list(device.raw[part])
    return result


def _config(claim: Obj, chosen: Sequence[Choice]) -> list[Obj]:
    """Of the classes, each once, then the claim's own as far as it means requests that were
    chosen. An entry for all requests names none."""
    requests: dict[str, Request] = {c.request.parent: c.request for c in chosen}
    by_class: dict[str, list[Request]] = {}
    for request in requests.values():
        by_class.setdefault(name_of(request.device_class), []).append(request)
    config = [
        {"source": "FromClass", **entry, "requests": [r.name for r in users]}
        for users in by_class.values()
        for entry in get_nested(users[0].device_class, "spec", "config", default=())
    ]
    for entry in get_nested(claim, "spec", "devices", "config", default=()):
        names = entry.get("requests") or ()
        if not names or any(n in names for r in requests.values() for n in r.names()):
            config.append({"source": "FromClaim", **entry})
    for entry in config:
        names = entry.get("requests") or ()
        if all(any(n in names for n in request.names()) for request in requests.values()):
            entry.pop("requests", None)
    return config


def node_selector_of(devices: Sequence[Device], node_name: str) -> Obj | None:
    """Where the devices can be used together; None: everywhere."""
    term: dict[str, list[Obj]] = {}
    for device in devices:
        spec = device.slice["spec"]
        place = device.raw if spec.get("perDeviceNodeSelection") else spec
        if place.get("nodeName") or device.raw.get("bindsToNode"):
            only = {"key": "metadata.name", "operator": "In", "values": [node_name]}
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


def alternatives_score(claim: Obj, allocation: Obj) -> int:
    """How good the alternatives are that were chosen: 8 for each first one, 7 for a second."""
    chosen = {r["request"] for r in get_nested(allocation, "devices", "results", default=())}
    return sum(
        MAX_ALTERNATIVES - place
        for request in get_nested(claim, "spec", "devices", "requests", default=())
        for place, sub in enumerate(request.get("firstAvailable") or ())
        if f"{request['name']}/{sub['name']}" in chosen
    )


MAX_ALTERNATIVES = 8
