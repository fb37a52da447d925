"""What the cluster's names mean: from Services, EndpointSlices and Pods to records. Pure.

Follows the Kubernetes DNS specification 1.1, and CoreDNS where that says nothing: endpoints without
a hostname are named by their address, pods answer by their address (only those that exist),
reverse names are those of ClusterIPs and of endpoints with a hostname.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator
from typing import NamedTuple, Protocol

from pilothouse.apimachinery.object import Obj
from pilothouse.clusterdns.messages import (
    AAAA,
    ANY,
    CNAME,
    NS,
    NXDOMAIN,
    PTR,
    SOA,
    SRV,
    TXT,
    A,
    Alias,
    Name,
    Question,
    Record,
    Response,
    Soa,
    Srv,
    lowered,
    parse_name,
)

SPEC_VERSION = "1.1.0"
SERVICE_NAME_LABEL = "kubernetes.io/service-name"
LONGEST_CHAIN = 8
REVERSE_4, REVERSE_6 = ("in-addr", "arpa"), ("ip6", "arpa")


class View(Protocol):
    """The objects that answers are made of; lookups, no scans."""

    def has_namespace(self, name: str) -> bool: ...

    def service(self, namespace: str, name: str) -> Obj | None: ...

    def slices(self, namespace: str, service: str) -> Iterable[Obj]: ...

    def services_by_ip(self, ip: str) -> Iterable[Obj]: ...

    def slices_by_ip(self, ip: str) -> Iterable[Obj]:
        """Those with an endpoint that has this address and a hostname."""
        ...

    def has_pod(self, namespace: str, ip: str) -> bool: ...


class Endpoint(NamedTuple):
    label: str
    """Its hostname, else its address with dashes."""
    ip: str
    port_name: str
    protocol: str
    port: int


class Found(NamedTuple):
    """``outside``: the chain of CNAMEs goes on at this name, which isn't ours."""

    response: Response
    outside: Name | None = None


class _Missing(Exception):
    """No such name: NXDOMAIN."""


