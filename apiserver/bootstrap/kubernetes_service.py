"""The ``kubernetes`` Service in namespace default, and its endpoints: this API server.

(pkg/controlplane/controller/kubernetesservice and reconcilers.) The wanted objects are pure
functions of the address and port; :class:`KubernetesService` writes what differs when it
starts and puts things back when someone deletes them.
"""

from __future__ import annotations

import logging
from ipaddress import ip_address, ip_network
from typing import TYPE_CHECKING, Any

from pilothouse.apimachinery.errors import StatusError, is_already_exists, is_not_found
from pilothouse.apimachinery.object import copy_object
from pilothouse.apimachinery.schema import GroupVersionResource
from pilothouse.apiserver.authentication.build import flag_list

if TYPE_CHECKING:
    from pilothouse.apimachinery.object import Obj
    from pilothouse.apiserver.bootstrap.leases import MasterLeases
    from pilothouse.apiserver.server import APIServer

log = logging.getLogger(__name__)

NAMESPACE, NAME = "default", "kubernetes"
SERVICES = GroupVersionResource("", "v1", "services")
ENDPOINTS = GroupVersionResource("", "v1", "endpoints")
SLICES = GroupVersionResource("discovery.k8s.io", "v1", "endpointslices")
_SKIP_MIRROR = "endpointslice.kubernetes.io/skip-mirror"


def first_service_ip(config: Any) -> str:
    """The address of the ``kubernetes`` Service: the first of the primary range."""
    ranges = flag_list(config, "service_cluster_ip_range")
    return str(ip_network(ranges[0], strict=False)[1])


def endpoint_address(config: Any) -> str:
    """Where pods reach this server; empty when it only listens where nobody else can."""
    for candidate in (
        getattr(config, "advertise_address", ""),
        getattr(config, "bind_address", ""),
    ):
        if candidate:
            address = ip_address(candidate)
            if not (address.is_unspecified or address.is_loopback):
                return str(address)
    return ""


def wanted_service(ip: str, port: int) -> Obj:
    metadata = {
        "name": NAME,
        "namespace": NAMESPACE,
        "labels": {"component": "apiserver", "provider": "kubernetes"},
    }
    https = {"name": "https", "protocol": "TCP", "port": 443, "targetPort": port}
    spec = {"type": "ClusterIP", "clusterIP": ip, "sessionAffinity": "None", "ports": [https]}
    return {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec}


def wanted_endpoints(addresses: list[str], port: int) -> Obj:
    labels = {_SKIP_MIRROR: "true"}
    return {
        "apiVersion": "v1",
        "kind": "Endpoints",
        "metadata": {"name": NAME, "namespace": NAMESPACE, "labels": labels},
        "subsets": [
            {
                "addresses": [{"ip": address} for address in addresses],
                "ports": [{"name": "https", "port": port, "protocol": "TCP"}],
            }
        ],
    }


def wanted_slice(addresses: list[str], port: int) -> Obj:
    labels = {"kubernetes.io/service-name": NAME}
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": NAME, "namespace": NAMESPACE, "labels": labels},
        "addressType": f"IPv{ip_address(addresses[0]).version}",
        "endpoints": [{"addresses": [a], "conditions": {"ready": True}} for a in addresses],
        "ports": [{"name": "https", "port": port, "protocol": "TCP"}],
    }


def is_as_wanted(existing: Obj, wanted: Obj) -> bool:
    """Whether everything that ``wanted`` says holds; more labels and fields do no harm."""
    return _covers(existing, {k: v for k, v in wanted.items() if k not in ("apiVersion", "kind")})


def _covers(have: Any, want: Any) -> bool:
    if isinstance(want, dict):
        return isinstance(have, dict) and all(_covers(have.get(k), v) for k, v in want.items())
    if isinstance(want, list):
        return (
            isinstance(have, list)
            and len(have) == len(want)
            and all(_covers(*pair) for pair in zip(have, want, strict=True))
        )
    return bool(have == want)


