"""ClusterIPs and node ports: what Services take and give back."""

from __future__ import annotations

import random
from typing import Any

import pytest

from pilothouse.apimachinery.errors import StatusError
from pilothouse.apiserver.registry.core.service_allocators import ServiceAllocators

Obj = dict[str, Any]


def allocators(cidrs: tuple[str, ...] = ("10.96.0.0/24",)) -> ServiceAllocators:
    return ServiceAllocators(cidrs, (30000, 30100), random.Random(1))


def service(name: str = "a", **spec: Any) -> Obj:
    base = {"type": "ClusterIP", "ports": [{"port": 80, "protocol": "TCP"}]}
    return {"metadata": {"name": name, "namespace": "d"}, "spec": {**base, **spec}}


def create(found: ServiceAllocators, obj: Obj, *, dry_run: bool = False) -> Obj:
    found.init_ip_families(obj, None)
    found.allocate_create(obj, dry_run=dry_run)
    return obj


def message(error: pytest.ExceptionInfo[StatusError]) -> str:
    return str(error.value.status["message"])


def test_addresses_come_from_the_upper_part() -> None:
    found = allocators()
    spec = create(found, service())["spec"]
    assert spec["ipFamilyPolicy"] == "SingleStack"
    assert spec["ipFamilies"] == ["IPv4"]
    assert spec["clusterIPs"] == [spec["clusterIP"]]
    # A /24 leaves 16 addresses to explicit requests.
    assert 17 <= int(spec["clusterIP"].rsplit(".", 1)[1]) <= 254


def test_an_explicit_address() -> None:
    found = allocators()
    create(found, service(clusterIP="10.96.0.10", clusterIPs=["10.96.0.10"]))
    with pytest.raises(StatusError) as error:
        create(found, service("b", clusterIP="10.96.0.10", clusterIPs=["10.96.0.10"]))
    assert message(error) == (
        'Service "b" is invalid: spec.clusterIPs: Invalid value: ["10.96.0.10"]: failed to '
        "allocate IP 10.96.0.10: provided IP is already allocated"
    )
    with pytest.raises(StatusError) as error:
        create(found, service("b", clusterIP="10.0.0.1", clusterIPs=["10.0.0.1"]))
    assert message(error) == (
        'Service "b" is invalid: spec.clusterIPs: Invalid value: ["10.0.0.1"]: failed to allocate '
        "IP 10.0.0.1: the provided IP (10.0.0.1) is not in the valid range. The range of valid IPs "
        "is 10.96.0.0/24"
    )


def service_cidr(*cidrs: str, ready: str = "True", **metadata: Any) -> Obj:
    condition = {"type": "Ready", "status": ready}
    return {
        "metadata": {"name": "more", **metadata}, "spec": {"cidrs": list(cidrs)},
        "status": {"conditions": [condition]},
    }  # fmt: skip


def test_service_cidr_objects_add_ranges_while_they_are_ready() -> None:
    found = allocators(("10.96.0.0/30",))
    asked = {"clusterIP": "203.0.113.10", "clusterIPs": ["203.0.113.10"]}
    for unready in (
        service_cidr("203.0.113.0/24", ready="False"),
        service_cidr("203.0.113.0/24", deletionTimestamp="2026-01-01T00:00:00Z"),
    ):
        found.service_cidr_changed("ADDED", unready)
        with pytest.raises(StatusError, match="not in the valid range"):
            create(found, service(**asked))
    found.service_cidr_changed("MODIFIED", service_cidr("203.0.113.0/24", "2001:db8::/64"))
    create(found, service(**asked))
    with pytest.raises(StatusError, match="already allocated"):
        create(found, service("b", **asked))
    # The configured range comes first, then any that has addresses left.
    given = [create(found, service(f"s{i}"))["spec"]["clusterIP"] for i in range(3)]
    assert sorted(given[:2]) == ["10.96.0.1", "10.96.0.2"]
    assert given[2].startswith("203.0.113.")
    assert found.by_family["IPv4"].free == 0
    found.service_cidr_changed("DELETED", service_cidr("203.0.113.0/24"))
    with pytest.raises(StatusError, match="range is full"):
        create(found, service("c"))
    found.release_service({"spec": asked})
    found.service_cidr_changed("ADDED", service_cidr("203.0.113.0/24"))
    create(found, service("d", **asked))


