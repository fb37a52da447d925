"""Names of the cluster, asked by pods through the service proxy, in a box of their own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

Run = Callable[..., dict[str, Any]]
pytestmark = pytest.mark.machine


def test_pods_find_services_by_name(box: Run) -> None:
    result = box("dns.py")
    assert result["dns_ip"] == "10.96.0.10"
    assert result["dns_ports"] == [["dns", 53, "UDP"], ["dns-tcp", 53, "TCP"]]
    assert result["resolv_conf"].splitlines() == [
        "search default.svc.cluster.local svc.cluster.local cluster.local",
        "nameserver 10.96.0.10",
        "options ndots:5",
    ]
    assert len(result["fetched"]) == 6 and set(result["fetched"]) <= set(result["names"])
    assert result["hello"]["addresses"] == [result["cluster_ip"]]
    assert result["kubernetes"]["addresses"] == [result["kubernetes_ip"]]
    assert result["heads"]["addresses"] == result["ips"] and len(result["ips"]) == 2
    assert result["elsewhere"]["addresses"] == [result["cluster_ip"]]
    assert "canonical name = hello.default.svc.cluster.local" in result["elsewhere"]["text"]
    assert result["first"]["addresses"] == result["by_address"]["addresses"] == [result["pod_ip"]]
    for ip in result["ips"]:
        target = f"service = 0 50 80 {ip.replace('.', '-')}.heads.default.svc.cluster.local"
        assert target in result["srv"]["text"]
    assert "NXDOMAIN" in result["nobody"]["text"]
    assert result["six"] | {"text": ""} == {"code": 0, "addresses": [], "text": ""}
    assert "SERVFAIL" in result["outside"]["text"], "no resolver can be reached from the box"
    assert result["outside_now"]["addresses"] == ["192.0.2.1"], "resolv.conf is read again"
    assert "1 packets received" in result["partial"]
    assert set(map(str, result["leftovers"].values())) == {"[]"}
