"""Runs one check of test_node_network.py inside namespaces of its own; prints ``ok`` at the end.

Not a test module: test_node_network.py starts it under unshare.
"""

from __future__ import annotations

import os
import socket
import sys
import tempfile

from pilothouse.kubelet.network.ipam import FilePool
from pilothouse.kubelet.network.namespaces import (
    connect_in,
    is_netns,
    open_socket_in,
    run_in_netns,
)
from pilothouse.kubelet.network.netlink import Netlink
from pilothouse.kubelet.network.node_network import ClusterNetwork, NetworkConflict
from pilothouse.kubelet.network.pod_network import PodNetwork

SUBNET, SERVICES = "172.30.7.0/24", "10.96.0.0/16"


def loopback() -> None:
    with Netlink() as netlink:
        netlink.set_up(netlink.link_index("lo"))


def pod(network: PodNetwork, name: str, node: str) -> tuple[str, str]:
    """A namespace attached to ``node``: (netns path, address)."""
    from pilothouse.kubelet.network.namespaces import create_netns

    path = f"/run/netns/{name}"
    create_netns(path)
    fd = os.open(path, os.O_RDONLY)
    try:
        return path, run_in_netns(node, lambda: network.attach(name, fd))
    finally:
        os.close(fd)


def talk(source: str | None, target: str, ip: str) -> str:
    """Sends a word over TCP from ``source`` to ``ip`` in ``target``; the peer address seen."""
    listener = open_socket_in(target, ip, 0)
    listener.setblocking(True)
    port = listener.getsockname()[1]
    client = connect_in(source, ip, port, 3)
    server, peer = listener.accept()
    client.setblocking(True)
    client.sendall(b"ping")
    assert server.recv(4) == b"ping"
    for s in (client, server, listener):
        s.close()
    return str(peer[0])


def check_cluster() -> None:
    loopback()
    cluster = ClusterNetwork("test", node_subnet=SUBNET, service_cidr=SERVICES, egress=True)
    cluster.setup()
    nodes = [cluster.add_node(name) for name in ("node-1", "node-2")]
    assert [node.ip for node in nodes] == ["172.30.7.2", "172.30.7.3"]
    pods = []
    with tempfile.TemporaryDirectory() as directory:
        for number, node in enumerate(nodes):
            cidr = f"10.244.{number}.0/24"
            cluster.route_pods(node.name, cidr)
            network = PodNetwork(FilePool(cidr, f"{directory}/{node.name}.json"))
            run_in_netns(node.netns, network.setup)
            pods += [pod(network, f"pod-{number}-{i}", node.netns) for i in range(2)]
        (a, ip_a), (b, ip_b), (c, ip_c), _ = pods
        assert (ip_a, ip_b, ip_c) == ("10.244.0.2", "10.244.0.3", "10.244.1.2")
        assert talk(a, b, ip_b) == ip_a  # same node
        assert talk(a, c, ip_c) == ip_a  # another node, source kept
        assert talk(None, c, ip_c) == "172.30.7.1"  # the machine
        assert talk(nodes[0].netns, c, ip_c) == nodes[0].ip
        listener = socket.create_server((cluster.gateway, 0))  # as the API server
        connect_in(c, *listener.getsockname(), 3).close()
        listener.accept()[0].close()
        listener.close()
        # A new process after a kill -9 finds the same network and repairs what is broken.
        again = ClusterNetwork("test", node_subnet=SUBNET, service_cidr=SERVICES, egress=True)
        again.setup()
        assert [again.add_node(node.name) for node in nodes] == nodes
        with Netlink() as netlink:
            netlink.delete_link(again._veth("node-1"))
        assert again.add_node("node-1") == nodes[0]
        again.route_pods("node-1", "10.244.0.0/24")
        again.route_pods("node-2", "10.244.1.0/24")
        assert talk(a, c, ip_c) == ip_a
        assert again.add_node("node-3").ip == "172.30.7.4"
        try:
            ClusterNetwork("b", node_subnet="172.31.0.0/24", service_cidr=SERVICES).setup()
        except NetworkConflict as error:
            assert "--service-cidr" in str(error), error
        else:
            raise AssertionError("no conflict found")
    ClusterNetwork("test", node_subnet=SUBNET, service_cidr=SERVICES, egress=True).teardown()
    with Netlink() as netlink:
        assert [link.name for link in netlink.links() if link.kind] == []
        assert netlink.routes() == []
    assert [n for n in os.listdir("/run/netns") if n.startswith("ph-")] == []
    assert not is_netns(nodes[0].netns)
    assert "pilothouse" not in os.popen("iptables-save").read()


if __name__ == "__main__":
    globals()[f"check_{sys.argv[1]}"]()
    print("ok")
