"""The objects that answers are made of, in the shared informers."""

from __future__ import annotations

from collections.abc import Iterable

from pilothouse.apimachinery.object import Obj
from pilothouse.clusterdns.records import SERVICE_NAME_LABEL
from pilothouse.kubeclient.cache.factory import SharedInformerFactory
from pilothouse.kubeclient.cache.informer import SharedInformer
from pilothouse.kubeclient.resources import ENDPOINT_SLICES, NAMESPACES, PODS, SERVICES

BY_IP = "clusterdns/ip"
BY_SERVICE = "clusterdns/service"


class InformerView:
    """Implements ``records.View``."""

    def __init__(self, informers: SharedInformerFactory) -> None:
        self._namespaces = informers.informer(NAMESPACES)
        self._services = informers.informer(SERVICES)
        self._slices = informers.informer(ENDPOINT_SLICES)
        self._pods = informers.informer(PODS)
        self._services.add_index(BY_IP, service_ips)
        self._slices.add_index(BY_SERVICE, slice_service)
        self._slices.add_index(BY_IP, named_ips)
        self._pods.add_index(BY_IP, pod_ips)

    @property
    def informers(self) -> tuple[SharedInformer, ...]:
        return self._namespaces, self._services, self._slices, self._pods

    def has_namespace(self, name: str) -> bool:
        return self._namespaces.get(name) is not None

    def service(self, namespace: str, name: str) -> Obj | None:
        return self._services.get(f"{namespace}/{name}")

    def slices(self, namespace: str, service: str) -> Iterable[Obj]:
        return self._slices.by_index(BY_SERVICE, f"{namespace}/{service}")

    def services_by_ip(self, ip: str) -> Iterable[Obj]:
        return self._services.by_index(BY_IP, ip)

    def slices_by_ip(self, ip: str) -> Iterable[Obj]:
        return self._slices.by_index(BY_IP, ip)

    def has_pod(self, namespace: str, ip: str) -> bool:
        pods = self._pods.by_index(BY_IP, ip)
        return any(pod["metadata"]["namespace"] == namespace for pod in pods)


def service_ips(service: Obj) -> list[str]:
    spec = service.get("spec") or {}
    if spec.get("type") == "ExternalName":
        return []
    ips = spec.get("clusterIPs") or [spec.get("clusterIP") or ""]
    return [ip for ip in ips if ip not in ("", "None")]


def slice_service(slice_: Obj) -> list[str]:
    metadata = slice_["metadata"]
    name = (metadata.get("labels") or {}).get(SERVICE_NAME_LABEL)
    return [f"{metadata['namespace']}/{name}"] if name else []


def named_ips(slice_: Obj) -> list[str]:
    """Addresses of the endpoints with a hostname, if the slice belongs to a Service."""
    if not slice_service(slice_):
        return []
    named = (e for e in slice_.get("endpoints") or () if e.get("hostname"))
    return list(dict.fromkeys(ip for e in named for ip in e.get("addresses") or ()))


def pod_ips(pod: Obj) -> list[str]:
    status = pod.get("status") or {}
    ips = [entry.get("ip") or "" for entry in status.get("podIPs") or ()]
    return [ip for ip in ips or [status.get("podIP") or ""] if ip]
