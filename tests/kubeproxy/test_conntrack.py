from __future__ import annotations

from typing import Any

from pilothouse.kubeproxy.conntrack import Flow, parse_flows, stale_flows
from pilothouse.kubeproxy.endpoints import Endpoint
from pilothouse.kubeproxy.services import ServicePort, service_ports

LISTING = """\
udp      17 29 src=10.9.2.1 dst=10.96.0.9 sport=1234 dport=53 [UNREPLIED] src=10.244.0.2 \
dst=10.9.1.1 sport=5353 dport=1234 mark=0 use=1
icmp     1 9 src=10.9.2.1 dst=10.9.1.1 type=8 code=0 id=1 src=10.9.1.1 dst=10.9.2.1
"""


def dns(**spec: Any) -> ServicePort:
    base = {
        "clusterIP": "10.96.0.9", "type": "ClusterIP",
        "ports": [{"name": "dns", "port": 53, "protocol": "UDP", "nodePort": 30053}],
    }  # fmt: skip
    (port,) = service_ports({"metadata": {"namespace": "n", "name": "s"}, "spec": base | spec})
    return port


def endpoint(ip: str, *, serving: bool = True) -> Endpoint:
    return Endpoint(ip, 5353, serving, serving, False, "n1")


def flow(destination: str, port: int, backend: str, backend_port: int = 5353) -> Flow:
    return Flow("10.9.2.1", destination, 1234, port, backend, backend_port)


def test_a_listing_is_read() -> None:
    (found,) = parse_flows(LISTING)
    assert found == flow("10.96.0.9", 53, "10.244.0.2")
    assert found.deletion == (
        "-D -p udp --orig-src 10.9.2.1 --orig-dst 10.96.0.9 --sport 1234 --dport 53".split()
    )


def test_flows_to_endpoints_that_do_not_serve_are_stale() -> None:
    port = dns(externalIPs=["192.0.2.7"])
    good, gone = flow("10.96.0.9", 53, "10.244.0.2"), flow("10.96.0.9", 53, "10.244.0.3")
    black_holed = flow("192.0.2.7", 53, "192.0.2.7", 53)
    other_port = flow("10.96.0.9", 54, "10.244.0.3")
    endpoints = {port.name: [endpoint("10.244.0.2"), endpoint("10.244.0.3", serving=False)]}
    flows = [good, gone, black_holed, other_port]
    assert stale_flows({port.name: port}, endpoints, flows) == [gone, black_holed]


def test_a_service_without_endpoints_keeps_only_what_may_be_somebody_elses() -> None:
    port = dns(type="NodePort")
    own, by_node_port = flow("10.96.0.9", 53, "10.244.0.2"), flow("10.9.1.1", 30053, "10.244.0.2")
    assert stale_flows({port.name: port}, {}, [own, by_node_port]) == [own]
    endpoints = {port.name: [endpoint("10.244.0.3")]}
    assert stale_flows({port.name: port}, endpoints, [by_node_port]) == [by_node_port]
