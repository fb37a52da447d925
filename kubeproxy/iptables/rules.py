"""From services and endpoints to text for ``iptables-restore --noflush`` (pure).

Each Service port has *dispatch* rules in the shared chains (KUBE-SERVICES, KUBE-NODEPORTS, the
filter chains) and *own* chains (KUBE-SVC-…, KUBE-SVL-…, KUBE-EXT-…, KUBE-FW-…, KUBE-SEP-…). A
restore input holds all dispatch rules but only those own chains that changed: the kernel keeps the
rest. The rules are kube-proxy's.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from pilothouse.kubeproxy.endpoints import Endpoint
from pilothouse.kubeproxy.iptables import chains
from pilothouse.kubeproxy.services import ServicePort, ServicePortName
from pilothouse.kubeproxy.topology import Categories, categorize

MASQUERADE_MARK = "0x4000/0x4000"


@dataclass(frozen=True, slots=True)
class RuleOptions:
    node_name: str
    cluster_cidr: str = ""
    """Addresses of pods: others that use a ClusterIP are masqueraded. Empty: nobody is."""
    zone: str = ""
    masquerade_all: bool = False
    localhost_node_ports: bool = True
    node_ip: str = ""
    node_port_addresses: tuple[str, ...] | None = None
    """Addresses of this node that NodePorts answer on; None: all."""

    @property
    def on_localhost(self) -> bool:
        chosen = self.node_port_addresses
        loopback = chosen is None or any(ip.startswith("127.") for ip in chosen)
        return self.localhost_node_ports and loopback


@dataclass(slots=True)
class PortRules:
    """The rules of one Service port. ``own`` maps a chain to its rules."""

    nat_services: list[str] = field(default_factory=list)
    nat_node_ports: list[str] = field(default_factory=list)
    filter_services: list[str] = field(default_factory=list)
    filter_external: list[str] = field(default_factory=list)
    filter_node_ports: list[str] = field(default_factory=list)
    filter_firewall: list[str] = field(default_factory=list)
    own: dict[str, list[str]] = field(default_factory=dict)


def port_rules(
    service: ServicePort, endpoints: Sequence[Endpoint], options: RuleOptions
) -> PortRules:
    """All rules of one Service port on this node."""
    where = categorize(endpoints, service, node=options.node_name, zone=options.zone)
    return _Builder(service, where, options).build()


class _Builder:
    """Builds one port's rules; the parts follow the path of a packet."""

    def __init__(self, service: ServicePort, where: Categories, options: RuleOptions) -> None:
        self.service, self.where, self.options = service, where, options
        self.rules = PortRules()
        self.text = str(service.name)
        protocol = service.protocol
        self.match = f"-m {protocol} -p {protocol}"
        self.cluster_chain = chains.service_chain(self.text, protocol)
        self.local_chain = chains.local_chain(self.text, protocol)
        self.external_chain = chains.external_chain(self.text, protocol)
        self.firewall_chain = chains.firewall_chain(self.text, protocol)
        self.internal_chain = self.local_chain if service.internal_local else self.cluster_chain
        self.has_internal = where.has_any and (not service.internal_local or bool(where.local))
        self.has_external = where.has_any and (not service.external_local or bool(where.local))
        self.uses_firewall = where.has_any and bool(
            service.load_balancer_ips and service.source_ranges
        )

    def build(self) -> PortRules:
        self._cluster_ip()
        self._external_ips()
        self._node_port()
        if self.service.externally_accessible and self.where.has_any:
            self._external_traffic()
        if self.uses_firewall:
            self._firewall()
        if self.where.cluster and self.service.uses_cluster_endpoints:
            self._spread(self.cluster_chain, self.where.cluster)
        if self.where.local and self.service.uses_local_endpoints:
            self._spread(self.local_chain, self.where.local)
        for endpoint in self.where.reachable:
            self._endpoint(endpoint)
        return self.rules

    def _comment(self, text: str) -> str:
        return f'-m comment --comment "{text}"'

    def _refusal(self, local: bool) -> tuple[str, str]:
        """(comment, target) for traffic that cannot be served here."""
        if not self.where.has_any:
            return f"{self.text} has no endpoints", "REJECT"
        return f"{self.text} has no local endpoints", "DROP"

    def _cluster_ip(self) -> None:
        service = self.service
        to = f"{self.match} -d {service.cluster_ip} --dport {service.port}"
        if not self.has_internal:
            comment, target = self._refusal(service.internal_local)
            self.rules.filter_services.append(
                f"-A {chains.SERVICES} {self._comment(comment)} {to} -j {target}"
            )
            return
        comment = self._comment(f"{self.text} cluster IP")
        self.rules.nat_services.append(
            f"-A {chains.SERVICES} {comment} {to} -j {self.internal_chain}"
        )
        own = self.rules.own.setdefault(self.internal_chain, [])
        if self.options.masquerade_all:
            own.append(f"-A {self.internal_chain} {comment} {to} -j {chains.MARK_MASQ}")
        elif self.options.cluster_cidr:
            own.append(
                f"-A {self.internal_chain} {comment} {to} ! -s {self.options.cluster_cidr} "
                f"-j {chains.MARK_MASQ}"
            )

    def _external_ips(self) -> None:
        service = self.service
        kinds = [(ip, "external IP", self.external_chain) for ip in service.external_ips]
        balanced = self.firewall_chain if self.uses_firewall else self.external_chain
        kinds += [(ip, "loadbalancer IP", balanced) for ip in service.load_balancer_ips]
        for ip, what, chain in kinds:
            to = f"{self.match} -d {ip} --dport {service.port}"
            if self.where.has_any:
                comment = self._comment(f"{self.text} {what}")
                self.rules.nat_services.append(f"-A {chains.SERVICES} {comment} {to} -j {chain}")
            if not self.has_external:
                self._refuse_external(to)
            if self.uses_firewall and what == "loadbalancer IP":
                comment = self._comment(
                    f"{self.text} traffic not accepted by {self.firewall_chain}"
                )
                self.rules.filter_firewall.append(
                    f"-A {chains.PROXY_FIREWALL} {comment} {to} -j DROP"
                )

    def _node_port(self) -> None:
        service = self.service
        if service.node_port:
            if self.where.has_any:
                self.rules.nat_node_ports.append(
                    f"-A {chains.NODE_PORTS} {self._comment(self.text)} {self.match} "
                    f"--dport {service.node_port} -j {self.external_chain}"
                )
            if not self.has_external:
                self._refuse_external(
                    f"-m addrtype --dst-type LOCAL {self.match} --dport {service.node_port}"
                )
        if service.health_check_node_port:
            comment = self._comment(f"{self.text} health check node port")
            self.rules.filter_node_ports.append(
                f"-A {chains.NODE_PORTS} {comment} -m tcp -p tcp "
                f"--dport {service.health_check_node_port} -j ACCEPT"
            )

    def _refuse_external(self, to: str) -> None:
        comment, target = self._refusal(self.service.external_local)
        self.rules.filter_external.append(
            f"-A {chains.EXTERNAL_SERVICES} {self._comment(comment)} {to} -j {target}"
        )

    def _external_traffic(self) -> None:
        """What comes from outside: masqueraded, or kept to this node under policy Local (but
        traffic of pods and of the node itself may go anywhere)."""
        chain, name = self.external_chain, self.text
        own = self.rules.own.setdefault(chain, [])
        if not self.service.external_local:
            comment = self._comment(f"masquerade traffic for {name} external destinations")
            own.append(f"-A {chain} {comment} -j {chains.MARK_MASQ}")
        else:
            if self.options.cluster_cidr:
                comment = self._comment(f"pod traffic for {name} external destinations")
                own.append(
                    f"-A {chain} {comment} -s {self.options.cluster_cidr} -j {self.cluster_chain}"
                )
            local = "-m addrtype --src-type LOCAL"
            comment = self._comment(f"masquerade LOCAL traffic for {name} external destinations")
            own.append(f"-A {chain} {comment} {local} -j {chains.MARK_MASQ}")
            comment = self._comment(f"route LOCAL traffic for {name} external destinations")
            own.append(f"-A {chain} {comment} {local} -j {self.cluster_chain}")
        if self.has_external:
            target = self.local_chain if self.service.external_local else self.cluster_chain
            own.append(f"-A {chain} -j {target}")
        # What is jumped to must exist, even when nothing fills it.
        self.rules.own.setdefault(self.cluster_chain, [])

    def _firewall(self) -> None:
        chain = self.firewall_chain
        own = self.rules.own.setdefault(chain, [])
        comment = self._comment(f"{self.text} loadbalancer IP")
        own.extend(
            f"-A {chain} {comment} -s {cidr} -j {self.external_chain}"
            for cidr in self.service.source_ranges
        )
        if self._allows_this_node():
            # Where the balancer's address is the node's own, too, its traffic loops back with it.
            own.extend(
                f"-A {chain} {comment} -s {ip} -j {self.external_chain}"
                for ip in self.service.load_balancer_ips
            )
        rest = self._comment(f"other traffic to {self.text} will be dropped by KUBE-PROXY-FIREWALL")
        own.append(f"-A {chain} {rest}")

    def _allows_this_node(self) -> bool:
        if not self.options.node_ip:
            return False
        node = ipaddress.ip_address(self.options.node_ip)
        ranges = self.service.source_ranges
        return any(node in ipaddress.ip_network(cidr, strict=False) for cidr in ranges)

    def _spread(self, chain: str, endpoints: Sequence[Endpoint]) -> None:
        """Client affinity first, then one endpoint at random, each with the same chance."""
        own = self.rules.own.setdefault(chain, [])
        seconds = self.service.affinity_seconds
        if seconds:
            for endpoint in endpoints:
                target = self._endpoint_chain(endpoint)
                own.append(
                    f"-A {chain} {self._comment(f'{self.text} -> {endpoint}')} -m recent "
                    f"--name {target} --rcheck --seconds {seconds} --reap -j {target}"
                )
        for i, endpoint in enumerate(endpoints):
            left = len(endpoints) - i
            chance = (
                f" -m statistic --mode random --probability {1 / left:.10f}" if left > 1 else ""
            )
            comment = self._comment(f"{self.text} -> {endpoint}")
            own.append(f"-A {chain} {comment}{chance} -j {self._endpoint_chain(endpoint)}")

    def _endpoint(self, endpoint: Endpoint) -> None:
        chain = self._endpoint_chain(endpoint)
        comment = self._comment(self.text)
        recent = f" -m recent --name {chain} --set" if self.service.affinity_seconds else ""
        self.rules.own[chain] = [
            # A pod that reaches itself through the Service must not see its own address.
            f"-A {chain} {comment} -s {endpoint.ip} -j {chains.MARK_MASQ}",
            f"-A {chain} {comment}{recent} {self.match} -j DNAT --to-destination {endpoint}",
        ]

    def _endpoint_chain(self, endpoint: Endpoint) -> str:
        return chains.endpoint_chain(self.text, self.service.protocol, str(endpoint))


