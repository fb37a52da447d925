"""``services/proxy``: HTTP to one of a Service's ready endpoints, picked at random."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pilothouse.apimachinery.errors import (
    new_bad_request,
    new_service_unavailable,
)
from pilothouse.apimachinery.schema import GroupResource
from pilothouse.apiserver.registry.subresources.proxying import (
    check_address,
    proxy,
    split_target,
)

if TYPE_CHECKING:
    from pilothouse.apimachinery.object import Obj
    from pilothouse.apiserver.endpoints.handler import Server
    from pilothouse.apiserver.registry.resources import ServedResource
    from pilothouse.apiserver.request.context import Request, Response

_SLICES = GroupResource("discovery.k8s.io", "endpointslices")


async def handle(server: Server, request: Request, served: ServedResource) -> Response:
    info = request.info
    scheme, name, wanted = split_target(info.name)
    service = (await served.store.get(info.namespace, name)).obj
    port_name = _port_name(service, wanted)
    slices = server.registry.by_group_resource(_SLICES)
    assert slices is not None
    await slices.store.cacher.wait_until_fresh()
    entries = slices.store.cacher.list(slices.list_prefix(info.namespace))[0]
    found = [
        target
        for entry in entries
        if (entry.obj["metadata"].get("labels") or {}).get("kubernetes.io/service-name") == name
        for target in targets(entry.obj, port_name)
    ]
    if not found:
        raise new_service_unavailable(f'no endpoints available for service "{info.name}"')
    host, port = server.random.choice(found)
    check_address(host)
    return await proxy(server, request, served, host, port, scheme)


def _port_name(service: Obj, wanted: str) -> str | None:
    """The name of the wanted port; None: whatever the first is. :raises StatusError: 400."""
    ports = (service.get("spec") or {}).get("ports") or []
    if not wanted:
        return None if len(ports) != 1 else ports[0].get("name") or ""
    for port in ports:
        if port.get("name") == wanted or str(port.get("port")) == wanted:
            return port.get("name") or ""
    if wanted.isdigit():
        raise new_bad_request(
            f'no service port {wanted} found for service "{service["metadata"]["name"]}"'
        )
    return wanted


def targets(endpoint_slice: Obj, port_name: str | None) -> list[tuple[str, int]]:
    """(address, port) of the ready endpoints."""
    ports = [
        int(port["port"])
        for port in endpoint_slice.get("ports") or ()
        if port.get("port") and (port_name is None or (port.get("name") or "") == port_name)
    ][:1]
    return [
        (endpoint["addresses"][0], port)
        for endpoint in endpoint_slice.get("endpoints") or ()
        if endpoint.get("addresses")
        and (endpoint.get("conditions") or {}).get("ready") is not False
        for port in ports
    ]
