"""From Services and slices to rules: text, names and minimal changes (no kernel)."""

from __future__ import annotations

from typing import Any

import pytest

from pilothouse.kubeproxy.endpoints import Endpoint, EndpointsTracker, endpoints_by_port
from pilothouse.kubeproxy.iptables import chains
from pilothouse.kubeproxy.iptables.rules import RuleOptions, port_rules, restore_text
from pilothouse.kubeproxy.services import ServicePortName, service_ports
from pilothouse.kubeproxy.topology import categorize

OPTIONS = RuleOptions("n1", cluster_cidr="10.244.0.0/16")


def service(**spec: Any) -> dict[str, Any]:
    base = {
        "clusterIP": "10.96.0.9", "type": "ClusterIP",
        "ports": [{"name": "http", "port": 80, "protocol": "TCP"}],
    }  # fmt: skip
    return {"metadata": {"namespace": "ns", "name": "svc"}, "spec": base | spec}


def endpoint(ip: str, node: str = "n1", **conditions: bool) -> Endpoint:
    ready = conditions.get("ready", True)
    return Endpoint(
        ip,
        8080,
        ready,
        conditions.get("serving", ready),
        conditions.get("terminating", False),
        node,
    )


def test_chain_names_are_upstreams() -> None:
    # From kube-proxy's own tests: ns1/svc1:p80 with its endpoint 10.180.0.1:80.
    assert chains.service_chain("ns1/svc1:p80", "tcp") == "KUBE-SVC-XPGD46QRK7WJZT7O"
    assert (
        chains.endpoint_chain("ns1/svc1:p80", "tcp", "10.180.0.1:80") == "KUBE-SEP-SXIVWICOYRO3J4NJ"
    )


@pytest.mark.parametrize(
    "spec", [{"clusterIP": "None"}, {"clusterIP": ""}, {"type": "ExternalName"}]
)
def test_services_without_an_address_route_nothing(spec: dict[str, Any]) -> None:
    assert service_ports(service(**spec)) == []


def test_services_of_other_proxies_are_left_alone() -> None:
    other = service()
    other["metadata"]["labels"] = {"service.kubernetes.io/service-proxy-name": ""}
    assert service_ports(other) == []


def test_slices_with_the_headless_label_are_not_for_proxies() -> None:
    labels = {"kubernetes.io/service-name": "svc"}
    slice_: dict[str, Any] = {
        "addressType": "IPv4", "metadata": {"namespace": "ns", "name": "x", "labels": labels},
        "ports": [{"port": 80}], "endpoints": [{"addresses": ["10.0.0.1"]}],
    }  # fmt: skip
    tracker = EndpointsTracker()
    assert tracker.set(slice_) == ("ns", "svc")
    assert tracker.of(("ns", "svc"))
    headless = {**slice_["metadata"], "labels": labels | {"service.kubernetes.io/headless": ""}}
    assert tracker.set({**slice_, "metadata": headless}) == ("ns", "svc")
    assert not tracker.of(("ns", "svc"))


def test_cluster_ip_spreads_over_endpoints() -> None:
    (port,) = service_ports(service())
    rules = port_rules(port, [endpoint("10.244.0.2"), endpoint("10.244.1.2", "n2")], OPTIONS)
    svc = chains.service_chain("ns/svc:http", "tcp")
    sep = [
        chains.endpoint_chain("ns/svc:http", "tcp", f"{ip}:8080")
        for ip in ("10.244.0.2", "10.244.1.2")
    ]
    assert rules.nat_services == [
        f'-A KUBE-SERVICES -m comment --comment "ns/svc:http cluster IP" -m tcp -p tcp '
        f"-d 10.96.0.9 --dport 80 -j {svc}"
    ]
    assert rules.own[svc] == [
        f'-A {svc} -m comment --comment "ns/svc:http cluster IP" -m tcp -p tcp -d 10.96.0.9 '
        "--dport 80 ! -s 10.244.0.0/16 -j KUBE-MARK-MASQ",
        f'-A {svc} -m comment --comment "ns/svc:http -> 10.244.0.2:8080" -m statistic --mode random '  # noqa: E501
        f"--probability 0.5000000000 -j {sep[0]}",
        f'-A {svc} -m comment --comment "ns/svc:http -> 10.244.1.2:8080" -j {sep[1]}',
    ]
    assert rules.own[sep[0]] == [
        f'-A {sep[0]} -m comment --comment "ns/svc:http" -s 10.244.0.2 -j KUBE-MARK-MASQ',
        f'-A {sep[0]} -m comment --comment "ns/svc:http" -m tcp -p tcp -j DNAT '
        "--to-destination 10.244.0.2:8080",
    ]


def test_without_endpoints_it_rejects() -> None:
    (port,) = service_ports(service(type="NodePort", ports=[{"port": 80, "nodePort": 30080}]))
    rules = port_rules(port, [], OPTIONS)
    assert rules.own == {} and rules.nat_services == [] and rules.nat_node_ports == []
    assert rules.filter_services == [
        '-A KUBE-SERVICES -m comment --comment "ns/svc has no endpoints" -m tcp -p tcp '
        "-d 10.96.0.9 --dport 80 -j REJECT"
    ]
    assert rules.filter_external[0].endswith(
        "-m addrtype --dst-type LOCAL -m tcp -p tcp --dport 30080 -j REJECT"
    )


