"""EndpointSlices as the proxy sees them: the endpoints of each Service port (pure)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from pilothouse.apimachinery.object import Obj
from pilothouse.kubeproxy.services import ServicePortName

SERVICE_LABEL = "kubernetes.io/service-name"
HEADLESS_LABEL = "service.kubernetes.io/headless"
"""Whatever its value, the slice is not for proxies."""


class Endpoint(NamedTuple):
    ip: str
    port: int
    ready: bool
    serving: bool
    terminating: bool
    node: str
    zone_hints: tuple[str, ...] = ()
    node_hints: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.ip}:{self.port}"


class EndpointsTracker:
    """Keeps the slices of each Service; tells which Services a slice event concerns."""

    def __init__(self) -> None:
        self._slices: dict[tuple[str, str], dict[str, Obj]] = {}

    def set(self, slice_: Obj) -> tuple[str, str] | None:
        """(namespace, service name) that changed; None when the slice is nobody's or not IPv4."""
        service = _service_of(slice_)
        if service is None:
            return None
        if HEADLESS_LABEL in slice_["metadata"]["labels"]:
            return self.remove(slice_)
        self._slices.setdefault(service, {})[slice_["metadata"]["name"]] = slice_
        return service

    def remove(self, slice_: Obj) -> tuple[str, str] | None:
        service = _service_of(slice_)
        if service is None:
            return None
        slices = self._slices.get(service, {})
        slices.pop(slice_["metadata"]["name"], None)
        if not slices:
            self._slices.pop(service, None)
        return service

    def of(self, service: tuple[str, str]) -> dict[ServicePortName, list[Endpoint]]:
        """Endpoints by port of the Service, sorted by address, each once."""
        return endpoints_by_port(service, self._slices.get(service, {}).values())


def endpoints_by_port(
    service: tuple[str, str], slices: Iterable[Obj]
) -> dict[ServicePortName, list[Endpoint]]:
    """An endpoint in two slices (moving between them) counts once, ready if either says so."""
    found: dict[ServicePortName, dict[tuple[str, int], Endpoint]] = {}
    for slice_ in slices:
        for port in slice_.get("ports") or ():
            if port.get("port") is None:
                continue
            name = ServicePortName(*service, port.get("name") or "", port.get("protocol") or "TCP")
            into = found.setdefault(name, {})
            for endpoint in slice_.get("endpoints") or ():
                made = _endpoint(endpoint, port["port"])
                if made is not None:
                    before = into.get((made.ip, made.port))
                    if before is None or (made.ready and not before.ready):
                        into[made.ip, made.port] = made
    return {name: [into[k] for k in sorted(into)] for name, into in found.items()}


def _endpoint(endpoint: Obj, port: int) -> Endpoint | None:
    addresses = endpoint.get("addresses") or ()
    if not addresses:
        return None
    conditions = endpoint.get("conditions") or {}
    ready = conditions.get("ready") is not False
    terminating = bool(conditions.get("terminating"))
    serving = conditions.get("serving")
    hints = endpoint.get("hints") or {}
    return Endpoint(
        addresses[0],
        port,
        ready,
        ready if serving is None else bool(serving),
        terminating,
        endpoint.get("nodeName") or "",
        tuple(h["name"] for h in hints.get("forZones") or ()),
        tuple(h["name"] for h in hints.get("forNodes") or ()),
    )


def _service_of(slice_: Obj) -> tuple[str, str] | None:
    metadata = slice_["metadata"]
    name = (metadata.get("labels") or {}).get(SERVICE_LABEL)
    if not name or slice_.get("addressType") != "IPv4":
        return None
    return metadata.get("namespace") or "", name
