"""EndpointSlices of Services with a selector: up to 100 pods each."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from pilothouse.apimachinery.errors import StatusError, is_not_found
from pilothouse.apimachinery.labels import selector_from_map
from pilothouse.apimachinery.object import (
    Obj,
    condition_of,
    copy_object,
    get_nested,
    meta,
    name_of,
    namespace_of,
    object_key,
    uid_of,
)
from pilothouse.controllermanager import service_endpoints
from pilothouse.controllermanager.controller import Controller, SyncError
from pilothouse.controllermanager.controller_ref import controller_reference
from pilothouse.controllermanager.endpointslice_diff import (
    Changes,
    PortKey,
    diff,
    endpoint_key,
    port_key,
)
from pilothouse.controllermanager.pod_control import NAMESPACE_TERMINATING
from pilothouse.controllermanager.pods import (
    generate_name_prefix,
    is_deleted,
    is_ready,
    node_of,
)
from pilothouse.controllermanager.topology_hints import TopologyHints
from pilothouse.kubeclient.resources import ENDPOINT_SLICES, NODES, PODS, SERVICES

if TYPE_CHECKING:
    from pilothouse.kubeclient.interfaces import Environment

MANAGED_BY_LABEL = "endpointslice.kubernetes.io/managed-by"
MANAGER = "endpointslice-controller.k8s.io"
SERVICE_INDEX = "sliceService"
ZONE_LABEL = "topology.kubernetes.io/zone"
_TOPOLOGY_HINTS = "service.kubernetes.io/topology-aware-hints"
_TOPOLOGY_MODE = "service.kubernetes.io/topology-mode"
_CLOSE = ("PreferClose", "PreferSameZone", "PreferSameNode")
_RESERVED = (
    service_endpoints.SERVICE_NAME_LABEL,
    MANAGED_BY_LABEL,
    service_endpoints.HEADLESS_LABEL,
)


def compute(
    service: Obj,
    pods: Sequence[Obj],
    slices: Sequence[Obj],
    nodes: Mapping[str, Obj],
    maximum: int = 100,
    topology: TopologyHints | None = None,
) -> tuple[Changes, list[str]]:
    """The writes for one Service, and what stands in the way of pods that were left out.

    ``pods``: those that the selector picks; ``nodes``: theirs by name; ``slices``: what this
    controller has made for the Service. ``topology``: gives the hints of the topology mode.
    """
    changes, problems = Changes(), list[str]()
    types = address_types(service)
    for piece in slices:
        if piece.get("addressType") not in types:
            changes.delete.append(piece)
    for address_type in types:
        existing = [s for s in slices if s.get("addressType") == address_type]
        own = [s for s in existing if _owned_by(s, service)]
        changes.delete += [s for s in existing if not _owned_by(s, service)]
        wanted: dict[PortKey, tuple[list[Obj], dict[tuple[object, ...], Obj]]] = {}
        for pod in pods:
            if not service_endpoints.is_included(pod, terminating=True):
                continue
            ports = endpoint_ports(service, pod)
            _, endpoints = wanted.setdefault(port_key(ports), (ports, {}))
            node = nodes.get(node_of(pod))
            if node is None and not service["spec"].get("publishNotReadyAddresses"):
                problems.append(
                    f"skipping Pod {name_of(pod)} for Service {object_key(service)}: "
                    f"Node {node_of(pod)} Not Found"
                )
                continue
            endpoint = to_endpoint(pod, node, service, address_type)
            if endpoint["addresses"]:
                endpoints[endpoint_key(endpoint)] = endpoint
        filled = {key: value for key, value in wanted.items() if value[1]}
        if topology is not None and _uses_topology_mode(service):
            _keep_hints(own, filled)
        part = diff(own, filled, _template(service, address_type), slice_labels(service), maximum)
        if topology is not None:
            _add_hints(topology, service, address_type, own, part)
        changes.create += part.create
        changes.update += part.update
        changes.delete += part.delete
    return changes, problems


def _keep_hints(
    existing: Sequence[Obj],
    wanted: Mapping[PortKey, tuple[list[Obj], dict[tuple[object, ...], Obj]]],
) -> None:
    """As they are: whether they may stay is decided for all slices together."""
    for piece in existing:
        _, endpoints = wanted.get(port_key(piece.get("ports") or ()), ([], {}))
        for endpoint in piece.get("endpoints") or ():
            now = endpoints.get(endpoint_key(endpoint))
            if now is not None and "hints" in endpoint:
                now["hints"] = endpoint["hints"]


def _add_hints(
    topology: TopologyHints, service: Obj, address_type: str, existing: Sequence[Obj], part: Changes
) -> None:
    key = object_key(service)
    if not _uses_topology_mode(service):
        topology.leave(key, address_type)
        return
    touched = {name_of(piece) for piece in (*part.update, *part.delete)}
    unchanged = [piece for piece in existing if name_of(piece) not in touched]
    part.update += topology.add(key, address_type, [*part.create, *part.update], unchanged)


def address_types(service: Obj) -> list[str]:
    families = get_nested(service, "spec", "ipFamilies", default=())
    if families:
        return list(families)
    cluster_ip = get_nested(service, "spec", "clusterIP", default="")
    if cluster_ip and cluster_ip != "None":
        return ["IPv6" if ":" in cluster_ip else "IPv4"]
    return ["IPv4", "IPv6"]


def endpoint_ports(service: Obj, pod: Obj) -> list[Obj]:
    ports: list[Obj] = []
    for port in get_nested(service, "spec", "ports", default=()):
        number = service_endpoints.find_port(pod, port)
        if number is None:
            continue
        entry = {
            "name": port.get("name") or "",
            "port": number,
            "protocol": port.get("protocol") or "TCP",
        }
        if port.get("appProtocol") is not None:
            entry["appProtocol"] = port["appProtocol"]
        ports.append(entry)
    return ports


def to_endpoint(pod: Obj, node: Obj | None, service: Obj, address_type: str) -> Obj:
    serving, terminating = is_ready(pod), is_deleted(pod)
    publish = bool(service["spec"].get("publishNotReadyAddresses"))
    endpoint: Obj = {
        "addresses": [
            str(ipaddress.ip_address(ip))
            for ip in service_endpoints.addresses_of(pod)
            if (":" in ip) == (address_type == "IPv6")
        ],
        "conditions": {
            "ready": publish or (serving and not terminating),
            "serving": serving,
            "terminating": terminating,
        },
        "targetRef": service_endpoints.pod_reference(pod),
    }
    if node_of(pod):
        endpoint["nodeName"] = node_of(pod)
    zone = (meta(node).get("labels") or {}).get(ZONE_LABEL) if node is not None else None
    if zone:
        endpoint["zone"] = zone
    hostname = service_endpoints.hostname_of(pod, service)
    if hostname:
        endpoint["hostname"] = hostname
    hints = _hints(endpoint, service)
    if hints:
        endpoint["hints"] = hints
    return endpoint


def _hints(endpoint: Obj, service: Obj) -> Obj:
    """Who should use this endpoint, as the Service's trafficDistribution asks (trafficdist.go)."""
    wish = service["spec"].get("trafficDistribution")
    if wish not in _CLOSE or not endpoint["conditions"]["ready"] or _uses_topology_mode(service):
        return {}
    hints: Obj = {}
    if endpoint.get("zone"):
        hints["forZones"] = [{"name": endpoint["zone"]}]
    if endpoint.get("nodeName") and wish == "PreferSameNode":
        hints["forNodes"] = [{"name": endpoint["nodeName"]}]
    return hints


