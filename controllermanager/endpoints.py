"""Endpoints, the older form of EndpointSlices: one object a Service, at most 1000 addresses."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from pilothouse.apimachinery.errors import StatusError, is_not_found
from pilothouse.apimachinery.labels import selector_from_map
from pilothouse.apimachinery.object import Obj, copy_object, meta, name_of, namespace_of
from pilothouse.controllermanager import service_endpoints
from pilothouse.controllermanager.controller import Controller
from pilothouse.controllermanager.pod_control import NAMESPACE_TERMINATING
from pilothouse.controllermanager.pods import is_ready, node_of
from pilothouse.kubeclient.resources import ENDPOINTS, PODS, SERVICES

if TYPE_CHECKING:
    from pilothouse.kubeclient.interfaces import Environment

MAX_CAPACITY = 1000
OVER_CAPACITY = "endpoints.kubernetes.io/over-capacity"
MANAGED_BY_LABEL = "endpoints.kubernetes.io/managed-by"
MANAGER = "endpoint-controller"
LEADER_ANNOTATION = "control-plane.alpha.kubernetes.io/leader"


def compute_subsets(service: Obj, pods: Sequence[Obj]) -> list[Obj]:
    """The subsets for the pods that the selector picks."""
    publish = bool(service["spec"].get("publishNotReadyAddresses"))
    headless_without_ports = (
        not service["spec"].get("ports") and service["spec"].get("clusterIP") == "None"
    )
    flat: list[tuple[bool, Obj, Obj | None]] = []
    for pod in pods:
        if not service_endpoints.is_included(pod, terminating=publish):
            continue
        address = _address(service, pod)
        if address is None:
            continue
        ready = publish or is_ready(pod)
        if headless_without_ports:
            flat.append((ready, address, None))
        for port in service["spec"].get("ports") or ():
            number = service_endpoints.find_port(pod, port)
            if number is not None:
                flat.append((ready, address, _port(port, number)))
    return repack(flat)


def _address(service: Obj, pod: Obj) -> Obj | None:
    families = service["spec"].get("ipFamilies") or ()
    six = families[0] == "IPv6" if families else ":" in (service["spec"].get("clusterIP") or "")
    for ip in service_endpoints.addresses_of(pod):
        if (":" in ip) == six:
            break
    else:
        return None
    address: Obj = {"ip": ip, "targetRef": service_endpoints.pod_reference(pod)}
    if node_of(pod):
        address["nodeName"] = node_of(pod)
    hostname = service_endpoints.hostname_of(pod, service)
    if hostname:
        address["hostname"] = hostname
    return address


def _port(port: Obj, number: int) -> Obj:
    entry: Obj = {"port": number, "protocol": port.get("protocol") or "TCP"}
    if port.get("name"):
        entry["name"] = port["name"]
    if port.get("appProtocol") is not None:
        entry["appProtocol"] = port["appProtocol"]
    return entry


def repack(flat: Sequence[tuple[bool, Obj, Obj | None]]) -> list[Obj]:
    """Canonical subsets of (ready, address, port): addresses with the same ports share one."""
    addresses: dict[tuple[str, str], Obj] = {}
    ports_of: dict[tuple[str, str], list[Obj]] = {}
    ready_of: dict[tuple[str, str], bool] = {}
    for ready, address, port in flat:
        key = (address["ip"], (address.get("targetRef") or {}).get("uid") or "")
        addresses.setdefault(key, address)
        ready_of[key] = ready
        ports = ports_of.setdefault(key, [])
        if port is not None and port not in ports:
            ports.append(port)
    groups: dict[str, tuple[list[Obj], list[tuple[str, str]]]] = {}
    for key, ports in ports_of.items():
        ports = sorted(ports, key=_port_order)
        groups.setdefault(repr(ports), (ports, []))[1].append(key)
    subsets = []
    for _, (ports, keys) in sorted(groups.items()):
        subset: Obj = {}
        for field, wanted in (("addresses", True), ("notReadyAddresses", False)):
            listed = [addresses[k] for k in sorted(keys) if ready_of[k] == wanted]
            if listed:
                subset[field] = listed
        if ports:
            subset["ports"] = ports
        subsets.append(subset)
    return subsets


def _port_order(port: Obj) -> tuple[int, str, str]:
    return port["port"], port["protocol"], port.get("name", "")


def _repacked(subsets: Sequence[Obj]) -> list[Obj]:
    flat: list[tuple[bool, Obj, Obj | None]] = []
    for subset in subsets:
        for field, ready in (("addresses", True), ("notReadyAddresses", False)):
            for address in subset.get(field) or ():
                for port in subset.get("ports") or (None,):
                    flat.append((ready, address, port))
    return repack(flat)


def truncate(subsets: list[Obj]) -> bool:
    """Cuts the addresses down to 1000, ready ones first, evenly over the subsets. In place."""
    ready = sum(len(s.get("addresses") or ()) for s in subsets)
    not_ready = sum(len(s.get("notReadyAddresses") or ()) for s in subsets)
    if ready + not_ready <= MAX_CAPACITY:
        return False
    field, total = "notReadyAddresses", not_ready
    limit = MAX_CAPACITY - ready
    if ready > MAX_CAPACITY:
        field, total, limit = "addresses", ready, MAX_CAPACITY
    left = limit
    for subset in subsets:
        addresses = subset.get(field) or []
        count = min(math.ceil(len(addresses) / total * limit), left)
        subset[field] = addresses[:count]
        left -= len(subset[field])
        if field == "addresses":
            subset.pop("notReadyAddresses", None)
        if not subset[field]:
            del subset[field]
    return True


def compute(service: Obj, pods: Sequence[Obj], current: Obj | None, trigger: str) -> Obj | None:
    """The Endpoints object to write, or None when the present one is right."""
    subsets = compute_subsets(service, pods)
    labels = {
        **(meta(service).get("labels") or {}),
        **service_endpoints.headless_label(service),
        MANAGED_BY_LABEL: MANAGER,
    }
    if service_endpoints.is_ip_set(service):
        labels.pop(service_endpoints.HEADLESS_LABEL, None)
    truncated = truncate(subsets)
    annotations = service_endpoints.with_trigger_time(
        meta(current).get("annotations") if current else None, trigger
    )
    annotations.pop(OVER_CAPACITY, None)
    if truncated:
        annotations[OVER_CAPACITY] = "truncated"
    if current is not None:
        old = meta(current).get("annotations") or {}
        if (
            (meta(current).get("labels") or {}) == labels
            and (OVER_CAPACITY in old) == truncated
            and _repacked(current.get("subsets") or ()) == _repacked(subsets)
        ):
            return None
    new: Obj = copy_object(current) if current else {"apiVersion": "v1", "kind": "Endpoints"}
    metadata = new.setdefault(
        "metadata", {"name": name_of(service), "namespace": namespace_of(service)}
    )
    metadata["labels"] = labels
    metadata["annotations"] = annotations
    if not annotations:
        del metadata["annotations"]
    new["subsets"] = subsets
    if not subsets:
        del new["subsets"]
    return new


class EndpointsController(Controller):
    name = "endpoints-controller"

    def __init__(self, env: Environment, *, workers: int = 5) -> None:
        super().__init__(env, workers=workers, component="endpoint-controller")
        self._times = service_endpoints.TriggerTimes()
        self._services = self.watch_keys(SERVICES)
        self._pods = self.watch(PODS, self._pod_event, self._pod_updated, self._pod_event)
        self._endpoints = self.watch(ENDPOINTS, on_delete=self.enqueue)

    def start_workers(self) -> None:
        super().start_workers()
        # Endpoints whose Service went away while nobody looked.
        for endpoints in self._endpoints.list():
            if LEADER_ANNOTATION not in (meta(endpoints).get("annotations") or {}):
                self.enqueue(endpoints)

    def _pod_event(self, pod: Obj) -> None:
        for key in service_endpoints.services_of(pod, self._services.list(namespace_of(pod))):
            self.queue.add(key)

    def _pod_updated(self, old: Obj, new: Obj) -> None:
        if not service_endpoints.changed(old, new):
            return
        self._pod_event(new)
        if meta(old).get("labels") != meta(new).get("labels"):
            self._pod_event(old)

    async def sync(self, key: str) -> None:
        service = self._services.get(key)
        if service is None:
            self._times.forget(key)
            await self._delete(key)
            return
        if not service_endpoints.has_selector(service):
            return
        selector = selector_from_map(service["spec"]["selector"])
        pods = self._pods.list(namespace_of(service), selector)
        current = self._endpoints.get(key)
        new = compute(service, pods, current, self._times.compute(service, pods))
        if new is None:
            return
        verb = "create" if current is None else "update"
        try:
            if current is None:
                await self.client.create(ENDPOINTS, new, namespace_of(service))
            else:
                await self.client.update(ENDPOINTS, new)
        except StatusError as error:
            if error.has_cause(NAMESPACE_TERMINATING):
                return
            subject = f"endpoint for service {key}" if verb == "create" else f"endpoint {key}"
            reason = f"FailedTo{verb.title()}Endpoint"
            self.recorder.event(new, "Warning", reason, f"Failed to {verb} {subject}: {error}")
            raise

    async def _delete(self, key: str) -> None:
        if self._endpoints.get(key) is None:
            return
        namespace, _, name = key.partition("/")
        try:
            await self.client.delete(ENDPOINTS, name, namespace)
        except StatusError as error:
            if not is_not_found(error):
                raise
