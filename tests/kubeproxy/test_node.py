"""Zone, address and eligibility of a node; the addresses that NodePorts answer on."""

from __future__ import annotations

from typing import Any

import pytest

from pilothouse.kubeproxy.node import NodeFacts, listed_addresses, node_facts, node_port_addresses


def node(**spec: Any) -> dict[str, Any]:
    addresses = [
        {"type": "Hostname", "address": "n1"},
        {"type": "InternalIP", "address": "fd00::1"},
        {"type": "InternalIP", "address": "10.0.0.5"},
    ]
    labels = {"topology.kubernetes.io/zone": "a"}
    return {
        "metadata": {"name": "n1", "labels": labels}, "spec": spec,
        "status": {"addresses": addresses},
    }  # fmt: skip


def test_facts_of_a_node() -> None:
    assert node_facts(None) == NodeFacts("", "", True)
    assert node_facts(node()) == NodeFacts("a", "10.0.0.5", True)
    assert not node_facts(node(taints=[{"key": "ToBeDeletedByClusterAutoscaler"}])).eligible
    going = node()
    going["metadata"]["deletionTimestamp"] = "now"
    assert not node_facts(going).eligible


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ((), None),
        (("0.0.0.0/0",), None),
        (("10.0.0.0/8", "127.0.0.0/8"), ("127.0.0.1", "10.0.0.5")),
        (("192.168.0.0/16", "fd00::/8"), ()),
        (("primary",), ("10.0.0.5",)),
    ],
)
def test_addresses_of_node_ports(wanted: Any, expected: Any) -> None:
    listing = (
        "1: lo    inet 127.0.0.1/8 scope host lo\\       valid_lft forever\n"
        "2: eth0    inet 10.0.0.5/24 brd 10.0.0.255 scope global eth0\\  valid_lft forever\n"
    )
    addresses = listed_addresses(listing)
    assert addresses == ["127.0.0.1", "10.0.0.5"]
    assert node_port_addresses(wanted, "10.0.0.5", addresses) == expected
