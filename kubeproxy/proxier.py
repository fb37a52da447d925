"""The service proxy: Service and EndpointSlice events in, iptables rules out.

Events only mark a Service as changed; one loop turns what has changed since its last turn into one
restore. While a restore runs, more changes gather: under load they are written together.
"""

from __future__ import annotations

import asyncio
import logging

from pilothouse.apimachinery.clock import TimerHandle, upkeep
from pilothouse.apimachinery.object import Obj
from pilothouse.componentbase.process import Exec, RealExec
from pilothouse.componentbase.tasks import TaskOwner
from pilothouse.kubeclient.interfaces import Environment
from pilothouse.kubeclient.resources import ENDPOINT_SLICES, NODES, SERVICES
from pilothouse.kubeproxy.config import ProxyConfig
from pilothouse.kubeproxy.conntrack import parse_flows, stale_flows
from pilothouse.kubeproxy.endpoints import Endpoint, EndpointsTracker
from pilothouse.kubeproxy.health import HealthServers, OpenSocket, ServiceHealth
from pilothouse.kubeproxy.iptables.restore import IPTables, IPTablesError
from pilothouse.kubeproxy.iptables.rules import (
    PortRules,
    RuleOptions,
    count_rules,
    port_rules,
    restore_text,
)
from pilothouse.kubeproxy.metrics import FAMILY, ProxyMetrics
from pilothouse.kubeproxy.node import (
    NodeFacts,
    listed_addresses,
    node_facts,
    node_port_addresses,
)
from pilothouse.kubeproxy.services import ServicePort, ServicePortName, service_ports
from pilothouse.kubeproxy.trigger_times import TriggerTimes

log = logging.getLogger(__name__)
RETRY_SECONDS = 5.0
FLUSH_SECONDS = 30.0
"""How often it is looked whether somebody has flushed the tables."""
SYSCTLS = {
    "net.ipv4.conf.all.route_localnet": "1",
    # kube-proxy's defaults: a connection that one side leaks is forgotten after an hour or a day.
    "net.netfilter.nf_conntrack_tcp_timeout_established": "86400",
    "net.netfilter.nf_conntrack_tcp_timeout_close_wait": "3600",
}


