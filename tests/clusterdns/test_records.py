"""Tables: a small cluster and what its names mean."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from typing import Any

import pytest

from pilothouse.clusterdns import messages as m
from pilothouse.clusterdns.messages import Alias, Question, Record, Srv
from pilothouse.clusterdns.records import Zone, reverse_ip
from pilothouse.clusterdns.view import named_ips, pod_ips, service_ips, slice_service

Obj = dict[str, Any]
SVC = "svc.cluster.local"


def service(name: str, cluster_ip: str | None = None, **spec: Any) -> Obj:
    if cluster_ip is not None:
        spec["clusterIP"] = cluster_ip
        spec.setdefault("clusterIPs", [cluster_ip])
    return {"metadata": {"name": name, "namespace": "ns"}, "spec": spec}


def slice_(name: str, endpoints: list[Obj], ports: list[Obj], type_: str = "IPv4") -> Obj:
    labels = {"kubernetes.io/service-name": name}
    return {
        "metadata": {"name": f"{name}-{type_}", "namespace": "ns", "labels": labels},
        "addressType": type_, "endpoints": endpoints, "ports": ports,
    }  # fmt: skip


HTTP = {"name": "http", "port": 80, "protocol": "TCP"}
DNS = {"name": "dns", "port": 53, "protocol": "UDP"}
SERVICES = [
    service(
        "web", "10.96.0.7", clusterIPs=["10.96.0.7", "fd00::7"],
        ports=[HTTP, DNS, {"port": 9, "protocol": "TCP"}],
    ),
    service("heads", "None", ports=[HTTP]),
    service("nobody", "None"),
    service("portless", "None"),
    service("out", type="ExternalName", externalName="www.example.com"),
    service("round", type="ExternalName", externalName=f"web.ns.{SVC}."),
    service("lost", type="ExternalName", externalName=f"gone.ns.{SVC}"),
    service("loop", type="ExternalName", externalName=f"loop.ns.{SVC}"),
]  # fmt: skip
SLICES = [
    slice_(
        "heads",
        [
            {"addresses": ["10.244.0.2"], "hostname": "first", "conditions": {"ready": True}},
            {"addresses": ["10.244.0.3"], "conditions": {}},
            {"addresses": ["10.244.0.4"], "hostname": "sick", "conditions": {"ready": False}},
        ],
        [{"name": "http", "port": 8080, "protocol": "TCP"}],
    ),
    slice_(
        "heads", [{"addresses": ["fd00::2"], "hostname": "first"}],
        [{"name": "http", "port": 8080, "protocol": "TCP"}], "IPv6",
    ),
    slice_("heads", [{"addresses": ["else.where"]}], [], "FQDN"),
    slice_("portless", [{"addresses": ["10.244.0.9"]}], []),
    slice_("nobody", [{"addresses": ["10.244.0.8"], "conditions": {"ready": False}}], []),
]  # fmt: skip
PODS = [
    {"metadata": {"name": "p", "namespace": "ns"}, "status": {"podIPs": [{"ip": "10.244.0.2"}]}},
    {"metadata": {"name": "q", "namespace": "ns"}, "status": {"podIP": "fd00::2"}},
]


class TableView:
    """The same index functions as with informers, over lists."""

    def has_namespace(self, name: str) -> bool:
        return name == "ns"

    def service(self, namespace: str, name: str) -> Obj | None:
        found = (s for s in SERVICES if s["metadata"] == {"name": name, "namespace": namespace})
        return next(found, None)

    def slices(self, namespace: str, service: str) -> Iterable[Obj]:
        return [s for s in SLICES if f"{namespace}/{service}" in slice_service(s)]

    def services_by_ip(self, ip: str) -> Iterable[Obj]:
        return [s for s in SERVICES if ip in service_ips(s)]

    def slices_by_ip(self, ip: str) -> Iterable[Obj]:
        return [s for s in SLICES if ip in named_ips(s)]

    def has_pod(self, namespace: str, ip: str) -> bool:
        return any(namespace == p["metadata"]["namespace"] and ip in pod_ips(p) for p in PODS)


ZONE = Zone(TableView(), "cluster.local", server_ips=("10.96.0.10",), serial=5)


def shown(record: Record) -> str:
    data = record.data
    if isinstance(data, Alias):
        return ".".join(data.target)
    if isinstance(data, Srv):
        return f"{data.priority} {data.weight} {data.port} {'.'.join(data.target)}"
    if record.type in (m.A, m.AAAA):
        assert isinstance(data, bytes)
        return str(ipaddress.ip_address(data))
    return str(data)


def ask(name: str, type_: int) -> tuple[int, list[str]]:
    found = ZONE.resolve(Question(m.parse_name(name), type_))
    assert found is not None
    response = found.response
    negative = not response.answers or response.rcode == m.NXDOMAIN
    soa = [r.type for r in response.authority]
    assert soa == ([m.SOA] if negative else [])
    return response.rcode, [shown(r) for r in response.answers]


NX = (m.NXDOMAIN, [])
NODATA: tuple[int, list[str]] = (m.NOERROR, [])


@pytest.mark.parametrize(
    ("name", "type_", "expected"),
    [
        (f"web.ns.{SVC}", m.A, (0, ["10.96.0.7"])),
        (f"WEB.nS.{SVC.upper()}", m.A, (0, ["10.96.0.7"])),
        (f"web.ns.{SVC}", m.AAAA, (0, ["fd00::7"])),
        (f"web.ns.{SVC}", m.ANY, (0, ["10.96.0.7", "fd00::7"])),
        (f"web.ns.{SVC}", m.TXT, NODATA),
        (f"web.other.{SVC}", m.A, NX),
        (f"gone.ns.{SVC}", m.A, NX),
        (f"gone.ns.{SVC}", m.AAAA, NX),
        (f"below.web.ns.{SVC}", m.A, NX),
        (f"_http._tcp.web.ns.{SVC}", m.SRV, (0, [f"0 100 80 web.ns.{SVC}"])),
        (f"_dns._udp.web.ns.{SVC}", m.SRV, (0, [f"0 100 53 web.ns.{SVC}"])),
        (f"_http._udp.web.ns.{SVC}", m.SRV, NX),
        (f"_http._tcp.web.ns.{SVC}", m.A, NODATA),
        (f"_tcp.web.ns.{SVC}", m.SRV, NODATA),
        (f"_sctp.web.ns.{SVC}", m.SRV, NX),
        (f"web.ns.{SVC}", m.SRV, (0, [f"0 50 80 web.ns.{SVC}", f"0 50 53 web.ns.{SVC}"])),
        (f"heads.ns.{SVC}", m.A, (0, ["10.244.0.2", "10.244.0.3"])),
        (f"heads.ns.{SVC}", m.AAAA, (0, ["fd00::2"])),
        (f"first.heads.ns.{SVC}", m.A, (0, ["10.244.0.2"])),
        (f"first.heads.ns.{SVC}", m.AAAA, (0, ["fd00::2"])),
        (f"10-244-0-3.heads.ns.{SVC}", m.A, (0, ["10.244.0.3"])),
        (f"10-244-0-3.heads.ns.{SVC}", m.AAAA, NODATA),
        (f"10-244-0-2.heads.ns.{SVC}", m.A, NX),
        (f"sick.heads.ns.{SVC}", m.A, NX),
        (f"_http._tcp.heads.ns.{SVC}", m.SRV, (0, [
            f"0 50 8080 first.heads.ns.{SVC}", f"0 50 8080 10-244-0-3.heads.ns.{SVC}"])),
        (f"nobody.ns.{SVC}", m.A, NX),
        (f"portless.ns.{SVC}", m.A, (0, ["10.244.0.9"])),
        (f"portless.ns.{SVC}", m.SRV, NODATA),
        (f"out.ns.{SVC}", m.CNAME, (0, ["www.example.com"])),
        (f"x.out.ns.{SVC}", m.A, NX),
        (f"round.ns.{SVC}", m.A, (0, [f"web.ns.{SVC}", "10.96.0.7"])),
        (f"round.ns.{SVC}", m.CNAME, (0, [f"web.ns.{SVC}"])),
        (f"lost.ns.{SVC}", m.A, (m.NXDOMAIN, [f"gone.ns.{SVC}"])),
        ("10-244-0-2.ns.pod.cluster.local", m.A, (0, ["10.244.0.2"])),
        ("fd00--2.ns.pod.cluster.local", m.AAAA, (0, ["fd00::2"])),
        ("10-244-0-2.other.pod.cluster.local", m.A, NX),
        ("10-244-0-99.ns.pod.cluster.local", m.A, NX),
        ("p.ns.pod.cluster.local", m.A, NX),
        ("cluster.local", m.A, NODATA),
        ("cluster.local", m.NS, (0, ["ns.dns.cluster.local"])),
        ("ns.dns.cluster.local", m.A, (0, ["10.96.0.10"])),
        ("dns-version.cluster.local", m.TXT, (0, [r"b'\x051.1.0'"])),
        (SVC, m.A, NODATA),
        (f"ns.{SVC}", m.A, NODATA),
        (f"other.{SVC}", m.A, NX),
        ("ns.pod.cluster.local", m.A, NODATA),
        ("www.example.com.cluster.local", m.A, NX),
        ("7.0.96.10.in-addr.arpa", m.PTR, (0, [f"web.ns.{SVC}"])),
        ("2.0.244.10.in-addr.arpa", m.PTR, (0, [f"first.heads.ns.{SVC}"])),
        ("2.0.244.10.in-addr.arpa", m.A, NODATA),
    ],
)  # fmt: skip
def test_names(name: str, type_: int, expected: tuple[int, list[str]]) -> None:
    assert ask(name, type_) == expected


@pytest.mark.parametrize(
    "name",
    [
        "www.example.com", "local", "xcluster.local", "3.0.244.10.in-addr.arpa",
        "4.0.244.10.in-addr.arpa", "x.in-addr.arpa", "",
    ],
)  # fmt: skip
def test_names_of_others_are_left_to_them(name: str) -> None:
    assert ZONE.resolve(Question(m.parse_name(name), m.PTR)) is None


def test_a_chain_that_leads_outside_goes_on_there() -> None:
    found = ZONE.resolve(Question(m.parse_name(f"out.ns.{SVC}"), m.A))
    assert found is not None and found.outside == ("www", "example", "com")
    assert [shown(r) for r in found.response.answers] == ["www.example.com"]


def test_a_loop_of_names_ends() -> None:
    found = ZONE.resolve(Question(m.parse_name(f"loop.ns.{SVC}"), m.A))
    assert found is not None and found.outside is None
    assert {shown(r) for r in found.response.answers} == {f"loop.ns.{SVC}"}


def test_srv_brings_the_addresses_along() -> None:
    found = ZONE.resolve(Question(m.parse_name(f"_http._tcp.heads.ns.{SVC}"), m.SRV))
    assert found is not None
    addresses = [(r.name[0], shown(r)) for r in found.response.additional]
    assert addresses == [
        ("first", "10.244.0.2"), ("first", "fd00::2"), ("10-244-0-3", "10.244.0.3"),
    ]  # fmt: skip


def test_answers_keep_the_case_of_the_question() -> None:
    found = ZONE.resolve(Question(m.parse_name(f"wEb.ns.{SVC}"), m.A))
    assert found is not None and found.response.answers[0].name[0] == "wEb"


@pytest.mark.parametrize(
    ("name", "ip"),
    [
        ("7.0.96.10.in-addr.arpa", "10.96.0.7"),
        ("0.96.10.in-addr.arpa", None),
        ("².0.96.10.in-addr.arpa", None),
        (".".join("7" + "0" * 27 + "00df") + ".ip6.arpa", "fd00::7"),
        (".".join("g" * 32) + ".ip6.arpa", None),
    ],
)
def test_reverse_names(name: str, ip: str | None) -> None:
    assert reverse_ip(m.parse_name(name)) == ip
