"""ClusterIPs and node ports of several API servers on one store: nobody gets what another has.

Each server's allocators are in its memory. They learn what other servers have taken from the
Services' events (:func:`follow`), which leaves a gap: two servers may choose the same value
before either's event arrives. :class:`SharedAllocations` closes it: a Service is only written after
a key for each of its new addresses and ports has been created, which the store lets only one
succeed in. The keys of addresses are IPAddress objects, as upstream's; those of ports are below
``/registry/ranges/servicenodeports/``.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import orjson

from pilothouse.apimachinery.errors import StatusError, new_conflict, new_internal_error
from pilothouse.apimachinery.object import copy_object
from pilothouse.apimachinery.schema import GroupResource
from pilothouse.apimachinery.timefmt import format_time, parse_time
from pilothouse.apiserver.registry.before import new_uid
from pilothouse.apiserver.registry.store import Store
from pilothouse.apiserver.storage.errors import KeyExists, RevisionConflict, StorageError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from random import Random

    from pilothouse.apimachinery.clock import Clock
    from pilothouse.apimachinery.object import Obj
    from pilothouse.apiserver.admission.interfaces import Listers
    from pilothouse.apiserver.registry.core.service_allocators import ServiceAllocators
    from pilothouse.apiserver.registry.write import Write
    from pilothouse.apiserver.storage.cacher.watch_cache import Entry
    from pilothouse.apiserver.storage.interfaces import Storage

log = logging.getLogger(__name__)

SERVICES = GroupResource("", "services")
SERVICE_PREFIX = "/registry/services/specs/"
ADDRESS_PREFIX = "/registry/ipaddresses/"
PORT_PREFIX = "/registry/ranges/servicenodeports/"
_ATTEMPTS = 100
"""Each one leaves out one value more; behind on events, half of the choices may be taken."""
_YOUNG = 60.0
"""Seconds in which a claim may be that of a write under way."""


class AllocationRaced(StatusError):
    """Another server has taken a value since this one chose it."""

    def __init__(self, claim: str) -> None:
        conflict = new_conflict(
            GroupResource("", "serviceallocations"),
            claim,
            "the provided resource version does not match",
        )
        super().__init__(conflict.code, conflict.reason, conflict.message, conflict.details or {})
        self.claim = claim


def claims_of(service: Obj) -> set[str]:
    """Keys of everything that a Service has."""
    spec = service.get("spec") or {}
    found = set()
    if spec.get("type") != "ExternalName":
        addresses = spec.get("clusterIPs") or [spec.get("clusterIP")]
        found = {f"{ADDRESS_PREFIX}{ip}" for ip in addresses if ip and ip != "None"}
    ports = [port.get("nodePort") for port in spec.get("ports") or ()]
    ports.append(spec.get("healthCheckNodePort"))
    return found | {f"{PORT_PREFIX}{port}" for port in ports if port}


class SharedAllocations:
    """A :class:`Storage` for the services' store. Everything else passes through."""

    def __init__(self, storage: Storage, claims: Storage, clock: Clock, random: Random) -> None:
        self._storage = storage
        self._claims = claims
        """The bare store: claims are never encrypted."""
        self._clock = clock
        self._random = random

    def __getattr__(self, name: str) -> Any:
        return getattr(self._storage, name)

    async def create(self, key: str, value: bytes, *, ttl: int = 0) -> int:
        service = orjson.loads(value)
        claims = await self._claim(key, service, claims_of(service))
        try:
            return await self._storage.create(key, value, ttl=ttl)
        except KeyExists:
            await self._release_but_for(key, claims)
            raise

    async def update(self, key: str, value: bytes, *, expected: int, ttl: int = 0) -> int:
        service = orjson.loads(value)
        now = claims_of(service)
        found = await self._storage.get(key)
        before = claims_of(orjson.loads(found.value)) if found is not None else set()
        claims = await self._claim(key, service, now - before)
        try:
            revision = await self._storage.update(key, value, expected=expected, ttl=ttl)
        except RevisionConflict:
            await self._release_but_for(key, claims)
            raise
        if found is not None and found.mod_revision == expected:
            await self._release(before - now)
        return revision

    async def delete(self, key: str, *, expected: int) -> int:
        found = await self._storage.get(key)
        revision = await self._storage.delete(key, expected=expected)
        if found is not None and found.mod_revision == expected:
            await self._release(claims_of(orjson.loads(found.value)))
        return revision

    async def _claim(self, key: str, service: Obj, wanted: Iterable[str]) -> list[str]:
        """:raises AllocationRaced: somebody else has one of them; then none is ours."""
        made: list[str] = []
        for claim in sorted(wanted):
            try:
                await self._claims.create(claim, self._claim_value(claim, service))
            except KeyExists as error:
                current = error.current or await self._claims.get(claim)
                if current is not None and _holder(current.value) == key:
                    continue
                await self._release(made)
                raise AllocationRaced(claim) from error
            made.append(claim)
        return made

    async def _release(self, claims: Iterable[str]) -> None:
        for claim in claims:
            try:
                found = await self._claims.get(claim)
                if found is not None:
                    await self._claims.delete(claim, expected=found.mod_revision)
            except StorageError as error:
                log.warning("%s stays taken until a server starts: %s", claim, error)

    async def _release_but_for(self, key: str, claims: Iterable[str]) -> None:
        """The write was too late: what the Service that is there now has, stays its own (two
        servers that create the same one share the claims)."""
        current = await self._storage.get(key)
        kept = claims_of(orjson.loads(current.value)) if current is not None else set()
        await self._release(set(claims) - kept)

    def _claim_value(self, claim: str, service: Obj) -> bytes:
        metadata = service["metadata"]
        created = format_time(self._clock.now())
        holder = {
            "resource": "services",
            "namespace": metadata.get("namespace", ""),
            "name": metadata["name"],
        }
        if claim.startswith(PORT_PREFIX):
            return orjson.dumps({"metadata": {"creationTimestamp": created}, "holder": holder})
        ip = claim.removeprefix(ADDRESS_PREFIX)
        labels = {
            "ipaddress.kubernetes.io/ip-family": "IPv6" if ":" in ip else "IPv4",
            "ipaddress.kubernetes.io/managed-by": "ipallocator.k8s.io",
        }
        return orjson.dumps(
            {
                "kind": "IPAddress",
                "apiVersion": "networking.k8s.io/v1",
                "metadata": {
                    "name": ip,
                    "uid": new_uid(self._random),
                    "creationTimestamp": created,
                    "labels": labels,
                },
                "spec": {"parentRef": {"group": "", **holder}},
            }
        )

    async def repair(self, listers: Listers) -> int:
        """Drops claims that a server left behind when it died between claim and write."""
        wanted = {claim for service in listers.list(SERVICES) for claim in claims_of(service)}
        dropped = 0
        for prefix in (ADDRESS_PREFIX, PORT_PREFIX):
            for kv in (await self._claims.range(prefix)).kvs:
                if kv.key in wanted or not _is_ours(kv.value):
                    continue
                created = orjson.loads(kv.value)["metadata"]["creationTimestamp"]
                if (self._clock.now() - parse_time(created)).total_seconds() < _YOUNG:
                    continue
                try:
                    await self._claims.delete(kv.key, expected=kv.mod_revision)
                    dropped += 1
                except RevisionConflict:
                    continue
        return dropped


