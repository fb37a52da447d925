"""From Services and pods to addresses and ports, for Endpoints and EndpointSlices. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from pilothouse.apimachinery.labels import selector_from_map
from pilothouse.apimachinery.object import Obj, get_nested, meta, name_of, object_key
from pilothouse.controllermanager.controller import seconds_of
from pilothouse.controllermanager.pods import is_deleted, is_ready, is_terminal

HEADLESS_LABEL = "service.kubernetes.io/headless"
SERVICE_NAME_LABEL = "kubernetes.io/service-name"
TRIGGER_TIME = "endpoints.kubernetes.io/last-change-trigger-time"


def has_selector(service: Obj) -> bool:
    """Whether the Service's endpoints are the controllers' business."""
    spec = service.get("spec") or {}
    return spec.get("type") != "ExternalName" and spec.get("selector") is not None


def selected_pods(service: Obj, pods: Iterable[Obj]) -> list[Obj]:
    selector = selector_from_map(service["spec"]["selector"])
    return [pod for pod in pods if selector.matches(meta(pod).get("labels"))]


def is_ip_set(service: Obj) -> bool:
    return get_nested(service, "spec", "clusterIP", default="") not in ("", "None")


def is_included(pod: Obj, *, terminating: bool) -> bool:
    """Whether the pod has an address that counts."""
    if is_terminal(pod) or not addresses_of(pod):
        return False
    return terminating or not is_deleted(pod)


def addresses_of(pod: Obj) -> list[str]:
    status = pod.get("status") or {}
    listed = [entry.get("ip") for entry in status.get("podIPs") or ()]
    if not listed and status.get("podIP"):
        listed = [status["podIP"]]
    return [ip for ip in listed if ip]


def pod_reference(pod: Obj) -> Obj:
    metadata = meta(pod)
    return {
        "kind": "Pod",
        "namespace": metadata.get("namespace"),
        "name": metadata.get("name"),
        "uid": metadata.get("uid"),
    }


def hostname_of(pod: Obj, service: Obj) -> str:
    """The host name that the pod has in the Service's domain, if any."""
    spec = pod.get("spec") or {}
    if spec.get("hostname") and spec.get("subdomain") == name_of(service):
        return spec["hostname"]  # type: ignore[no-any-return]
    return ""


def find_port(pod: Obj, service_port: Obj) -> int | None:
    """The pod's port number for a port of the Service (podutil.FindPort)."""
    target = service_port.get("targetPort")
    if target is None:
        return service_port["port"]  # type: ignore[no-any-return]
    if isinstance(target, int):
        return target
    protocol = service_port.get("protocol") or "TCP"
    spec = pod.get("spec") or {}
    sidecars = [
        container
        for container in spec.get("initContainers") or ()
        if container.get("restartPolicy") == "Always"
    ]
    for container in [*(spec.get("containers") or ()), *sidecars]:
        for port in container.get("ports") or ():
            if port.get("name") == target and (port.get("protocol") or "TCP") == protocol:
                return port["containerPort"]  # type: ignore[no-any-return]
    return None


def changed(old: Obj, new: Obj) -> bool:
    """Whether an update of a pod can change any Service's endpoints."""
    return _facts(old) != _facts(new)


def _facts(pod: Obj) -> tuple[Any, ...]:
    spec = pod.get("spec") or {}
    return (
        meta(pod).get("labels"),
        spec.get("hostname"),
        spec.get("subdomain"),
        is_deleted(pod),
        is_ready(pod),
        is_terminal(pod),
        addresses_of(pod),
    )


def services_of(pod: Obj, services: Iterable[Obj]) -> list[str]:
    """Keys of the Services (of the pod's namespace) that select it."""
    labels = meta(pod).get("labels")
    return [
        object_key(service)
        for service in services
        if has_selector(service) and selector_from_map(service["spec"]["selector"]).matches(labels)
    ]


class TriggerTimes:
    """When what changed a Service's endpoints happened (TriggerTimeTracker): measures latency."""

    def __init__(self) -> None:
        self._seen: dict[str, tuple[str, dict[str, str]]] = {}

    def compute(self, service: Obj, pods: Sequence[Obj]) -> str:
        """The earliest change since the last call, "" when there was none."""
        created = meta(service).get("creationTimestamp") or ""
        times = {name_of(pod): time for pod in pods if (time := _ready_time(pod))}
        key = object_key(service)
        before = self._seen.get(key)
        self._seen[key] = (created, times)
        if before is None or before[0] != created:
            return created
        fresh = [t for name, t in times.items() if seconds_of(before[1].get(name)) < seconds_of(t)]
        return min(fresh, key=seconds_of, default="")

    def forget(self, key: str) -> None:
        self._seen.pop(key, None)


def _ready_time(pod: Obj) -> str:
    for condition in get_nested(pod, "status", "conditions", default=()):
        if condition.get("type") == "Ready":
            return condition.get("lastTransitionTime") or ""
    return ""


def with_trigger_time(annotations: dict[str, str] | None, time: str) -> dict[str, str]:
    kept = {k: v for k, v in (annotations or {}).items() if k != TRIGGER_TIME}
    return kept | ({TRIGGER_TIME: time} if time else {})


def headless_label(service: Obj) -> dict[str, str]:
    return {} if is_ip_set(service) else {HEADLESS_LABEL: ""}