def test_headless_and_external_names_take_none() -> None:
    found = allocators()
    free = found.by_family["IPv4"].free
    headless = create(found, service(clusterIP="None", clusterIPs=["None"]))
    assert headless["spec"]["clusterIPs"] == ["None"]
    create(found, service(type="ExternalName", externalName="a.b", ports=[]))
    assert found.by_family["IPv4"].free == free


def test_dual_stack() -> None:
    found = allocators(("10.96.0.0/24", "fd00::/108"))
    spec = create(found, service(ipFamilyPolicy="PreferDualStack"))["spec"]
    assert spec["ipFamilies"] == ["IPv4", "IPv6"]
    assert [":" in ip for ip in spec["clusterIPs"]] == [False, True]


def test_dual_stack_is_refused_on_a_single_stack_cluster() -> None:
    with pytest.raises(StatusError) as error:
        create(allocators(), service(ipFamilyPolicy="RequireDualStack"))
    assert "this cluster is not configured for dual-stack services" in message(error)


def test_node_ports() -> None:
    found = allocators()
    port = create(found, service(type="NodePort"))["spec"]["ports"][0]["nodePort"]
    assert 30000 <= port <= 30100
    taken = [{"port": 80, "protocol": "TCP", "nodePort": port}]
    with pytest.raises(StatusError) as error:
        create(found, service("b", type="NodePort", ports=taken))
    assert message(error) == (
        f'Service "b" is invalid: spec.ports[0].nodePort: Invalid value: {port}: provided port is '
        "already allocated"
    )
    outside = [{"port": 80, "protocol": "TCP", "nodePort": 80}]
    with pytest.raises(StatusError) as error:
        create(found, service("b", type="NodePort", ports=outside))
    assert "provided port is not in the valid range" in message(error)


def test_a_refused_service_gives_its_address_back() -> None:
    found = allocators()
    free = found.by_family["IPv4"].free
    outside = [{"port": 80, "protocol": "TCP", "nodePort": 80}]
    with pytest.raises(StatusError):
        create(found, service(type="NodePort", ports=outside))
    assert found.by_family["IPv4"].free == free


def test_a_dry_run_takes_nothing() -> None:
    found = allocators()
    free = found.by_family["IPv4"].free
    create(found, service(type="NodePort"), dry_run=True)
    assert found.by_family["IPv4"].free == free
    assert not any(found.ports.has(port) for port in range(30000, 30101))


def test_changing_the_type_releases_and_takes() -> None:
    found = allocators()
    old = create(found, service(type="NodePort"))
    port = old["spec"]["ports"][0]["nodePort"]
    ports = [{"port": 80, "protocol": "TCP"}]
    new = {**old, "spec": {**old["spec"], "type": "ClusterIP", "ports": ports}}
    undo = found.allocate_update(new, old, dry_run=False)
    assert not found.ports.has(port)
    undo()
    assert found.ports.has(port)
    external = {**old, "spec": {"type": "ExternalName", "externalName": "a.b"}}
    found.allocate_update(external, old, dry_run=False)
    create(
        found,
        service("b", clusterIP=old["spec"]["clusterIP"], clusterIPs=old["spec"]["clusterIPs"]),
    )


def test_release_and_rebuild() -> None:
    found = allocators()
    first = create(found, service(type="NodePort"))
    other = allocators()
    other.rebuild([first])
    assert other.ports.has(first["spec"]["ports"][0]["nodePort"])
    assert other.by_family["IPv4"].free == found.by_family["IPv4"].free
    other.release_service(first)
    assert other.by_family["IPv4"].free == found.by_family["IPv4"].free + 1


def test_a_full_range() -> None:
    found = allocators(("10.96.0.0/29",))
    for i in range(6):
        create(found, service(f"s{i}"))
    with pytest.raises(StatusError) as error:
        create(found, service("last"))
    assert "range is full" in message(error)
