"""Service references → addresses (apiserver pkg/util/proxy); pure but for the lists it is given.

By default the Service's cluster address; with ``--enable-aggregator-routing`` one of its ready
endpoints, for control planes that do not route the service network.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pilothouse.apimachinery.schema import GroupResource

if TYPE_CHECKING:
    from collections.abc import Iterable
    from random import Random

    from pilothouse.apimachinery.object import Obj
    from pilothouse.apiserver.admission.interfaces import Listers

SERVICES = GroupResource("", "services")
SLICES = GroupResource("discovery.k8s.io", "endpointslices")
_SERVICE_NAME = "kubernetes.io/service-name"
_ROUTED = ("ClusterIP", "LoadBalancer", "NodePort")


class ResolveError(Exception):
    """The Service leads nowhere; the text is upstream's."""


class ServiceResolver:
    """Reads Services (and EndpointSlices) from the API server's own caches."""

    def __init__(self, listers: Listers, random: Random, *, endpoints: bool = False) -> None:
        self._listers = listers
        self._random = random
        self._endpoints = endpoints

    async def resolve(self, namespace: str, name: str, port: int) -> tuple[str, int]:
        """:raises ResolveError: there is no such Service or port, or nobody behind it."""
        ensure = getattr(self._listers, "ensure", None)
        if ensure is not None:
            await ensure(SERVICES, *((SLICES,) if self._endpoints else ()))
        service = self._listers.get(SERVICES, namespace, name)
        if service is None:
            raise ResolveError(f'service "{name}" not found')
        if not self._endpoints:
            return cluster_address(service, port)
        slices = [
            each
            for each in self._listers.list(SLICES, namespace)
            if (each["metadata"].get("labels") or {}).get(_SERVICE_NAME) == name
        ]
        return endpoint_address(service, slices, port, self._random)


def cluster_address(service: Obj, port: int) -> tuple[str, int]:
    """(host, port) of ``service``'s cluster address. :raises ResolveError: it has none."""
    spec = service.get("spec") or {}
    kind = spec.get("type") or "ClusterIP"
    if kind == "ExternalName":
        return spec.get("externalName") or "", port
    if kind not in _ROUTED:
        raise ResolveError(f'unsupported service type "{kind}"')
    address = spec.get("clusterIP") or ""
    if kind == "ClusterIP" and address == "None":
        raise ResolveError('cannot route to service with ClusterIP "None"')
    _service_port(service, port)
    return address, port


def endpoint_address(
    service: Obj, slices: Iterable[Obj], port: int, random: Random
) -> tuple[str, int]:
    """(host, port) of any ready endpoint, of the Service's first family if there is one."""
    spec = service.get("spec") or {}
    kind = spec.get("type") or "ClusterIP"
    if kind not in _ROUTED:
        raise ResolveError(f'unsupported service type "{kind}"')
    wanted = _service_port(service, port).get("name") or ""
    family = (spec.get("ipFamilies") or [""])[0]
    shuffled = list(slices)
    random.shuffle(shuffled)
    shuffled.sort(key=lambda each: each.get("addressType") != family)
    for each in shuffled:
        for slice_port in each.get("ports") or ():
            if (slice_port.get("name") or "") != wanted or not slice_port.get("port"):
                continue
            ready = [
                endpoint["addresses"][0]
                for endpoint in each.get("endpoints") or ()
                if endpoint.get("addresses")
                and (endpoint.get("conditions") or {}).get("ready") is not False
            ]
            if ready:
                return random.choice(ready), int(slice_port["port"])
    name = service["metadata"]["name"]
    raise ResolveError(f'no endpoints available for service "{name}"')


def _service_port(service: Obj, port: int) -> Obj:
    for each in (service.get("spec") or {}).get("ports") or ():
        if each.get("port") == port:
            found: Obj = each
            return found
    name = service["metadata"]["name"]
    raise ResolveError(f'no service port {port} found for service "{name}"')
