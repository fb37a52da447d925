"""``services/proxy``: HTTP to one of a Service's ready endpoints, picked at random."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pilothouse.apimachinery.errors import StatusError, is_not_found, new_service_unavailable
from pilothouse.apimachinery.schema import GroupResource
from pilothouse.apiserver.registry.subresources.proxying import (
    admit_proxy,
    check_address,
    proxy,
    split_target,
)

if TYPE_CHECKING:
    from pilothouse.apimachinery.object import Obj
    from pilothouse.apiserver.endpoints.handler import Server
    from pilothouse.apiserver.registry.resources import ServedResource
    from pilothouse.apiserver.request.context import Request, Response

_PODS = GroupResource("", "pods")
_SLICES = GroupResource("discovery.k8s.io", "endpointslices")


async def handle(server: Server, request: Request, served: ServedResource) -> Response:
    await admit_proxy(server, request, served)
    info = request.info
    scheme, name, wanted = split_target(info.name, "service")
    try:
        service = (await served.store.get(info.namespace, name)).obj
    except StatusError as error:
        if not is_not_found(error):
            raise
        # Upstream looks for EndpointSlices alone.
        text = f'no endpoints available for service "{name}"'
        raise new_service_unavailable(text) from error
    port_name = _port_name(service, wanted)
    slices = server.registry.by_group_resource(_SLICES)
    pods = server.registry.by_group_resource(_PODS)
    assert slices is not None and pods is not None
    await slices.store.cacher.wait_until_fresh()
    entries = slices.store.cacher.list(slices.list_prefix(info.namespace))[0]
    found = [
        target
        for entry in entries
        if (entry.obj["metadata"].get("labels") or {}).get("kubernetes.io/service-name") == name
        for target in targets(entry.obj, port_name)
    ]
    server.random.shuffle(found)
    for host, port, reference in found:
        if await _is_pods_address(pods, info.namespace, host, reference):
            check_address(host)
            return await proxy(server, request, served, host, port, scheme)
    raise new_service_unavailable(f'no endpoints available for service "{name}"')


async def _is_pods_address(
    pods: ServedResource, namespace: str, address: str, reference: Obj | None
) -> bool:
    """Only addresses of pods are proxied to: whoever may write EndpointSlices could otherwise
    send the API server anywhere."""
    if reference is None or reference.get("namespace") != namespace:
        return False
    try:
        pod = (await pods.store.get(namespace, str(reference.get("name")))).obj
    except StatusError:
        return False
    addresses = (pod.get("status") or {}).get("podIPs") or ()
    return any(entry.get("ip") == address for entry in addresses)


def _port_name(service: Obj, wanted: str) -> str:
    """The name of the wanted port. :raises StatusError: 503, a number that it does not have."""
    if not wanted.isdigit():
        return wanted
    for port in (service.get("spec") or {}).get("ports") or ():
        if port.get("port") == int(wanted):
            return port.get("name") or ""
    name = service["metadata"]["name"]
    raise new_service_unavailable(f'no service port {wanted} found for service "{name}"')


def targets(endpoint_slice: Obj, port_name: str) -> list[tuple[str, int, Obj | None]]:
    """(address, port, what it belongs to) of the ready endpoints."""
    ports = [
        int(port["port"])
        for port in endpoint_slice.get("ports") or ()
        if port.get("port") and (port.get("name") or "") == port_name
    ][:1]
    return [
        (endpoint["addresses"][0], port, endpoint.get("targetRef"))
        for endpoint in endpoint_slice.get("endpoints") or ()
        if endpoint.get("addresses")
        and (endpoint.get("conditions") or {}).get("ready") is not False
        for port in ports
    ]