def merged(existing: Obj, wanted: Obj) -> Obj:
    """``existing`` with what ``wanted`` says."""
    result: Obj = copy_object(existing)
    metadata = result["metadata"]
    labels = {**(metadata.get("labels") or {}), **wanted["metadata"]["labels"]}
    metadata["labels"] = labels
    for key, value in wanted.items():
        if key == "spec":
            result["spec"].update(copy_object(value))
        elif key not in ("metadata", "apiVersion", "kind"):
            result[key] = copy_object(value)
    return result


class KubernetesService:
    """Keeps the three objects as they should be."""

    def __init__(self, server: APIServer) -> None:
        self._server = server
        self._client = server.local_client(user_agent="kube-apiserver")
        self._busy = False
        self._again = False
        self._leases: MasterLeases | None = None
        self._addresses: list[str] = []
        """Of all live servers, by their leases; empty: only our own counts."""

    def wanted(self) -> list[tuple[GroupVersionResource, Obj]]:
        config, port = self._server.config, self._server.port
        target = port or int(getattr(config, "secure_port", 0) or 0) or 6443
        found = [(SERVICES, wanted_service(first_service_ip(config), target))]
        address = endpoint_address(config)
        if config.endpoint_reconciler_type == "none":
            return found
        addresses = self._addresses or ([address] if address else [])
        if addresses and port:
            found.append((ENDPOINTS, wanted_endpoints(addresses, port)))
            found.append((SLICES, wanted_slice(addresses, port)))
        return found

    async def reconcile(self) -> None:
        for resource, wanted in self.wanted():
            existing = self._server.listers.get(resource.group_resource, NAMESPACE, NAME)
            try:
                if existing is None:
                    await self._client.create(resource, wanted, NAMESPACE)
                elif not is_as_wanted(existing, wanted):
                    await self._client.update(resource, merged(existing, wanted))
            except StatusError as error:
                if not (is_already_exists(error) or is_not_found(error)):
                    log.warning("cannot write %s default/kubernetes: %s", resource.resource, error)

    async def start(self) -> None:
        """Writes them, and from now on watches over them."""
        await self._join()
        resources = [resource.group_resource for resource, _ in self.wanted()]
        await self._server.listers.ensure(*resources)
        await self.reconcile()
        for resource in resources:
            self._server.listers.subscribe(resource, self._changed)

    async def _join(self) -> None:
        """Takes a lease, when other servers may use the same store."""
        server = self._server
        address = endpoint_address(server.config)
        shared = not server.storage.synchronous_watch
        if not (shared and address and server.config.endpoint_reconciler_type == "lease"):
            return
        from pilothouse.apiserver.bootstrap.leases import MasterLeases

        self._leases = leases = MasterLeases(server, address, self._lease_change)
        await leases.renew()
        self._addresses = await leases.alive()
        server.tasks.start(leases.run(), "master-lease")

    def _lease_change(self, addresses: list[str]) -> None:
        if addresses and addresses != self._addresses:
            self._addresses = addresses
            self._wake()

    async def leave(self) -> None:
        """This server is about to stop: nobody is to be led to it any more."""
        if self._leases is not None:
            leases, self._leases = self._leases, None
            await leases.remove()
            await self.reconcile()

    def _changed(self, event_type: str, obj: Obj, old: Obj | None) -> None:
        metadata = obj["metadata"]
        if metadata["name"] != NAME or metadata.get("namespace") != NAMESPACE:
            return
        # Another server of the cluster may have other wishes: only what is gone is put back.
        if event_type != "DELETED":
            return
        self._wake()

    def _wake(self) -> None:
        self._again = True
        if not self._busy and self._server.ready:
            self._busy = True
            self._server.activity.begin("kubernetes-service")
            self._server.tasks.start(self._repair(), "kubernetes-service")

    async def _repair(self) -> None:
        try:
            while self._again:
                self._again = False
                await self.reconcile()
        finally:
            self._busy = False
            self._server.activity.end("kubernetes-service")