def _uses_topology_mode(service: Obj) -> bool:
    """The older annotations win over the field; without enough zones they ask for no hints."""
    annotations = meta(service).get("annotations") or {}
    return annotations.get(_TOPOLOGY_HINTS, annotations.get(_TOPOLOGY_MODE)) in ("Auto", "auto")


def slice_labels(service: Obj) -> dict[str, str]:
    """The Service's labels and what tells whose slice it is."""
    labels = {k: v for k, v in (meta(service).get("labels") or {}).items() if k not in _RESERVED}
    labels |= service_endpoints.headless_label(service)
    labels[service_endpoints.SERVICE_NAME_LABEL] = name_of(service)
    labels[MANAGED_BY_LABEL] = MANAGER
    return labels


def _template(service: Obj, address_type: str) -> Obj:
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "generateName": generate_name_prefix(name_of(service)),
            "namespace": namespace_of(service),
            "ownerReferences": [
                controller_reference({**service, "apiVersion": "v1", "kind": "Service"})
            ],
        },
        "addressType": address_type,
        "ports": [],
        "endpoints": [],
    }


def _owned_by(piece: Obj, service: Obj) -> bool:
    return any(
        reference.get("uid") == uid_of(service) and reference.get("kind") == "Service"
        for reference in meta(piece).get("ownerReferences") or ()
    )