class Zone:
    def __init__(
        self,
        view: View,
        domain: str,
        *,
        server_ips: Iterable[str] = (),
        serial: int = 1,
        ttl: int = 30,
    ) -> None:
        """``server_ips`` are where clients find this server (``ns.dns.<domain>``)."""
        self._view = view
        self._origin = lowered(parse_name(domain))
        self._server_ips = tuple(server_ips)
        self._ttl = ttl
        ns = ("ns", "dns", *self._origin)
        mailbox = ("hostmaster", *self._origin)
        self._soa = Record(
            self._origin, SOA, ttl, Soa(ns, mailbox, serial & 0xFFFFFFFF, 7200, 1800, 86400, ttl)
        )

    def resolve(self, question: Question) -> Found | None:
        """None: not a name of the cluster, others have to be asked."""
        name = lowered(question.name)
        rest = self._rest(name)
        if rest is None:
            pointers = self._reverse(question.name, name)
            if not pointers:
                return None
            return Found(self._select(pointers, question))
        try:
            return self._chain(question, rest)
        except _Missing:
            return Found(Response(NXDOMAIN, authority=(self._soa,)))

    def _rest(self, name: Name) -> Name | None:
        """The labels below the cluster's domain."""
        size = len(self._origin)
        return name[:-size] if size and name[-size:] == self._origin else None

    def _chain(self, question: Question, rest: Name) -> Found:
        """Follows CNAMEs (ExternalName Services) as long as they stay in the cluster."""
        chain: list[Record] = []
        owner = question.name
        for _ in range(LONGEST_CHAIN):
            try:
                records = self._at(owner, rest, question.type)
            except _Missing:
                if not chain:
                    raise
                return Found(Response(NXDOMAIN, chain, (self._soa,)))
            alias = next(
                (r for r in records if isinstance(r.data, Alias) and r.type == CNAME), None
            )
            if alias is None or question.type in (CNAME, ANY):
                found = self._select(records, question)
                return Found(Response(found.rcode, (*chain, *found.answers), found.authority,
                                      found.additional))  # fmt: skip
            chain.append(alias)
            assert isinstance(alias.data, Alias)
            owner = alias.data.target
            inside = self._rest(lowered(owner))
            if inside is None:
                return Found(Response(answers=chain), outside=owner)
            rest = inside
        return Found(Response(answers=chain))

    def _select(self, records: list[Record], question: Question) -> Response:
        """Those of the type that was asked for; none: the name exists, but has no such record."""
        answers = [r for r in records if question.type in (r.type, ANY)]
        if not answers:
            return Response(authority=(self._soa,))
        targets = {r.data.target: None for r in answers if isinstance(r.data, Srv)}
        return Response(answers=answers, additional=[a for t in targets for a in self._glue(t)])

    def _glue(self, target: Name) -> list[Record]:
        rest = self._rest(lowered(target))
        try:
            records = self._at(target, rest, ANY) if rest is not None else []
        except _Missing:
            return []
        return [r for r in records if r.type in (A, AAAA)]

    # -- names of the cluster ------------------------------------------------------------

    def _at(self, owner: Name, rest: Name, type_: int) -> list[Record]:
        """All records of a name. :raises _Missing: no such name."""
        match rest:
            case ():
                ns = Alias(("ns", "dns", *self._origin))
                return [self._soa, Record(owner, NS, self._ttl, ns)]
            case ("dns-version",):
                text = SPEC_VERSION.encode()
                return [Record(owner, TXT, self._ttl, bytes((len(text),)) + text)]
            case ("dns",) | ("svc",) | ("pod",):
                return []
            case ("ns", "dns"):
                return self._addresses(owner, self._server_ips)
            case (namespace, "svc" | "pod"):
                if not self._view.has_namespace(namespace):
                    raise _Missing
                return []
            case (address, namespace, "pod"):
                return self._pod(owner, address, namespace)
            case (*below, name, namespace, "svc"):
                service = self._view.service(namespace, name)
                if service is None:
                    raise _Missing
                return self._service(owner, service, tuple(below), type_)
        raise _Missing

    def _pod(self, owner: Name, label: str, namespace: str) -> list[Record]:
        text = label.replace("-", "." if label.count("-") == 3 and "--" not in label else ":")
        ip = canonical_ip(text)
        if ip is None or not self._view.has_pod(namespace, ip):
            raise _Missing
        return self._addresses(owner, (ip,))

    def _service(self, owner: Name, service: Obj, below: Name, type_: int) -> list[Record]:
        spec = service.get("spec") or {}
        if spec.get("type") == "ExternalName":
            if below:
                raise _Missing
            target = parse_name(spec.get("externalName") or "")
            return [Record(owner, CNAME, self._ttl, Alias(target))]
        headless = spec.get("clusterIP") in (None, "", "None")
        match below:
            case ():
                if not headless:
                    ips = spec.get("clusterIPs") or [spec["clusterIP"]]
                    records = self._addresses(owner, ips)
                else:
                    records = self._addresses(owner, (e.ip for e in self._endpoints(service)))
                    if not records:
                        raise _Missing
                return records + (self._ports(owner, service, headless) if type_ == SRV else [])
            case (protocol,) if protocol in ("_tcp", "_udp", "_sctp"):
                if not any(f"_{p}" == protocol for _, p in self._named_ports(service, headless)):
                    raise _Missing
                return []
            case (label,):
                ips = (e.ip for e in self._endpoints(service) if e.label == label)
                records = self._addresses(owner, ips)
            case (port, protocol) if port.startswith("_") and protocol.startswith("_"):
                records = self._ports(owner, service, headless, port[1:], protocol[1:])
            case _:
                raise _Missing
        if not records:
            raise _Missing
        return records

    def _named_ports(self, service: Obj, headless: bool) -> set[tuple[str, str]]:
        ports: set[tuple[str, str]]
        if headless:
            ports = {(e.port_name, e.protocol) for e in self._endpoints(service)}
        else:
            listed = service["spec"].get("ports") or ()
            ports = {(p.get("name") or "", (p.get("protocol") or "TCP").lower()) for p in listed}
        return {port for port in ports if port[0]}

    def _ports(
        self, owner: Name, service: Obj, headless: bool, port: str = "", protocol: str = ""
    ) -> list[Record]:
        """SRV records of one named port, or of all."""
        base = (service["metadata"]["name"], service["metadata"]["namespace"], "svc", *self._origin)
        if headless:
            targets = [
                (e.port_name, e.protocol, e.port, (e.label, *base))
                for e in self._endpoints(service)
            ]
        else:
            targets = [
                (p.get("name") or "", (p.get("protocol") or "TCP").lower(), p["port"], base)
                for p in service["spec"].get("ports") or ()
            ]
        wanted = {
            (number, target): None
            for name, proto, number, target in targets
            if name and (not port or (name, proto) == (port, protocol))
        }
        weight = max(1, 100 // max(1, len(wanted)))
        return [
            Record(owner, SRV, self._ttl, Srv(0, weight, number, target))
            for number, target in wanted
        ]

    def _endpoints(self, service: Obj) -> Iterator[Endpoint]:
        """The ready ones, an entry a port. (publishNotReadyAddresses makes all of them ready in
        the slices already.)"""
        metadata = service["metadata"]
        for slice_ in self._view.slices(metadata["namespace"], metadata["name"]):
            if slice_.get("addressType") == "FQDN":
                continue
            ports: list[Obj] = slice_.get("ports") or [{}]
            for endpoint in slice_.get("endpoints") or ():
                if (endpoint.get("conditions") or {}).get("ready") is False:
                    continue
                for ip in endpoint.get("addresses") or ():
                    label = endpoint_label(endpoint, ip)
                    for port in ports:
                        protocol = (port.get("protocol") or "TCP").lower()
                        yield Endpoint(
                            label, ip, port.get("name") or "", protocol, port.get("port") or 0
                        )

    def _addresses(self, owner: Name, ips: Iterable[str]) -> list[Record]:
        records: dict[Record, None] = {}
        for ip in ips:
            try:
                packed = ipaddress.ip_address(ip).packed
            except ValueError:
                continue
            type_ = A if len(packed) == 4 else AAAA
            records[Record(owner, type_, self._ttl, packed)] = None
        return list(records)

    # -- reverse names -------------------------------------------------------------------

    def _reverse(self, owner: Name, name: Name) -> list[Record]:
        """What an address is called; empty: not an address of the cluster."""
        ip = reverse_ip(name)
        if ip is None:
            return []
        targets: dict[Name, None] = {}
        for service in self._view.services_by_ip(ip):
            metadata = service["metadata"]
            targets[(metadata["name"], metadata["namespace"], "svc", *self._origin)] = None
        if not targets:
            for slice_ in self._view.slices_by_ip(ip):
                metadata = slice_["metadata"]
                service_name = metadata["labels"][SERVICE_NAME_LABEL]
                base = (service_name, metadata["namespace"], "svc", *self._origin)
                for endpoint in slice_.get("endpoints") or ():
                    ready = (endpoint.get("conditions") or {}).get("ready") is not False
                    if ready and endpoint.get("hostname") and ip in endpoint["addresses"]:
                        targets[(endpoint["hostname"].lower(), *base)] = None
        return [Record(owner, PTR, self._ttl, Alias(target)) for target in targets]


def endpoint_label(endpoint: Obj, ip: str) -> str:
    """The label of an endpoint below its Service."""
    hostname = endpoint.get("hostname")
    return hostname.lower() if hostname else ip.replace(".", "-").replace(":", "-")


def canonical_ip(text: str) -> str | None:
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        return None


def reverse_ip(name: Name) -> str | None:
    """The address that a name below in-addr.arpa or ip6.arpa stands for."""
    labels = name[:-2][::-1]
    if name[-2:] == REVERSE_4 and len(labels) == 4:
        return canonical_ip(".".join(labels))
    if name[-2:] == REVERSE_6 and len(labels) == 32 and all(len(label) == 1 for label in labels):
        digits = "".join(labels)
        return canonical_ip(":".join(digits[i : i + 4] for i in range(0, 32, 4)))
    return None
