"""Makes the Service that pods know the DNS server by, and the EndpointSlice that leads to it."""

from __future__ import annotations

import logging

from pilothouse.apimachinery.errors import StatusError, is_not_found
from pilothouse.apimachinery.object import Obj, copy_object
from pilothouse.apimachinery.schema import GroupVersionResource
from pilothouse.clusterdns.records import SERVICE_NAME_LABEL
from pilothouse.kubeclient.interfaces import Client
from pilothouse.kubeclient.resources import ENDPOINT_SLICES, SERVICES

log = logging.getLogger(__name__)
NAMESPACE, NAME = "kube-system", "kube-dns"
MANAGER = "pilothouse-dns"
LABELS = {
    "k8s-app": "kube-dns",
    "kubernetes.io/cluster-service": "true",
    "kubernetes.io/name": "CoreDNS",
}
PORTS = (("dns", "UDP"), ("dns-tcp", "TCP"))


def service(cluster_ip: str, port: int) -> Obj:
    """Without a selector: nobody but us makes slices for it."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": NAME, "namespace": NAMESPACE, "labels": dict(LABELS)},
        "spec": {
            "clusterIP": cluster_ip,
            "ports": [
                {"name": name, "port": 53, "protocol": protocol, "targetPort": port}
                for name, protocol in PORTS
            ],
        },
    }


def endpoint_slice(address: str, port: int) -> Obj:
    labels = {
        SERVICE_NAME_LABEL: NAME,
        "endpointslice.kubernetes.io/managed-by": MANAGER,
        "k8s-app": "kube-dns",
    }
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": NAME, "namespace": NAMESPACE, "labels": labels},
        "addressType": "IPv6" if ":" in address else "IPv4",
        "endpoints": [{"addresses": [address], "conditions": {"ready": True}}],
        "ports": [{"name": name, "port": port, "protocol": protocol} for name, protocol in PORTS],
    }


async def publish(client: Client, cluster_ip: str, address: str, port: int) -> None:
    """Creates both or brings them up to date. :raises StatusError: the API server refuses."""
    await _publish(client, SERVICES, service(cluster_ip, port))
    await _publish(client, ENDPOINT_SLICES, endpoint_slice(address, port))


async def _publish(client: Client, resource: GroupVersionResource, wanted: Obj) -> None:
    try:
        current = await client.get(resource, NAME, NAMESPACE)
    except StatusError as error:
        if not is_not_found(error):
            raise
        await client.create(resource, wanted, NAMESPACE, field_manager=MANAGER)
        return
    if _immutable(current) != _immutable(wanted):
        await client.delete(resource, NAME, NAMESPACE)
        await client.create(resource, wanted, NAMESPACE, field_manager=MANAGER)
        return
    changed = copy_object(current)
    changed["metadata"].setdefault("labels", {}).update(wanted["metadata"]["labels"])
    if "spec" in wanted:
        changed["spec"]["ports"] = wanted["spec"]["ports"]
        changed["spec"].pop("selector", None)
    else:
        changed["endpoints"], changed["ports"] = wanted["endpoints"], wanted["ports"]
    if changed != current:
        await client.update(resource, changed, field_manager=MANAGER)


def _immutable(obj: Obj) -> tuple[object, ...]:
    return obj.get("addressType"), (obj.get("spec") or {}).get("clusterIP")