def slice_service_index(piece: Obj) -> Sequence[str]:
    """Index value: ``<manager>/<namespace>/<service>``."""
    labels = meta(piece).get("labels") or {}
    name = labels.get(service_endpoints.SERVICE_NAME_LABEL)
    if not name:
        return ()
    return (f"{labels.get(MANAGED_BY_LABEL, '')}/{namespace_of(piece)}/{name}",)


class SliceTracker:
    """Our own writes that the informer has not shown yet (EndpointSliceTracker)."""

    def __init__(self) -> None:
        self._written: dict[str, dict[str, tuple[str, int]]] = {}
        self.waiting: set[str] = set()
        """Services whose sync was put off until the informer catches up."""

    def wrote(self, key: str, piece: Obj) -> None:
        version = int(meta(piece)["resourceVersion"])
        self._written.setdefault(key, {})[name_of(piece)] = (uid_of(piece), version)

    def is_own(self, key: str, piece: Obj) -> bool:
        """Whether this state of the slice is the one that we wrote last."""
        uid, version = self._written.get(key, {}).get(name_of(piece), ("", 0))
        return uid == uid_of(piece) and version >= int(meta(piece)["resourceVersion"])

    def gone(self, key: str, piece: Obj) -> None:
        self._written.get(key, {}).pop(name_of(piece), None)

    def is_stale(self, key: str, slices: Sequence[Obj]) -> bool:
        shown = {name_of(s): int(meta(s)["resourceVersion"]) for s in slices}
        return any(
            shown.get(name, -1) < version
            for name, (_, version) in self._written.get(key, {}).items()
        )

    def forget(self, key: str) -> None:
        self._written.pop(key, None)
        self.waiting.discard(key)


