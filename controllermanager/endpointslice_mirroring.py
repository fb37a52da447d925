"""EndpointSlices for Endpoints that users wrote by hand (Services without a selector)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pilothouse.apimachinery.errors import StatusError, is_not_found
from pilothouse.apimachinery.object import Obj, copy_object, meta, name_of, namespace_of, object_key
from pilothouse.controllermanager.controller import Controller
from pilothouse.controllermanager.controller_ref import controller_reference
from pilothouse.controllermanager.endpoints import LEADER_ANNOTATION
from pilothouse.controllermanager.endpointslice import (
    MANAGED_BY_LABEL,
    SERVICE_INDEX,
    SliceTracker,
    slice_service_index,
)
from pilothouse.controllermanager.endpointslice_diff import (
    Changes,
    PortKey,
    diff,
    endpoint_key,
    port_key,
)
from pilothouse.controllermanager.pod_control import NAMESPACE_TERMINATING
from pilothouse.controllermanager.pods import generate_name_prefix
from pilothouse.controllermanager.service_endpoints import SERVICE_NAME_LABEL
from pilothouse.kubeclient.resources import ENDPOINT_SLICES, ENDPOINTS, SERVICES

if TYPE_CHECKING:
    from pilothouse.kubeclient.interfaces import Environment

MANAGER = "endpointslicemirroring-controller.k8s.io"
SKIP_MIRROR = "endpointslice.kubernetes.io/skip-mirror"
LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
MAX_PER_SUBSET = 1000


def is_mirrored(endpoints: Obj, service: Obj | None) -> bool:
    if (meta(endpoints).get("labels") or {}).get(SKIP_MIRROR) == "true":
        return False
    if LEADER_ANNOTATION in (meta(endpoints).get("annotations") or {}):
        return False
    return service is not None and (service.get("spec") or {}).get("selector") is None


def compute(endpoints: Obj, slices: list[Obj]) -> Changes:
    """The writes that make the slices say what the Endpoints say."""
    changes = Changes()
    labels = {
        **(meta(endpoints).get("labels") or {}),
        SERVICE_NAME_LABEL: name_of(endpoints),
        MANAGED_BY_LABEL: MANAGER,
    }
    wanted: dict[str, dict[PortKey, tuple[list[Obj], dict[tuple[object, ...], Obj]]]] = {
        "IPv4": {},
        "IPv6": {},
    }
    for subset in endpoints.get("subsets") or ():
        ports = [_port(p) for p in subset.get("ports") or ()]
        listed = [(a, True) for a in subset.get("addresses") or ()]
        listed += [(a, False) for a in subset.get("notReadyAddresses") or ()]
        for address, ready in listed[:MAX_PER_SUBSET]:
            family = wanted["IPv6" if ":" in address["ip"] else "IPv4"]
            endpoint = _endpoint(address, ready)
            family.setdefault(port_key(ports), (ports, {}))[1][endpoint_key(endpoint)] = endpoint
    for address_type, groups in wanted.items():
        own = [s for s in slices if s.get("addressType") == address_type]
        if not groups and not own:
            continue
        if not groups:
            changes.delete += own
            continue
        part = diff(own, groups, _template(endpoints, address_type), labels, MAX_PER_SUBSET)
        changes.create += part.create
        changes.update += [_named(piece, own) for piece in part.update]
        changes.delete += part.delete
    return changes


def _named(piece: Obj, slices: list[Obj]) -> Obj:
    """Upstream makes a slice anew to change it, and one that has a name gets no prefix."""
    old = next(s for s in slices if name_of(s) == name_of(piece))
    if port_key(old.get("ports") or ()) == port_key(piece.get("ports") or ()):
        piece["metadata"].pop("generateName", None)
    return piece


def _port(port: Obj) -> Obj:
    entry = {
        "name": port.get("name") or "",
        "port": port["port"],
        "protocol": port.get("protocol") or "TCP",
    }
    if port.get("appProtocol") is not None:
        entry["appProtocol"] = port["appProtocol"]
    return entry


def _endpoint(address: Obj, ready: bool) -> Obj:
    endpoint: Obj = {"addresses": [address["ip"]], "conditions": {"ready": ready}}
    for field in ("hostname", "nodeName", "targetRef"):
        if address.get(field):
            endpoint[field] = address[field]
    return endpoint


def _template(endpoints: Obj, address_type: str) -> Obj:
    annotations = {
        k: v for k, v in (meta(endpoints).get("annotations") or {}).items() if k != LAST_APPLIED
    }
    metadata: Obj = {
        "generateName": generate_name_prefix(name_of(endpoints)),
        "namespace": namespace_of(endpoints),
        "ownerReferences": [
            controller_reference({**endpoints, "apiVersion": "v1", "kind": "Endpoints"})
        ],
    }
    if annotations:
        metadata["annotations"] = annotations
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": metadata,
        "addressType": address_type,
        "ports": [],
        "endpoints": [],
    }


class EndpointSliceMirroringController(Controller):
    name = "endpointslice-mirroring-controller"
    retry_delays = (1.0, 100.0)

    def __init__(self, env: Environment, *, workers: int = 5) -> None:
        super().__init__(env, workers=workers)
        self._tracker = SliceTracker()
        self._endpoints = self.watch_keys(ENDPOINTS)
        self._services = self.watch(SERVICES, self.enqueue, self._service_updated, self.enqueue)
        self._slices = self.watch(
            ENDPOINT_SLICES,
            self._slice_event,
            lambda _, new: self._slice_event(new),
            self._slice_deleted,
        )
        self._slices.add_index(SERVICE_INDEX, slice_service_index)

    def _service_updated(self, old: Obj, new: Obj) -> None:
        selectors = [(s.get("spec") or {}).get("selector") is None for s in (old, new)]
        if selectors[0] != selectors[1]:
            self.enqueue(new)

    def _slice_key(self, piece: Obj) -> str:
        labels = meta(piece).get("labels") or {}
        if labels.get(MANAGED_BY_LABEL) != MANAGER:
            return ""
        return f"{namespace_of(piece)}/{labels.get(SERVICE_NAME_LABEL)}"

    def _slice_event(self, piece: Obj) -> None:
        key = self._slice_key(piece)
        if key and (key in self._tracker.waiting or not self._tracker.is_own(key, piece)):
            self._tracker.waiting.discard(key)
            self.queue.add(key)

    def _slice_deleted(self, piece: Obj) -> None:
        key = self._slice_key(piece)
        if key:
            self._tracker.gone(key, piece)
            self.queue.add(key)

    async def sync(self, key: str) -> None:
        endpoints = self._endpoints.get(key)
        slices = self._slices.by_index(SERVICE_INDEX, f"{MANAGER}/{key}")
        if self._tracker.is_stale(key, slices):
            self._tracker.waiting.add(key)
            return
        if endpoints is None or not is_mirrored(endpoints, self._services.get(key)):
            await self._write(key, Changes(delete=list(slices)))
            return
        await self._write(key, compute(endpoints, slices))

    async def _write(self, key: str, changes: Changes) -> None:
        for new in changes.create:
            try:
                created = await self.client.create(
                    ENDPOINT_SLICES, copy_object(new), namespace_of(new)
                )
            except StatusError as error:
                if error.has_cause(NAMESPACE_TERMINATING):
                    return
                raise
            self._tracker.wrote(key, created)
        for new in changes.update:
            self._tracker.wrote(key, await self.client.update(ENDPOINT_SLICES, copy_object(new)))
        for old in changes.delete:
            try:
                await self.client.delete(ENDPOINT_SLICES, name_of(old), namespace_of(old))
            except StatusError as error:
                if not is_not_found(error):
                    raise

    def enqueue(self, obj: Obj) -> None:
        self.queue.add(object_key(obj))
