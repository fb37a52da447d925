"""ClusterIPs, IP families and node ports of Services (pkg/registry/core/service/storage/alloc.go).

``RegistryContext.allocators`` holds one :class:`ServiceAllocators` a server:

- ``ServiceAllocators(cidrs, ports, random)`` with one or two service CIDRs, the first being the
  default family, and the first and last node port;
- ``service_cidr_changed(event, object)`` for each ServiceCIDR that exists, and later changes;
- ``rebuild(services)`` once at start, from all Services that exist;
- the Service strategy calls the rest: ``init_ip_families`` while it prepares a write,
  ``allocate_create`` and ``allocate_update`` right before it (both return what undoes them),
  ``release_service`` after a delete.

An update's old addresses and ports are given back right before the write. Should the write fail,
``undo`` takes them again; a Service that got one of them in between keeps it, and the loser's next
change is refused.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pilothouse.apimachinery.errors import StatusError, new_internal_error, new_invalid
from pilothouse.apimachinery.object import name_of
from pilothouse.apimachinery.schema import GroupKind
from pilothouse.apis.core.defaults_service import needs_health_check
from pilothouse.apis.core.validation_service_ips import is_headless
from pilothouse.apis.meta.errors import invalid
from pilothouse.apis.meta.validation import parse_ip_sloppy
from pilothouse.apiserver.registry.core.ip_allocator import (
    AllocationError,
    RangeFull,
)
from pilothouse.apiserver.registry.core.ip_ranges import IPRanges, ready_cidrs
from pilothouse.apiserver.registry.core.port_allocator import PortAllocator, PortOperation
from pilothouse.apiserver.registry.core.service_families import init_ip_families

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from random import Random

    from pilothouse.apimachinery.object import Obj

SERVICE = GroupKind("", "Service")


class ServiceAllocators:
    """All addresses and ports of one cluster's Services, in memory."""

    def __init__(
        self,
        cidrs: Sequence[str],
        ports: tuple[int, int],
        random: Random,
    ) -> None:
        self.by_family: dict[str, IPRanges] = {}
        for cidr in cidrs:
            allocator = IPRanges(cidr, random)
            self.by_family[allocator.family] = allocator
        self.default_family = next(iter(self.by_family))
        self.ports = PortAllocator(ports[0], ports[1], random)
        self.allocations: dict[tuple[str, str], int] = {}
        """Addresses given out, by (range, whether the Service asked for it); for metrics."""
        self.allocation_errors: dict[tuple[str, str], int] = {}

    @property
    def families(self) -> tuple[str, ...]:
        """The configured families, the default first."""
        return tuple(self.by_family)

    def service_cidr_changed(self, event_type: str, service_cidr: Obj) -> None:
        """A ServiceCIDR object was added, changed or deleted."""
        cidrs = [] if event_type == "DELETED" else ready_cidrs(service_cidr)
        for ranges in self.by_family.values():
            ranges.set(name_of(service_cidr), cidrs)

    def rebuild(self, services: Iterable[Obj]) -> None:
        """Takes what the Services have; what is out of range is left alone."""
        for allocator in self.by_family.values():
            allocator.clear()
        self.ports.clear()
        for service in services:
            self._take(service)

    def _take(self, service: Obj) -> None:
        for family, ip in _addresses(service).items():
            allocator, address = self.by_family.get(family), parse_ip_sloppy(ip)
            if allocator is not None and address is not None and not allocator.has(address):
                try:
                    allocator.allocate(address)
                except AllocationError:
                    continue
        for port in _all_ports(service):
            self.ports.take(port)

    def init_ip_families(self, service: Obj, old: Obj | None) -> None:
        """Fills ipFamilyPolicy and ipFamilies. :raises StatusError: 422."""
        init_ip_families(service, old, self.families)

    def allocate_create(self, service: Obj, *, dry_run: bool) -> Callable[[], None]:
        """Takes what a new Service needs and writes it into ``service``.

        :raises StatusError: 422 when an address or port cannot be had, 500 when none is left.
        """
        operation = PortOperation(self.ports, dry_run=dry_run)
        allocated = self._allocate_cluster_ips(service, dry_run)
        try:
            self._allocate_ports(service, operation)
        except StatusError:
            operation.revert()
            self._release(allocated, dry_run)
            raise

        def undo() -> None:
            operation.revert()
            self._release(allocated, dry_run)

        return undo

    def allocate_update(self, service: Obj, old: Obj, *, dry_run: bool) -> Callable[[], None]:
        """The same for a change of ``old``; also gives back what is not needed any more."""
        allocated, released = self._update_cluster_ips(service, old, dry_run)
        operation = PortOperation(self.ports, dry_run=dry_run)
        try:
            self._update_ports(service, old, operation)
        except StatusError:
            operation.revert()
            self._release(allocated, dry_run)
            raise
        self._release(released, dry_run)
        operation.commit()

        def undo() -> None:
            operation.revert()
            self._release(allocated, dry_run)
            if not dry_run:
                self._take(old)

        return undo

    def release_service(self, service: Obj) -> None:
        """The Service is gone."""
        self._release(_addresses(service), False)
        for port in _all_ports(service):
            self.ports.release(port)

    # -- addresses ------------------------------------------------------------------------

    def _allocate_cluster_ips(self, service: Obj, dry_run: bool) -> dict[str, str]:
        spec = service["spec"]
        if spec.get("type") == "ExternalName" or is_headless(spec):
            return {}
        families = spec.get("ipFamilies") or []
        ips = list(spec.get("clusterIPs") or [])
        ips += [""] * (len(families) - len(ips))
        wanted = dict(zip(families, ips, strict=False))
        allocated = self._allocate_ips(service, wanted, dry_run)
        spec["clusterIPs"] = [allocated.get(f, ip) for f, ip in zip(families, ips, strict=False)]
        if spec["clusterIPs"]:
            spec["clusterIP"] = spec["clusterIPs"][0]
        return allocated

    def _allocate_ips(self, service: Obj, wanted: dict[str, str], dry_run: bool) -> dict[str, str]:
        allocated: dict[str, str] = {}
        for family, ip in wanted.items():
            try:
                allocated[family] = self._allocate_ip(family, ip, dry_run)
            except AllocationError as error:
                self._release(allocated, dry_run)
                raise _ip_error(service, ip, error) from error
        return allocated

    def _allocate_ip(self, family: str, ip: str, dry_run: bool) -> str:
        allocator = self.by_family[family]
        key = (str(allocator.network), "static" if ip else "dynamic")
        counts = self.allocation_errors
        try:
            found = self._allocated(allocator, ip, dry_run)
            counts = self.allocations
        finally:
            if not dry_run:
                counts[key] = counts.get(key, 0) + 1
        return found

    @staticmethod
    def _allocated(allocator: IPRanges, ip: str, dry_run: bool) -> str:
        if not ip:
            return allocator.allocate_next(dry_run=dry_run)
        address = parse_ip_sloppy(ip)
        if address is None:
            raise new_internal_error(f'failed to parse service IP "{ip}"')
        allocator.allocate(address, dry_run=dry_run)
        return ip

    def _update_cluster_ips(
        self, service: Obj, old: Obj, dry_run: bool
    ) -> tuple[dict[str, str], dict[str, str]]:
        spec, old_spec = service["spec"], old.get("spec") or {}
        external, was_external = (s.get("type") == "ExternalName" for s in (spec, old_spec))
        if was_external:
            return ({} if external else self._allocate_cluster_ips(service, dry_run)), {}
        if is_headless(old_spec):
            return {}, {}
        if external:
            return {}, _addresses(old)
        families, before = spec.get("ipFamilies") or [], old_spec.get("ipFamilies") or []
        ips = list(spec.get("clusterIPs") or [])
        if len(before) == 1 and len(families) == 2:
            second = ips[1] if len(ips) > 1 else ""
            allocated = self._allocate_ips(service, {families[1]: second}, dry_run)
            spec["clusterIPs"] = [*ips[:1], allocated[families[1]]]
            return allocated, {}
        if len(before) == 2 and len(families) == 1:
            old_ips = old_spec.get("clusterIPs") or []
            return {}, {before[1]: old_ips[1]} if len(old_ips) > 1 else {}
        return {}, {}

    def _release(self, addresses: dict[str, str], dry_run: bool) -> None:
        if dry_run:
            return
        for family, ip in addresses.items():
            allocator, address = self.by_family.get(family), parse_ip_sloppy(ip)
            if allocator is not None and address is not None:
                allocator.release(address)

    # -- ports ----------------------------------------------------------------------------

    def _allocate_ports(self, service: Obj, operation: PortOperation) -> None:
        spec = service["spec"]
        if spec.get("type") in ("NodePort", "LoadBalancer"):
            _init_node_ports(service, spec, operation)
        if needs_health_check(service):
            _allocate_health_check(spec, operation)

    def _update_ports(self, service: Obj, old: Obj, operation: PortOperation) -> None:
        spec, old_spec = service["spec"], old.get("spec") or {}
        exposed = ("NodePort", "LoadBalancer")
        if spec.get("type") in exposed:
            _update_node_ports(service, spec, old_spec, operation)
        elif old_spec.get("type") in exposed:
            for port in _node_ports(old_spec):
                operation.release_deferred(port)
        needed, needs = needs_health_check(old), needs_health_check(service)
        if needs and not needed:
            _allocate_health_check(spec, operation)
        elif needed and not needs and old_spec.get("healthCheckNodePort"):
            operation.release_deferred(old_spec["healthCheckNodePort"])