def restore_text(
    ports: Mapping[ServicePortName, PortRules],
    changed: Iterable[ServicePortName] | None,
    stale: Iterable[str],
    options: RuleOptions,
) -> str:
    """Input for ``iptables-restore --noflush``.

    ``changed``: the ports whose own chains are written (None: all). ``stale``: own chains that
    nothing uses any more and that exist in the kernel.
    """
    lines = ["*filter", *(f":{chain} - [0:0]" for chain in chains.FILTER_CHAINS)]
    lines += _filter_base(options)
    for rules in ports.values():
        lines += rules.filter_services
        lines += rules.filter_external
        lines += rules.filter_node_ports
        lines += rules.filter_firewall
    lines += _FORWARD_RULES
    lines += ["COMMIT", "*nat", *(f":{chain} - [0:0]" for chain in chains.NAT_CHAINS)]
    names = list(ports) if changed is None else [n for n in dict.fromkeys(changed) if n in ports]
    own = {chain: rules for name in names for chain, rules in ports[name].own.items()}
    gone = [chain for chain in dict.fromkeys(stale) if chain not in own]
    lines += (f":{chain} - [0:0]" for chain in (*own, *gone))
    lines += _NAT_BASE
    for rules in ports.values():
        lines += rules.nat_services
        lines += rules.nat_node_ports
    for chain_rules in own.values():
        lines += chain_rules
    lines += (f"-X {chain}" for chain in gone)
    lines += _node_ports_jumps(options)
    lines.append("COMMIT\n")
    return "\n".join(lines)


