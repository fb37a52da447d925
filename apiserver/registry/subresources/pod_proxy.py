"""``pods/proxy``: HTTP to a pod's own address."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pilothouse.apimachinery.errors import new_bad_request
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


async def handle(server: Server, request: Request, served: ServedResource) -> Response:
    await admit_proxy(server, request, served)
    info = request.info
    scheme, name, port = split_target(info.name, "pod")
    pod = (await served.store.get(info.namespace, name)).obj
    status = pod.get("status") or {}
    addresses = status.get("podIPs") or []
    host = addresses[0].get("ip") or "" if addresses else status.get("podIP") or ""
    check_address(host)
    number = _port(pod, port)
    return await proxy(
        server, request, served, host, number or (443 if scheme == "https" else 80), scheme
    )


def _port(pod: Obj, wanted: str) -> int:
    if wanted:
        if not wanted.isdigit():
            raise new_bad_request(f'invalid pod request "{pod["metadata"]["name"]}:{wanted}"')
        return int(wanted)
    for container in (pod.get("spec") or {}).get("containers") or ():
        for port in container.get("ports") or ():
            return int(port["containerPort"])
    return 0
