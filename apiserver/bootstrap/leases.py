"""Leases of the API servers on one store: who is alive, and whom ``kubernetes`` leads to.

- Master leases (pkg/controlplane/reconcilers/lease.go): ``/registry/masterleases/<ip>``, with a
  time to live; the endpoints of the Service ``kubernetes`` are the addresses that have one.
- Identity leases (apiserver-<hash> in kube-system): one Lease a server, renewed every ten
  seconds; those of servers that have gone are removed after an hour.

Only for stores that several servers can share; a server with a store of its own is alone.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import socket
from typing import TYPE_CHECKING

import orjson

from pilothouse.apimachinery.clock import upkeep
from pilothouse.apimachinery.errors import StatusError
from pilothouse.apimachinery.object import copy_object
from pilothouse.apimachinery.schema import GroupVersionResource
from pilothouse.apimachinery.timefmt import format_micro_time, parse_time
from pilothouse.apiserver.storage.errors import KeyExists, RevisionConflict, StorageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from pilothouse.apimachinery.object import Obj
    from pilothouse.apiserver.server import APIServer

log = logging.getLogger(__name__)

LEASES = GroupVersionResource("coordination.k8s.io", "v1", "leases")
MASTER_LEASES = "/registry/masterleases/"
INTERVAL, TIME_TO_LIVE = 10.0, 15
IDENTITY_LABEL = "apiserver.kubernetes.io/identity"
IDENTITY_SECONDS = 3600
_NAMESPACE = "kube-system"


class MasterLeases:
    """This server's lease among the others'; ``changed`` is told all live addresses."""

    def __init__(
        self, server: APIServer, address: str, changed: Callable[[list[str]], object]
    ) -> None:
        self._server = server
        self._storage = server.storage
        self._key = f"{MASTER_LEASES}{address}"
        self._value = orjson.dumps(
            {
                "kind": "Endpoints",
                "apiVersion": "v1",
                "metadata": {},
                "subsets": [{"addresses": [{"ip": address}]}],
            }
        )
        self._changed = changed

    async def renew(self) -> None:
        """:raises StorageError: the store is away."""
        while True:
            found = await self._storage.get(self._key)
            try:
                if found is None:
                    await self._storage.create(self._key, self._value, ttl=TIME_TO_LIVE)
                else:
                    await self._storage.update(
                        self._key, self._value, expected=found.mod_revision, ttl=TIME_TO_LIVE
                    )
            except (KeyExists, RevisionConflict):
                continue
            return

    async def alive(self) -> list[str]:
        """Addresses of all servers that have a lease."""
        found = await self._storage.range(MASTER_LEASES)
        return sorted(kv.key.removeprefix(MASTER_LEASES) for kv in found.kvs)

    async def run(self) -> None:
        while True:
            await upkeep(self._server.clock).sleep(INTERVAL)
            try:
                await self.renew()
                self._changed(await self.alive())
            except StorageError as error:
                log.warning("the lease of this server was not renewed: %s", error)

    async def remove(self) -> None:
        """This server stops: its address leaves the endpoints at once."""
        with contextlib.suppress(StorageError):
            found = await self._storage.get(self._key)
            if found is not None:
                await self._storage.delete(self._key, expected=found.mod_revision)
            self._changed(await self.alive())


def server_identity(server: APIServer) -> str:
    """``apiserver-<hash>``: the same for the same host and port."""
    name = f"{socket.gethostname()}:{server.config.bind_address}:{server.port}"
    digest = hashlib.sha256(name.encode()).digest()
    number = int.from_bytes(digest[:20], "big")
    digits = []
    for _ in range(26):
        number, rest = divmod(number, 36)
        digits.append("0123456789abcdefghijklmnopqrstuvwxyz"[rest])
    return f"apiserver-{''.join(digits)}"


def wanted_lease(name: str, holder: str, host: str, now: str) -> Obj:
    return {
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {
            "name": name,
            "namespace": _NAMESPACE,
            "labels": {IDENTITY_LABEL: "kube-apiserver", "kubernetes.io/hostname": host},
        },
        "spec": {
            "holderIdentity": holder,
            "leaseDurationSeconds": IDENTITY_SECONDS,
            "renewTime": now,
        },
    }


class IdentityLease:
    """Renews this server's Lease and removes those that have expired."""

    def __init__(self, server: APIServer) -> None:
        from pilothouse.apiserver.registry.before import new_uid

        self._server = server
        self._client = server.local_client(user_agent="kube-apiserver")
        self.name = server_identity(server)
        self._holder = f"{self.name}_{new_uid(server.random)}"

    async def renew(self) -> None:
        now = format_micro_time(self._server.clock.now())
        try:
            try:
                lease = copy_object(await self._client.get(LEASES, self.name, _NAMESPACE))
            except StatusError as error:
                if error.code != 404:
                    raise
                wanted = wanted_lease(self.name, self._holder, socket.gethostname(), now)
                await self._client.create(LEASES, wanted, _NAMESPACE)
                return
            lease["spec"] |= {"renewTime": now, "holderIdentity": self._holder}
            await self._client.update(LEASES, lease)
        except StatusError as error:
            log.warning("Lease %s was not renewed: %s", self.name, error)

    async def collect(self) -> None:
        """Removes Leases of servers that have not been heard of for their duration."""
        now = self._server.clock.now()
        for lease in list(self._server.listers.list(LEASES.group_resource, _NAMESPACE)):
            labels = lease["metadata"].get("labels") or {}
            spec = lease.get("spec") or {}
            if labels.get(IDENTITY_LABEL) != "kube-apiserver" or not spec.get("renewTime"):
                continue
            age = (now - parse_time(spec["renewTime"])).total_seconds()
            if age > spec.get("leaseDurationSeconds", IDENTITY_SECONDS):
                with contextlib.suppress(StatusError):
                    await self._client.delete(LEASES, lease["metadata"]["name"], _NAMESPACE)

    async def run(self) -> None:
        await self._server.listers.ensure(LEASES.group_resource)
        while True:
            await self.renew()
            await self.collect()
            await upkeep(self._server.clock).sleep(INTERVAL)