def _ip_error(service: Obj, ip: str, error: AllocationError) -> StatusError:
    ips = service["spec"].get("clusterIPs")
    if isinstance(error, RangeFull):
        name = name_of(service)
        return new_internal_error(f'failed to allocate a serviceIP for Service "{name}": {error}')
    message = f"failed to allocate IP {ip}: {error}" if ip else f"failed to allocate IP: {error}"
    return new_invalid(SERVICE, name_of(service), [invalid("spec.clusterIPs", ips, message)])


def _port_error(service: Obj, index: int, port: int, error: AllocationError) -> StatusError:
    path = f"spec.ports[{index}].nodePort"
    return new_invalid(SERVICE, name_of(service), [invalid(path, port, str(error))])


def _should_allocate(spec: Obj) -> bool:
    if spec.get("type") == "LoadBalancer":
        return bool(spec.get("allocateLoadBalancerNodePorts"))
    return spec.get("type") == "NodePort"


def _next_port(operation: PortOperation) -> int:
    try:
        return operation.allocate_next()
    except AllocationError as error:
        raise new_internal_error(f"failed to allocate a nodePort: {error}") from error


def _init_node_ports(service: Obj, spec: Obj, operation: PortOperation) -> None:
    """One number for a port's TCP and UDP, unless they ask for different ones."""
    ports = spec.get("ports") or []
    by_port: dict[int | None, int] = {}
    for i, port in enumerate(ports):
        if not port.get("nodePort") and not _should_allocate(spec):
            continue
        number = port.get("port")
        known = by_port.get(number)
        if known is None:
            wanted = next(
                (p["nodePort"] for p in ports if p.get("port") == number and p.get("nodePort")), 0
            )
            if wanted:
                _take_port(service, i, wanted, operation)
            else:
                wanted = _next_port(operation)
            port["nodePort"] = by_port[number] = wanted
        elif not port.get("nodePort"):
            port["nodePort"] = known
        elif port["nodePort"] != known:
            _take_port(service, i, port["nodePort"], operation)