def count_rules(ports: Iterable[PortRules]) -> dict[str, int]:
    """Rules by table, without those that are always there."""
    nat = own = filters = 0
    for rules in ports:
        nat += len(rules.nat_services) + len(rules.nat_node_ports)
        own += sum(map(len, rules.own.values()))
        filters += len(rules.filter_services) + len(rules.filter_external)
        filters += len(rules.filter_node_ports) + len(rules.filter_firewall)
    return {"filter": filters, "nat": nat + own}


_MASQUERADE = '-m comment --comment "kubernetes service traffic requiring SNAT" -j MASQUERADE'
_NAT_BASE = (
    f"-A {chains.POSTROUTING} -m mark ! --mark {MASQUERADE_MARK} -j RETURN",
    f"-A {chains.POSTROUTING} -j MARK --xor-mark 0x4000",
    f"-A {chains.POSTROUTING} {_MASQUERADE} --random-fully",
    f"-A {chains.MARK_MASQ} -j MARK --or-mark 0x4000",
)
_FORWARD_RULES = (
    f"-A {chains.FORWARD} -m conntrack --ctstate INVALID -j DROP",
    f'-A {chains.FORWARD} -m comment --comment "kubernetes forwarding rules" '
    f"-m mark --mark {MASQUERADE_MARK} -j ACCEPT",
    f'-A {chains.FORWARD} -m comment --comment "kubernetes forwarding conntrack rule" '
    "-m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
)


def _filter_base(options: RuleOptions) -> list[str]:
    """With NodePorts on localhost (route_localnet) nobody outside may reach 127.0.0.0/8."""
    if not options.on_localhost:
        return []
    return [
        f'-A {chains.FIREWALL} -m comment --comment "block incoming localnet connections" '
        "-d 127.0.0.0/8 ! -s 127.0.0.0/8 -m conntrack ! --ctstate RELATED,ESTABLISHED,DNAT -j DROP"
    ]


def _node_ports_jumps(options: RuleOptions) -> list[str]:
    comment = "kubernetes service nodeports; NOTE: this must be the last rule in this chain"
    start = f'-A {chains.SERVICES} -m comment --comment "{comment}"'
    if options.node_port_addresses is None:
        not_local = "" if options.localhost_node_ports else " ! -d 127.0.0.0/8"
        return [f"{start} -m addrtype --dst-type LOCAL{not_local} -j {chains.NODE_PORTS}"]
    return [
        f"{start} -d {ip} -j {chains.NODE_PORTS}"
        for ip in options.node_port_addresses
        if options.localhost_node_ports or not ip.startswith("127.")
    ]