class EndpointSliceController(Controller):
    name = "endpointslice-controller"
    retry_delays = (1.0, 1000.0)

    def __init__(self, env: Environment, *, workers: int = 5, maximum: int = 100) -> None:
        super().__init__(env, workers=workers, component="endpoint-slice-controller")
        self._maximum = maximum
        self._times = service_endpoints.TriggerTimes()
        self._tracker = SliceTracker()
        self._services = self.watch_keys(SERVICES)
        self._pods = self.watch(PODS, self._pod_event, self._pod_updated, self._pod_event)
        self._slices = self.watch(
            ENDPOINT_SLICES, self._slice_event, self._slice_updated, self._slice_deleted
        )
        self._slices.add_index(SERVICE_INDEX, slice_service_index)
        self._nodes = self.watch(
            NODES, self._node_added, self._node_updated, lambda _: self._zones_changed()
        )
        self._topology = TopologyHints()
        self._zones_known = False

    # Events.

    def _pod_event(self, pod: Obj) -> None:
        for key in service_endpoints.services_of(pod, self._services.list(namespace_of(pod))):
            self.queue.add(key)

    def _pod_updated(self, old: Obj, new: Obj) -> None:
        if not service_endpoints.changed(old, new):
            return
        self._pod_event(new)
        if meta(old).get("labels") != meta(new).get("labels"):
            self._pod_event(old)

    def _slice_key(self, piece: Obj) -> str:
        labels = meta(piece).get("labels") or {}
        if labels.get(MANAGED_BY_LABEL) != MANAGER:
            return ""
        name = labels.get(service_endpoints.SERVICE_NAME_LABEL)
        return f"{namespace_of(piece)}/{name}" if name else ""

    def _slice_event(self, piece: Obj) -> None:
        """A slice changed by others is put right; our own only wakes a sync that waits."""
        key = self._slice_key(piece)
        if key and (key in self._tracker.waiting or not self._tracker.is_own(key, piece)):
            self._tracker.waiting.discard(key)
            self.queue.add(key)

    def _slice_updated(self, old: Obj, new: Obj) -> None:
        if self._slice_key(old) != self._slice_key(new):
            self._slice_event(old)
        self._slice_event(new)

    def _slice_deleted(self, piece: Obj) -> None:
        key = self._slice_key(piece)
        if key:
            self._tracker.gone(key, piece)
            self.queue.add(key)

    def _node_added(self, node: Obj) -> None:
        self._enqueue_node(node)
        self._zones_changed()

    def _node_updated(self, old: Obj, new: Obj) -> None:
        labels = [(meta(n).get("labels") or {}).get(ZONE_LABEL) for n in (old, new)]
        if labels[0] != labels[1]:
            self._enqueue_node(new)
        if labels[0] != labels[1] or _node_ready(old) != _node_ready(new):
            self._zones_changed()

    def _zones_changed(self) -> None:
        """The shares of the zones are worked out when a Service wants to know."""
        self._zones_known = False
        if self._topology.in_use:
            self._know_zones()
            for key in self._topology.overloaded():
                self.queue.add(key)

    def _know_zones(self) -> None:
        if not self._zones_known:
            self._zones_known = True
            self._topology.set_nodes(self._nodes.list())

    def _enqueue_node(self, node: Obj) -> None:
        """Pods of a node that just appeared (or moved) may have been left out."""
        for pod in self._pods.list():
            if node_of(pod) == name_of(node):
                self._pod_event(pod)

    # Sync.

    async def sync(self, key: str) -> None:
        service = self._services.get(key)
        if service is None:
            self._times.forget(key)
            self._tracker.forget(key)
            self._topology.forget(key)
            return
        if not service_endpoints.has_selector(service):
            return
        selector = selector_from_map(service["spec"]["selector"])
        pods = self._pods.list(namespace_of(service), selector)
        slices = self._slices.by_index(SERVICE_INDEX, f"{MANAGER}/{key}")
        if self._tracker.is_stale(key, slices):
            self._tracker.waiting.add(key)
            return
        nodes = {name: self._nodes.get(name) for name in map(node_of, pods)}
        found = {name: node for name, node in nodes.items() if node is not None}
        alive = [s for s in slices if not is_deleted(s)]
        if _uses_topology_mode(service):
            self._know_zones()
        changes, problems = compute(service, pods, alive, found, self._maximum, self._topology)
        events, self._topology.events = self._topology.events, []
        trigger = self._times.compute(service, pods)
        try:
            await self._write(key, service, changes, trigger)
            for event in events:
                self.recorder.event(service, *event)
            if problems:
                raise SyncError("; ".join(problems))
        except (StatusError, SyncError) as error:
            self.recorder.event(
                service,
                "Warning",
                "FailedToUpdateEndpointSlices",
                f"Error updating Endpoint Slices for Service {key}: {error}",
            )
            raise

    async def _write(self, key: str, service: Obj, changes: Changes, trigger: str) -> None:
        for new in changes.create if not is_deleted(service) else ():
            try:
                created = await self.client.create(
                    ENDPOINT_SLICES, _triggered(new, trigger), namespace_of(service)
                )
            except StatusError as error:
                if error.has_cause(NAMESPACE_TERMINATING):
                    return
                raise SyncError(
                    f"failed to create EndpointSlice for Service {key}: {error}"
                ) from error
            self._tracker.wrote(key, created)
        for new in changes.update:
            try:
                updated = await self.client.update(ENDPOINT_SLICES, _triggered(new, trigger))
            except StatusError as error:
                raise SyncError(
                    f"failed to update {name_of(new)} EndpointSlice for Service {key}: {error}"
                ) from error
            self._tracker.wrote(key, updated)
        for old in changes.delete:
            try:
                await self.client.delete(ENDPOINT_SLICES, name_of(old), namespace_of(old))
            except StatusError as error:
                if not is_not_found(error):
                    raise SyncError(
                        f"failed to delete {name_of(old)} EndpointSlice for Service {key}: {error}"
                    ) from error


def _node_ready(node: Obj) -> bool:
    return (condition_of(node, "Ready") or {}).get("status") == "True"


def _triggered(piece: Obj, trigger: str) -> Obj:
    new: Obj = copy_object(piece)
    annotations = service_endpoints.with_trigger_time(meta(new).get("annotations"), trigger)
    new["metadata"]["annotations"] = annotations
    if not annotations:
        del new["metadata"]["annotations"]
    return new
