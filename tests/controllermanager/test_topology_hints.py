"""Topology mode: shares of zones, hints that stay, events that say why there are none."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilothouse.apimachinery.testing import make_node, make_pod, make_service
from pilothouse.controllermanager.endpointslice import compute
from pilothouse.controllermanager.topology_hints import (
    NoShares,
    Share,
    TopologyHints,
    cpu_ratios,
    shares_of,
    transfers,
)

AUTO = {"service.kubernetes.io/topology-mode": "Auto"}


def node(name: str, zone: str, cpu: str = "4", **labels: str) -> Any:
    made = make_node(name, labels={"topology.kubernetes.io/zone": zone, **labels})
    made["status"] = {
        "allocatable": {"cpu": cpu},
        "conditions": [{"type": "Ready", "status": "True"}],
    }
    return made


def service(annotations: Any = None) -> Any:
    made = make_service("web", uid="svc", spec={"clusterIP": "10.0.0.1", "ipFamilies": ["IPv4"]})
    made["metadata"]["annotations"] = AUTO if annotations is None else annotations
    return made


def pods(**counts: int) -> Any:
    made = []
    for name, count in counts.items():
        for i in range(count):
            address = f"10.0.{ord(name[0])}.{i + 1}"
            made.append(
                make_pod(f"{name}{i}", node=name, pod_ip=address, ready=True, phase="Running",
                         uid=f"u-{name}{i}")
            )  # fmt: skip
    return made


def hints(slices: Any) -> Counter[str]:
    return Counter(
        zone["name"]
        for piece in slices
        for endpoint in piece["endpoints"]
        for zone in endpoint.get("hints", {}).get("forZones", ())
    )


NODES = {n: node(n, z) for n, z in (("a", "z1"), ("b", "z2"), ("c", "z3"))}


def known() -> TopologyHints:
    topology = TopologyHints()
    topology.set_nodes(NODES.values())
    return topology


def test_zones_get_their_share() -> None:
    topology = known()
    changes, _ = compute(service(), pods(a=4, b=1, c=1), [], NODES, topology=topology)
    assert hints(changes.create) == {"z1": 2, "z2": 2, "z3": 2}
    assert topology.events == [
        ("Normal", "TopologyAwareHintsEnabled",
         "Topology Aware Hints has been enabled, addressType: IPv4")
    ]  # fmt: skip


def test_hints_stay_while_they_can() -> None:
    topology = known()
    changes, _ = compute(service(), pods(a=4, b=1, c=1), [], NODES, topology=topology)
    (piece,) = changes.create
    piece["metadata"]["name"] = "web-1"
    topology.events.clear()
    again, _ = compute(service(), pods(a=4, b=1, c=1), [piece], NODES, topology=topology)
    assert not (again.create or again.update or again.delete)
    more, _ = compute(service(), pods(a=4, b=2, c=3), [piece], NODES, topology=topology)
    assert hints(more.update) == {"z1": 3, "z2": 3, "z3": 3}
    assert topology.events == []
    off, _ = compute(service({}), pods(a=4, b=1, c=1), [piece], NODES, topology=topology)
    assert hints(off.update) == {} and len(off.update) == 1
    assert [e[1] for e in topology.events] == ["TopologyAwareHintsDisabled"]


@pytest.mark.parametrize(
    ("counts", "nodes", "reason"),
    [
        ({"a": 1, "b": 1}, NODES.values(), "Insufficient number of endpoints "
         "(2 endpoints, 3 zones)"),
        ({"a": 9}, [NODES["a"]], "Insufficient Node information: allocatable CPU or zone not "
         "specified on one or more nodes"),
        ({"a": 9}, [*NODES.values(), node("d", "")], "Insufficient Node information: allocatable "
         "CPU or zone not specified on one or more nodes"),
        ({"a": 2, "b": 1}, [node("a", "z1", "100"), node("b", "z2", "1"), node("c", "z3", "1")],
         "Unable to allocate minimum required endpoints to each zone without exceeding overload "
         "threshold (3 endpoints, 3 zones)"),
    ],
)  # fmt: skip
def test_why_there_are_no_hints(counts: Any, nodes: Any, reason: str) -> None:
    topology = TopologyHints()
    topology.set_nodes(nodes)
    changes, _ = compute(service(), pods(**counts), [], NODES, topology=topology)
    assert not hints(changes.create)
    assert topology.events == [
        ("Warning", "TopologyAwareHintsDisabled", f"{reason}, addressType: IPv4")
    ]


def test_endpoints_without_a_zone() -> None:
    topology = known()
    nodes = {**NODES, "a": make_node("a")}
    changes, _ = compute(service(), pods(a=3, b=3, c=3), [], nodes, topology=topology)
    assert not hints(changes.create)
    assert "do not have a zone specified" in topology.events[0][2]


def test_services_that_lost_a_zone_are_looked_at() -> None:
    topology = known()
    compute(service(), pods(a=2, b=2, c=2), [], NODES, topology=topology)
    assert topology.overloaded() == []
    topology.set_nodes([*NODES.values(), node("d", "z4")])
    assert topology.overloaded() == ["default/web"]
    topology.set_nodes([NODES["a"]])
    assert topology.overloaded() == ["default/web"]
    topology.forget("default/web")
    assert not topology.in_use


def test_ratios_of_zones() -> None:
    control = node("m", "z9", **{"node-role.kubernetes.io/control-plane": ""})
    down = node("d", "z8")
    down["status"]["conditions"][0]["status"] = "False"
    found = cpu_ratios([node("a", "z1", "1"), node("b", "z2", "3"), control, down])
    assert found == {"z1": 0.25, "z2": 0.75}


@given(st.dictionaries(st.sampled_from("abcd"), st.integers(1, 50), min_size=2), st.integers(0, 60))
def test_shares_never_promise_too_much(cpus: dict[str, int], count: int) -> None:
    total = sum(cpus.values())
    try:
        shares = shares_of({z: n / total for z, n in cpus.items()}, count)
    except NoShares:
        return
    assert set(shares) == set(cpus)
    assert all(1 <= s.maximum <= count for s in shares.values())


def test_only_whole_endpoints_move() -> None:
    shares = {"a": Share(4, 1.5), "b": Share(4, 1.5)}
    assert transfers({"a": 3}, shares) == ({"a": 1}, {"b": 1})
    assert transfers({"a": 2, "b": 1}, shares) == ({}, {})