def _take_port(service: Obj, index: int, port: int, operation: PortOperation) -> None:
    try:
        operation.allocate(port)
    except AllocationError as error:
        raise _port_error(service, index, port, error) from error


def _update_node_ports(service: Obj, spec: Obj, old_spec: Obj, operation: PortOperation) -> None:
    before, taken = _node_ports(old_spec), set()
    seen: set[tuple[str | None, int]] = set()
    for i, port in enumerate(spec.get("ports") or ()):
        if not port.get("nodePort"):
            if not _should_allocate(spec):
                continue
            port["nodePort"] = _next_port(operation)
        elif port["nodePort"] not in before and port["nodePort"] not in taken:
            _take_port(service, i, port["nodePort"], operation)
            taken.add(port["nodePort"])
        key = (port.get("protocol"), port["nodePort"])
        if key in seen:
            raise new_internal_error(f"duplicate nodePort: {{{key[0]} {key[1]}}}")
        seen.add(key)
    kept = _node_ports(spec)
    for number in before:
        if number not in kept:
            operation.release_deferred(number)


def _allocate_health_check(spec: Obj, operation: PortOperation) -> None:
    wanted = spec.get("healthCheckNodePort")
    try:
        if wanted:
            operation.allocate(wanted)
        else:
            spec["healthCheckNodePort"] = operation.allocate_next()
    except AllocationError as error:
        what = f"requested HealthCheck NodePort {wanted}" if wanted else "a HealthCheck NodePort 0"
        raise new_internal_error(f"failed to allocate {what}: {error}") from error


def _node_ports(spec: Obj) -> list[int]:
    return [p["nodePort"] for p in spec.get("ports") or () if p.get("nodePort")]


def _all_ports(service: Obj) -> list[int]:
    spec = service.get("spec") or {}
    ports = _node_ports(spec)
    if needs_health_check(service) and spec.get("healthCheckNodePort"):
        ports.append(spec["healthCheckNodePort"])
    return ports


def _addresses(service: Obj) -> dict[str, str]:
    """The Service's ClusterIPs by family."""
    spec = service.get("spec") or {}
    if spec.get("type") == "ExternalName":
        return {}
    ips = [ip for ip in spec.get("clusterIPs") or () if ip and ip != "None"]
    return {("IPv6" if ":" in ip else "IPv4"): ip for ip in ips}