def _holder(value: bytes) -> str:
    """The key of the Service that a claim is for."""
    claim = orjson.loads(value)
    holder = claim.get("holder") or (claim.get("spec") or {}).get("parentRef") or {}
    return f"{SERVICE_PREFIX}{holder.get('namespace', '')}/{holder.get('name', '')}"


def _is_ours(value: bytes) -> bool:
    claim = orjson.loads(value)
    labels = (claim.get("metadata") or {}).get("labels") or {}
    managed = labels.get("ipaddress.kubernetes.io/managed-by") == "ipallocator.k8s.io"
    return managed or "holder" in claim


class SharedServiceStore(Store):
    """Services of several servers: chooses anew when another server was quicker."""

    async def create_admitted(self, write: Write, obj: Obj) -> Entry:
        asked = claims_of(obj)
        for _ in range(_ATTEMPTS):
            try:
                return await super().create_admitted(write, copy_object(obj))
            except AllocationRaced as raced:
                # The rollback has given it back here; it is another's.
                take_claim(self.context.allocators, raced.claim)
                if raced.claim in asked and raced.claim.startswith(ADDRESS_PREFIX):
                    continue  # refused in the words of the allocator
        raise new_internal_error("failed to allocate a serviceIP: other servers were faster")


def take_claim(allocators: ServiceAllocators, claim: str) -> None:
    """Marks a value as taken, whoever has it."""
    from ipaddress import ip_address

    from pilothouse.apiserver.registry.core.ip_allocator import AllocationError

    if claim.startswith(PORT_PREFIX):
        allocators.ports.take(int(claim.removeprefix(PORT_PREFIX)))
        return
    address = ip_address(claim.removeprefix(ADDRESS_PREFIX))
    allocator = allocators.by_family.get(f"IPv{address.version}")
    if allocator is not None and not allocator.has(address):
        try:
            allocator.allocate(address)
        except AllocationError:
            return  # of a range that is not ours


def follow(listers: Listers, allocators: ServiceAllocators) -> None:
    """Keeps the allocators up to date with what other servers write."""

    def changed(event_type: str, service: Obj, old: Obj | None) -> None:
        before = claims_of(old) if old is not None else set()
        now = set() if event_type == "DELETED" else claims_of(service)
        for claim in now - before:
            take_claim(allocators, claim)
        gone = before - now
        if event_type == "DELETED":
            gone |= claims_of(service)
        for claim in gone:
            _release_claim(allocators, claim)

    listers.subscribe(SERVICES, changed)


def _release_claim(allocators: ServiceAllocators, claim: str) -> None:
    from ipaddress import ip_address

    if claim.startswith(PORT_PREFIX):
        allocators.ports.release(int(claim.removeprefix(PORT_PREFIX)))
        return
    address = ip_address(claim.removeprefix(ADDRESS_PREFIX))
    allocator = allocators.by_family.get(f"IPv{address.version}")
    if allocator is not None:
        allocator.release(address)
