"""The proxy's loop against a fake client and a fake machine."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from random import Random
from typing import Any

from pilothouse.apimachinery.testing import FakeClock
from pilothouse.apimachinery.timefmt import format_time
from pilothouse.componentbase.activity import ActivityTracker
from pilothouse.componentbase.process import Completed
from pilothouse.componentbase.testing import FakeExec
from pilothouse.kubeclient.cache.factory import SharedInformerFactory
from pilothouse.kubeclient.interfaces import Environment
from pilothouse.kubeclient.resources import ENDPOINT_SLICES, NODES, SERVICES
from pilothouse.kubeclient.testing import FakeClient
from pilothouse.kubeproxy.config import ProxyConfig
from pilothouse.kubeproxy.node import ZONE_LABEL
from pilothouse.kubeproxy.proxier import FLUSH_SECONDS, RETRY_SECONDS, Proxier
from pilothouse.kubeproxy.trigger_times import ANNOTATION


def service(name: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1", "kind": "Service", "metadata": {"namespace": "ns", "name": name},
        "spec": {"clusterIP": "10.96.0.9", "ports": [{"port": 80, "protocol": "TCP"}]},
    }  # fmt: skip


def slice_(name: str, *ips: str) -> dict[str, Any]:
    return {
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": {
            "namespace": "ns", "name": f"{name}-x", "labels": {"kubernetes.io/service-name": name}
        },
        "ports": [{"port": 8080, "protocol": "TCP", "name": ""}],
        "endpoints": [{"addresses": [ip], "conditions": {"ready": True}} for ip in ips],
    }  # fmt: skip


class Machine(FakeExec):
    """Remembers restores; can be told to refuse them."""

    def __init__(self) -> None:
        self.refuse = False
        self.flows = b""
        self.flushed = False
        super().__init__(self._answer)

    def _answer(self, command: list[str], input: bytes) -> Completed | None:
        if self.refuse and command[0].endswith("-restore"):
            return Completed(2, b"", b"iptables-restore: line 3 failed")
        if self.flushed and "-S" in command:
            self.flushed = False
            return Completed(1, b"", b"iptables: No chain/target/match by that name.")
        if command[:2] == ["conntrack", "-L"]:
            return Completed(0, self.flows, b"")
        return None

    @property
    def restores(self) -> list[str]:
        return [
            text.decode()
            for command, text in zip(self.commands, self.inputs, strict=True)
            if command[0].endswith("-restore")
            and b"*nat" in text
            and b"KUBE-POSTROUTING -m mark" in text
        ]


class World:
    def __init__(self, *objects: dict[str, Any]) -> None:
        self.clock, self.activity, self.machine = FakeClock(), ActivityTracker(), Machine()
        self.client = FakeClient(*objects, clock=self.clock)
        informers = SharedInformerFactory(self.client, self.clock, Random(1), self.activity)
        self.env = Environment(self.client, informers, self.clock, Random(1), self.activity)
        self.proxier = Proxier(self.env, ProxyConfig("n1"), self.machine)

    async def settle(self) -> None:
        await self.activity.settle()


@asynccontextmanager
async def running(*objects: dict[str, Any]) -> AsyncIterator[World]:
    world = World(*objects)
    await world.proxier.start()
    try:
        await world.settle()
        yield world
    finally:
        await world.proxier.stop()
        await world.env.informers.stop()


async def test_writes_all_at_start_then_only_changes() -> None:
    objects = (service("a"), slice_("a", "10.0.0.1"), service("b"), slice_("b", "10.0.0.2"))
    async with running(*objects) as world:
        assert world.proxier.syncs == 1
        assert "10.0.0.1:8080" in world.machine.restores[0]
        await world.client.update(ENDPOINT_SLICES, slice_("a", "10.0.0.1", "10.0.0.3"))
        await world.settle()
        assert world.proxier.syncs == 2
        assert "--to-destination 10.0.0.3:8080" in world.machine.restores[1]
        assert "--to-destination 10.0.0.2:8080" not in world.machine.restores[1]


async def test_sysctls_are_set_at_once() -> None:
    async with running() as world:
        (command,) = (c for c in world.machine.commands if c[0] == "sysctl")
    assert "net.ipv4.conf.all.route_localnet=1" in command
    assert "net.netfilter.nf_conntrack_tcp_timeout_close_wait=3600" in command


async def test_an_event_that_changes_nothing_writes_nothing() -> None:
    async with running(service("a"), slice_("a", "10.0.0.1")) as world:
        changed = service("a")
        changed["metadata"]["labels"] = {"x": "y"}
        await world.client.update(SERVICES, changed)
        await world.settle()
        assert world.proxier.syncs == 1


async def test_deleted_service_leaves_no_chain() -> None:
    async with running(service("a"), slice_("a", "10.0.0.1")) as world:
        await world.client.delete(SERVICES, "a", "ns")
        await world.settle()
        last = world.machine.restores[-1]
        assert "-j KUBE-SVC-" not in last
        assert last.count("-X KUBE-SVC-") == 1 and last.count("-X KUBE-SEP-") == 1


async def test_a_failed_restore_is_repeated_in_full() -> None:
    async with running(service("a"), slice_("a", "10.0.0.1")) as world:
        world.machine.refuse = True
        await world.client.update(ENDPOINT_SLICES, slice_("a", "10.0.0.7"))
        await world.settle()
        assert world.proxier.health() is not None
        world.machine.refuse = False
        world.clock.advance(RETRY_SECONDS)
        await world.settle()
        assert world.proxier.health() is None
        assert "--to-destination 10.0.0.7:8080" in world.machine.restores[-1]


async def test_udp_flows_are_forgotten_even_when_no_rule_changes() -> None:
    def udp(*endpoints: dict[str, Any]) -> dict[str, Any]:
        made = slice_("a")
        made["ports"][0]["protocol"] = "UDP"
        return made | {"endpoints": list(endpoints)}

    dns = service("a")
    dns["spec"]["ports"][0]["protocol"] = "UDP"
    stays = {"addresses": ["10.0.0.2"], "conditions": {"ready": True}}
    # It still answers, but has left the rules already.
    going = {"ready": False, "serving": True, "terminating": True}
    leaves = {"addresses": ["10.0.0.1"], "conditions": going}
    flow = b"udp 17 9 src=10.0.0.9 dst=10.96.0.9 sport=7 dport=80 src=10.0.0.1 dst=10.0.0.9 "
    async with running(dns, udp(stays, leaves)) as world:
        world.machine.flows = flow + b"sport=8080 dport=7 mark=0 use=1\n"
        syncs = world.proxier.syncs
        await world.client.update(ENDPOINT_SLICES, udp(stays))
        await world.settle()
        assert world.proxier.syncs == syncs
        assert (
            world.machine.commands[-1]
            == (
                "conntrack -D -p udp --orig-src 10.0.0.9 --orig-dst 10.96.0.9 --sport 7 --dport 80"
            ).split()
        )


async def test_health_of_services_counts_ready_endpoints_of_this_node() -> None:
    local = service("a")
    local["spec"] |= {
        "type": "LoadBalancer", "externalTrafficPolicy": "Local", "healthCheckNodePort": 30001
    }  # fmt: skip
    mine = slice_("a", "10.0.0.1", "10.0.0.2")
    mine["endpoints"][0]["nodeName"] = mine["endpoints"][1]["nodeName"] = "n1"
    mine["endpoints"][1]["conditions"] = {"ready": False, "serving": True, "terminating": True}
    other = slice_("a", "10.0.0.3")
    other["metadata"]["name"] = "other"
    other["endpoints"][0]["nodeName"] = "n2"
    async with running(local, mine, other) as world:
        assert world.proxier.service_health() == {30001: ("ns", "a", 1)}


async def test_another_zone_of_the_node_makes_other_rules() -> None:
    node = {
        "apiVersion": "v1", "kind": "Node", "status": {},
        "metadata": {"name": "n1", "labels": {"topology.kubernetes.io/zone": "a"}},
    }  # fmt: skip
    near = slice_("s", "10.244.0.1", "10.244.0.2")
    for endpoint, zone in zip(near["endpoints"], "ab", strict=True):
        endpoint["hints"] = {"forZones": [{"name": zone}]}
    async with running(node, service("s"), near) as world:
        assert "10.244.0.1:8080" in world.machine.restores[-1]
        assert "10.244.0.2:8080" not in world.machine.restores[-1]
        changed = node | {"metadata": {"name": "n1", "labels": {ZONE_LABEL: "b"}}}
        await world.client.update(NODES, changed)
        await world.settle()
        assert "10.244.0.2:8080" in world.machine.restores[-1]
        assert "10.244.0.1:8080" not in world.machine.restores[-1]


async def test_flushed_tables_are_written_again() -> None:
    async with running(service("s"), slice_("s", "10.244.0.1")) as world:
        before = len(world.machine.restores)
        world.clock.advance(FLUSH_SECONDS)
        await world.settle()
        assert len(world.machine.restores) == before
        world.machine.flushed = True
        world.clock.advance(FLUSH_SECONDS)
        for _ in range(20):
            await asyncio.sleep(0)
        await world.settle()
        assert len(world.machine.restores) == before + 1
        assert "10.244.0.1:8080" in world.machine.restores[-1]


async def test_metrics_tell_of_syncs() -> None:
    made = slice_("s", "10.244.0.1")
    async with running(service("s")) as world:
        world.clock.advance(10)
        stamp = format_time(world.clock.now())
        made["metadata"]["annotations"] = {ANNOTATION: stamp}
        world.clock.advance(2)
        await world.client.create(ENDPOINT_SLICES, made, "ns")
        await world.settle()
        text = world.proxier.metrics.registry().text()
        assert 'kubeproxy_sync_proxy_rules_duration_seconds_count{ip_family="IPv4"} 2' in text
        assert 'kubeproxy_sync_full_proxy_rules_duration_seconds_count{ip_family="IPv4"} 1' in text
        assert "kubeproxy_sync_proxy_rules_service_changes_total 1" in text
        assert "kubeproxy_sync_proxy_rules_endpoint_changes_total 1" in text
        assert 'network_programming_duration_seconds_sum{ip_family="IPv4"} 2' in text
        total = 'kubeproxy_sync_proxy_rules_iptables_total{table="nat",ip_family="IPv4"} '
        assert float(text.split(total)[1].split()[0]) > 3
        world.machine.refuse = True
        await world.client.create(SERVICES, service("t") | {"spec": service("t")["spec"]}, "ns")
        await world.settle()
        text = world.proxier.metrics.registry().text()
        assert 'iptables_partial_restore_failures_total{ip_family="IPv4"} 1' in text
