"""Service references → addresses."""

from __future__ import annotations

import random
from typing import Any

import pytest

from pilothouse.apiserver.testing_listers import DictListers
from pilothouse.apiserver.webhook.services import (
    SERVICES,
    SLICES,
    ResolveError,
    ServiceResolver,
    cluster_address,
)


def service(**spec: Any) -> dict[str, Any]:
    ports = [{"name": "https", "port": 443, "targetPort": 8443}]
    return {
        "metadata": {"name": "s", "namespace": "n"},
        "spec": {"type": "ClusterIP", "clusterIP": "10.0.0.1", "ports": ports, **spec},
    }


def endpoint_slice(name: str, family: str, *addresses: str, ready: bool = True) -> dict[str, Any]:
    return {
        "metadata": {
            "name": name,
            "namespace": "n",
            "labels": {"kubernetes.io/service-name": "s"},
        },
        "addressType": family,
        "ports": [{"name": "https", "port": 8443}],
        "endpoints": [
            {"addresses": [address], "conditions": {"ready": ready}} for address in addresses
        ],
    }


def test_cluster_addresses() -> None:
    assert cluster_address(service(), 443) == ("10.0.0.1", 443)
    assert cluster_address(service(type="NodePort"), 443) == ("10.0.0.1", 443)
    outside = service(type="ExternalName", externalName="example.com")
    assert cluster_address(outside, 8443) == ("example.com", 8443)


@pytest.mark.parametrize(
    ("spec", "port", "text"),
    [
        ({}, 80, 'no service port 80 found for service "s"'),
        ({"clusterIP": "None"}, 443, 'cannot route to service with ClusterIP "None"'),
        ({"type": "Odd"}, 443, 'unsupported service type "Odd"'),
    ],
)
def test_services_that_lead_nowhere(spec: dict[str, Any], port: int, text: str) -> None:
    with pytest.raises(ResolveError, match=text):
        cluster_address(service(**spec), port)


async def test_endpoints_of_the_first_family_come_first() -> None:
    listers = DictListers()
    listers.put(SERVICES, service(ipFamilies=["IPv6", "IPv4"]))
    listers.put(SLICES, endpoint_slice("four", "IPv4", "10.1.0.1"))
    listers.put(SLICES, endpoint_slice("six", "IPv6", "fd00::1"))
    resolver = ServiceResolver(listers, random.Random(1), endpoints=True)
    for _ in range(5):
        assert await resolver.resolve("n", "s", 443) == ("fd00::1", 8443)


async def test_nobody_ready() -> None:
    listers = DictListers()
    resolver = ServiceResolver(listers, random.Random(1), endpoints=True)
    with pytest.raises(ResolveError, match='service "s" not found'):
        await resolver.resolve("n", "s", 443)
    listers.put(SERVICES, service())
    listers.put(SLICES, endpoint_slice("a", "IPv4", "10.1.0.1", ready=False))
    with pytest.raises(ResolveError, match='no endpoints available for service "s"'):
        await resolver.resolve("n", "s", 443)