class Proxier:
    """Routes Services in one network namespace. Implements ``kubeclient.interfaces.Component``."""

    name = "proxy"

    def __init__(
        self,
        env: Environment,
        config: ProxyConfig,
        exec_: Exec | None = None,
        *,
        open_socket: OpenSocket | None = None,
    ) -> None:
        """``open_socket``: where to serve health checks; without one there are none."""
        self.config = config
        self._env = env
        self._exec = exec_ or RealExec()
        self._iptables = IPTables(self._exec, config.netns)
        self._services = env.informers.informer(SERVICES)
        self._slices = env.informers.informer(ENDPOINT_SLICES)
        self._nodes = env.informers.informer(NODES)
        self._tracker = EndpointsTracker()
        self._ports: dict[ServicePortName, ServicePort] = {}
        self._endpoints: dict[ServicePortName, list[Endpoint]] = {}
        self._rules: dict[ServicePortName, PortRules] = {}
        self._by_service: dict[tuple[str, str], set[ServicePortName]] = {}
        self._changed: set[tuple[str, str]] = set()
        self._applied_chains: set[str] = set()
        self._full = True
        self._wake = asyncio.Event()
        self._activity_name = f"proxy {config.node_name}"
        self._counted = False
        self._timers: list[TimerHandle] = []
        self._tasks = TaskOwner(self._activity_name)
        self._problem: str | None = None
        self.metrics = ProxyMetrics(env.clock)
        self.metrics.count_rules = lambda: count_rules(self._rules.values())
        self.metrics.count_not_local = self._count_not_local
        self._node = NodeFacts()
        self._node_port_addresses: tuple[str, ...] | None = None
        self._triggers = TriggerTimes(env.clock)
        self._health: HealthServers | None = None
        if open_socket is not None:
            self._health = HealthServers(
                open_socket, env.clock, self.health, self.metrics, lambda: self._node.eligible
            )
        self.syncs = 0
        """Restores that were run; for tests and metrics."""

    # -- life ----------------------------------------------------------------------------

    async def start(self) -> None:
        self._env.informers.start()
        await self._env.informers.wait_synced((self._services, self._slices, self._nodes))
        self._node = node_facts(self._nodes.get(self.config.node_name))
        await self._iptables.set_sysctls(SYSCTLS)
        self._services.add_handler(
            self._service_event, lambda old, new: self._service_event(new), self._service_event
        )
        self._slices.add_handler(
            self._slice_event, lambda old, new: self._slice_event(new), self._slice_gone
        )
        self._nodes.add_handler(
            self._node_event, lambda old, new: self._node_event(new), lambda node: None
        )
        await self.sync()
        if self._health is not None:
            await self._health.start()
        self._tasks.start(self._run(), "loop")
        self._tasks.start(self._watch_flushes(), "flushes")
        self._schedule_full()

    async def stop(self) -> None:
        for timer in self._timers:
            timer.cancel()
        await self._tasks.close()
        if self._health is not None:
            await self._health.stop()
        self._idle()

    def health(self) -> str | None:
        return self._problem

    async def clean_up(self) -> None:
        """Removes all rules; when the cluster goes down."""
        try:
            await self._iptables.clean_up()
        except IPTablesError as error:
            log.warning("could not remove the rules: %s", error)

    # -- events --------------------------------------------------------------------------

    def _node_event(self, node: Obj) -> None:
        """Another zone or address: all rules may be different ones."""
        if node["metadata"]["name"] != self.config.node_name:
            return
        before, self._node = self._node, node_facts(node)
        if before[:2] != self._node[:2]:
            self._full = True
            for service in list(self._by_service):
                self._mark(service)
            self._wake.set()

    def _service_event(self, service: Obj) -> None:
        metadata = service["metadata"]
        self.metrics.service_changes.note()
        self._mark((metadata.get("namespace") or "", metadata["name"]))

    def _slice_event(self, slice_: Obj) -> None:
        service = self._tracker.set(slice_)
        if service is not None:
            self.metrics.endpoint_changes.note()
            self._triggers.note(service, slice_)
            self._mark(service)

    def _slice_gone(self, slice_: Obj) -> None:
        service = self._tracker.remove(slice_)
        if service is not None:
            self._triggers.forget(service, slice_)
            self.metrics.endpoint_changes.note()
            self._mark(service)

    def _mark(self, service: tuple[str, str]) -> None:
        self._changed.add(service)
        self.metrics.queued()
        if not self._counted:
            self._counted = True
            self._env.activity.begin(self._activity_name)
        self._wake.set()

    def _idle(self) -> None:
        if self._counted:
            self._counted = False
            self._env.activity.end(self._activity_name)

    # -- the loop ------------------------------------------------------------------------

    def _schedule_full(self) -> None:
        def force() -> None:
            self._full = True
            self._wake.set()
            self._schedule_full()

        self._timers = [self._env.clock.call_later(self.config.full_sync_period, force)]

    async def _watch_flushes(self) -> None:
        clock = upkeep(self._env.clock)
        while True:
            await clock.sleep(FLUSH_SECONDS)
            try:
                flushed = await self._iptables.is_flushed()
            except IPTablesError as error:
                log.warning("could not look for the rules: %s", error)
                continue
            if flushed and not self._full:
                log.warning("iptables have been flushed: all rules are written again")
                self._full = True
                self._wake.set()

    async def _run(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            try:
                await self.sync()
            except IPTablesError as error:
                self._problem = str(error)
                log.error("iptables-restore failed, trying again in %s s: %s", RETRY_SECONDS, error)
                self._full = True
                self._idle()
                self._timers.append(self._env.clock.call_later(RETRY_SECONDS, self._wake.set))
                continue
            if not self._changed:
                self._idle()
            if self.config.min_sync_period:
                await self._env.clock.sleep(self.config.min_sync_period)

    async def sync(self) -> None:
        """Writes what has changed. :raises IPTablesError: nothing was written."""
        began = self._env.clock.monotonic()
        changed, self._changed = self._changed, set()
        names = {name for service in changed for name in self._refresh(service)}
        full, self._full = self._full, False
        if full:
            await self._look_at_addresses()
        dirty = self._rebuild(names)
        if full or dirty:
            await self._write(dirty, changed, full=full)
        # Also without new rules: an endpoint that was terminating had left them before.
        if any(name.protocol == "UDP" for name in (self._ports if full else names)):
            await self._forget_flows()
        if not full and not names:
            return
        if self._health is not None:
            await self._health.update(self.service_health())
        self.metrics.synced(self._env.clock.monotonic() - began, full=full)
        for seconds in self._triggers.of(changed):
            self.metrics.network_programming.observe(seconds, FAMILY)

    def service_health(self) -> dict[int, ServiceHealth]:
        """By healthCheckNodePort: how many endpoints of the Service are ready on this node."""
        local: dict[int, set[str]] = {}
        services: dict[int, ServicePortName] = {}
        for name, port in self._ports.items():
            if port.health_check_node_port:
                services[port.health_check_node_port] = name
                local.setdefault(port.health_check_node_port, set()).update(
                    e.ip
                    for e in self._endpoints.get(name, ())
                    if e.ready and e.node == self.config.node_name
                )
        return {
            port: ServiceHealth(name.namespace, name.name, len(local[port]))
            for port, name in services.items()
        }

    def _count_not_local(self) -> dict[str, int]:
        """Services of policy Local that have endpoints, but none on this node."""
        counts = {"internal": 0, "external": 0}
        for name, port in self._ports.items():
            ready = [e for e in self._endpoints.get(name, ()) if e.ready]
            if ready and all(e.node != self.config.node_name for e in ready):
                counts["internal"] += port.internal_local
                counts["external"] += port.external_local
        return counts

    async def _write(
        self, dirty: set[ServicePortName], changed: set[tuple[str, str]], *, full: bool
    ) -> None:
        """Restores all rules, or those of ``dirty``."""
        if full:
            self._applied_chains |= await self._iptables.prepare()
        wanted = {chain for rules in self._rules.values() for chain in rules.own}
        text = restore_text(
            self._rules, None if full else dirty, self._applied_chains - wanted, self._options()
        )
        try:
            await self._iptables.restore(text)
        except IPTablesError:
            self._changed |= changed
            self.metrics.failed(full=full)
            raise
        self.syncs += 1
        self.metrics.wrote(text)
        self._problem = None
        self._applied_chains = wanted

    def _refresh(self, key: tuple[str, str]) -> set[ServicePortName]:
        """Takes over the Service's ports; returns the names of old and new ones."""
        old = self._by_service.pop(key, set())
        service = self._services.get("/".join(key))
        ports = service_ports(service) if service is not None else []
        for name in old:
            self._ports.pop(name, None)
        new = {port.name for port in ports}
        for port in ports:
            self._ports[port.name] = port
        if new:
            self._by_service[key] = new
        return old | new

    def _rebuild(self, names: set[ServicePortName]) -> set[ServicePortName]:
        """Makes the rules of these ports anew; returns those whose rules differ."""
        dirty = set()
        options = self._options()
        endpoints = {
            name: found
            for service in {name[:2] for name in names}
            for name, found in self._tracker.of(service).items()
        }
        for name in names:
            port = self._ports.get(name)
            self._endpoints[name] = endpoints.get(name, [])
            rules = None if port is None else port_rules(port, self._endpoints[name], options)
            if rules is None:
                self._endpoints.pop(name, None)
                if self._rules.pop(name, None) is not None:
                    dirty.add(name)
            elif rules != self._rules.get(name):
                self._rules[name] = rules
                dirty.add(name)
        return dirty

    def _options(self) -> RuleOptions:
        return RuleOptions(
            node_name=self.config.node_name,
            cluster_cidr=self.config.cluster_cidr,
            zone=self._node.zone,
            node_ip=self._node.ip,
            node_port_addresses=self._node_port_addresses,
            masquerade_all=self.config.masquerade_all,
            localhost_node_ports=self.config.localhost_node_ports,
        )

    async def _look_at_addresses(self) -> None:
        """Only where NodePorts don't answer on all of them."""
        wanted = self.config.node_port_addresses
        if wanted:
            listed = await self._exec.run([*self._prefix, "ip", "-o", "-4", "addr"])
            found = listed_addresses(listed.stdout.decode())
            self._node_port_addresses = node_port_addresses(wanted, self._node.ip, found)

    @property
    def _prefix(self) -> list[str]:
        return ["nsenter", f"--net={self.config.netns}"] if self.config.netns else []

    async def _forget_flows(self) -> None:
        prefix, began = self._prefix, self._env.clock.monotonic()
        try:
            listed = await self._exec.run([*prefix, "conntrack", "-L", "-p", "udp"])
            flows = parse_flows(listed.stdout.decode())
            for flow in stale_flows(self._ports, self._endpoints, flows):
                # Exit code 1 means that it ended by itself meanwhile.
                await self._exec.run([*prefix, "conntrack", *flow.deletion])
                self.metrics.flows_deleted.inc(FAMILY)
        except FileNotFoundError:
            log.warning("conntrack is missing: UDP flows to old endpoints may linger")
        self.metrics.conntrack.observe(self._env.clock.monotonic() - began, FAMILY)