def test_client_affinity_remembers_the_endpoint() -> None:
    (port,) = service_ports(service(sessionAffinity="ClientIP"))
    rules = port_rules(port, [endpoint("10.244.0.2"), endpoint("10.244.0.3")], OPTIONS)
    own = rules.own[chains.service_chain("ns/svc:http", "tcp")]
    sep = chains.endpoint_chain("ns/svc:http", "tcp", "10.244.0.2:8080")
    assert f"-m recent --name {sep} --rcheck --seconds 10800 --reap -j {sep}" in own[1]
    assert f"-m recent --name {sep} --set" in rules.own[sep][1]


def test_external_policy_local_keeps_to_the_node() -> None:
    (port,) = service_ports(
        service(
            type="NodePort", externalTrafficPolicy="Local", ports=[{"port": 80, "nodePort": 30080}]
        )
    )
    here, there = endpoint("10.244.0.2"), endpoint("10.244.1.2", "n2")
    with_local = port_rules(port, [here, there], OPTIONS)
    svl, ext = chains.local_chain("ns/svc", "tcp"), chains.external_chain("ns/svc", "tcp")
    assert with_local.own[ext][-1] == f"-A {ext} -j {svl}"
    assert len(with_local.own[svl]) == 1
    without = port_rules(port, [there], OPTIONS)
    assert svl not in without.own
    assert without.filter_external[0].endswith("--dport 30080 -j DROP")
    assert without.own[ext][0].endswith(
        f"-s 10.244.0.0/16 -j {chains.service_chain('ns/svc', 'tcp')}"
    )


def test_draining_endpoints_serve_when_none_is_ready() -> None:
    (port,) = service_ports(service())
    draining = endpoint("10.244.0.2", ready=False, serving=True, terminating=True)
    assert categorize([draining], port, node="n1").cluster == (draining,)
    ready = endpoint("10.244.0.3")
    assert categorize([draining, ready], port, node="n1").cluster == (ready,)


def test_same_zone_hints() -> None:
    (port,) = service_ports(service())
    near = endpoint("10.244.0.2")._replace(zone_hints=("a",))
    far = endpoint("10.244.1.2")._replace(zone_hints=("b",))
    assert categorize([near, far], port, node="n1", zone="a").cluster == (near,)
    assert categorize([near, far], port, node="n1", zone="c").cluster == (near, far)


def test_only_changed_chains_are_written_and_stale_ones_removed() -> None:
    ports = {}
    for name in ("a", "b"):
        obj = service()
        obj["metadata"]["name"] = name
        (port,) = service_ports(obj)
        ports[port.name] = port_rules(port, [endpoint("10.244.0.2")], OPTIONS)
    changed = ServicePortName("ns", "a", "http", "TCP")
    text = restore_text(ports, [changed], ["KUBE-SEP-GONE"], OPTIONS)
    a, b = (chains.service_chain(f"ns/{n}:http", "tcp") for n in "ab")
    assert f":{a} - [0:0]" in text and f":{b} - [0:0]" not in text
    assert f"-j {b}" in text  # still dispatched to
    assert ":KUBE-SEP-GONE - [0:0]" in text and "-X KUBE-SEP-GONE" in text
    nat = text[text.index("*nat") :].strip().splitlines()
    assert nat[-1] == "COMMIT" and nat[-2].endswith("-j KUBE-NODEPORTS")


def test_slices_of_a_service_are_merged() -> None:
    def slice_(*endpoints: dict[str, Any]) -> dict[str, Any]:
        return {"ports": [{"name": "http", "port": 8080}], "endpoints": list(endpoints)}

    merged = endpoints_by_port(
        ("ns", "svc"),
        [
            slice_(
                {"addresses": ["10.0.0.2"], "conditions": {"ready": False}},
                {"addresses": ["10.0.0.1"]},
            ),
            slice_({"addresses": ["10.0.0.2"], "conditions": {"ready": True}}),
        ],
    )
    (found,) = merged.values()
    assert [(e.ip, e.ready) for e in found] == [("10.0.0.1", True), ("10.0.0.2", True)]


def balanced(*ranges: str) -> dict[str, Any]:
    made = service(type="LoadBalancer", loadBalancerSourceRanges=list(ranges))
    made["status"] = {"loadBalancer": {"ingress": [{"ip": "1.2.3.4"}]}}
    return made


@pytest.mark.parametrize(("ranges", "loops"), [("10.0.0.0/24", True), ("11.0.0.0/24", False)])
def test_a_node_that_may_ask_reaches_a_balancer_whose_address_it_has(
    ranges: str, loops: bool
) -> None:
    (port,) = service_ports(balanced(ranges))
    options = RuleOptions("n1", node_ip="10.0.0.5")
    own = port_rules(port, [endpoint("10.244.0.2")], options).own
    (firewall,) = (rules for chain, rules in own.items() if chain.startswith("KUBE-FW-"))
    assert any("-s 1.2.3.4 -j KUBE-EXT-" in rule for rule in firewall) is loops


def test_node_ports_on_chosen_addresses_only() -> None:
    chosen = RuleOptions("n1", node_port_addresses=("127.0.0.1", "10.0.0.5"))
    text = restore_text({}, None, (), chosen)
    assert "--dst-type LOCAL" not in text.split("*nat")[1]
    jumps = [line for line in text.splitlines() if line.endswith("-j KUBE-NODEPORTS")]
    assert [jump.split(" -d ")[1].split()[0] for jump in jumps] == ["127.0.0.1", "10.0.0.5"]
    assert "block incoming localnet" in text
    only = RuleOptions("n1", node_port_addresses=("10.0.0.5",))
    assert "block incoming localnet" not in restore_text({}, None, (), only)
    none = RuleOptions(
        "n1", node_port_addresses=("127.0.0.1", "10.0.0.5"), localhost_node_ports=False
    )
    assert "127.0.0.1" not in restore_text({}, None, (), none)
