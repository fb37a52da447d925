"""Endpoints objects, and the mirroring of hand-written ones to slices."""

from __future__ import annotations

from pilothouse.apimachinery.testing import make_object, make_pod, make_service
from pilothouse.controllermanager.endpoints import EndpointsController, compute, compute_subsets
from pilothouse.controllermanager.endpointslice_mirroring import EndpointSliceMirroringController
from pilothouse.kubeclient.resources import ENDPOINT_SLICES, ENDPOINTS, PODS, SERVICES


def service(**spec):
    return make_service("web", uid="svc", spec={"clusterIP": "10.96.0.1", **spec})


def pod(number, ready=True):
    return make_pod(
        f"p{number}", node="node", pod_ip=f"10.0.{number // 250}.{number % 250 + 1}", ready=ready,
        phase="Running", labels={"app": "web"}, uid=f"u{number}",
    )  # fmt: skip


def test_ready_and_not_ready_share_a_subset():
    (subset,) = compute_subsets(service(), [pod(1), pod(2, ready=False)])
    assert [a["ip"] for a in subset["addresses"]] == ["10.0.0.2"]
    assert [a["ip"] for a in subset["notReadyAddresses"]] == ["10.0.0.3"]
    assert subset["ports"] == [{"port": 80, "protocol": "TCP"}]
    assert subset["addresses"][0]["nodeName"] == "node"


def test_publish_not_ready_addresses_makes_all_ready():
    (subset,) = compute_subsets(service(publishNotReadyAddresses=True), [pod(2, ready=False)])
    assert len(subset["addresses"]) == 1 and "notReadyAddresses" not in subset


def test_headless_service_without_ports():
    headless = service(clusterIP="None", ports=[])
    (subset,) = compute_subsets(headless, [pod(1)])
    assert "ports" not in subset
    new = compute(headless, [pod(1)], None, "")
    assert new["metadata"]["labels"]["service.kubernetes.io/headless"] == ""


def test_more_than_1000_addresses_are_truncated_and_marked():
    new = compute(service(), [pod(i) for i in range(1200)], None, "")
    assert sum(len(s["addresses"]) for s in new["subsets"]) == 1000
    assert new["metadata"]["annotations"] == {"endpoints.kubernetes.io/over-capacity": "truncated"}


def test_equal_endpoints_need_no_write():
    new = compute(service(), [pod(1), pod(2)], None, "")
    assert compute(service(), [pod(2), pod(1)], new, "") is None
    assert compute(service(), [pod(1)], new, "") is not None


async def test_controller_creates_updates_and_deletes(world):
    world.client.seed(service())
    await world.run(EndpointsController(world.env))
    endpoints = world.client.current(ENDPOINTS, "web", "default")
    assert "subsets" not in endpoints
    assert (
        endpoints["metadata"]["labels"]["endpoints.kubernetes.io/managed-by"]
        == "endpoint-controller"
    )
    world.client.seed(pod(1))
    await world.settle()
    endpoints = world.client.current(ENDPOINTS, "web", "default")
    assert endpoints["subsets"][0]["addresses"][0]["ip"] == "10.0.0.2"
    world.client.remove(PODS, "p1", "default")
    await world.settle()
    assert "subsets" not in world.client.current(ENDPOINTS, "web", "default")
    world.client.remove(SERVICES, "web", "default")
    await world.settle()
    assert world.client.current(ENDPOINTS, "web", "default") is None


async def test_hand_written_endpoints_are_mirrored(world):
    manual = service()
    del manual["spec"]["selector"]
    world.client.seed(manual)
    endpoints = make_object(
        "v1", "Endpoints", "web", "default", labels={"a": "b"},
        subsets=[
            {
                "addresses": [{"ip": "192.0.2.1"}, {"ip": "2001:db8::1"}],
                "ports": [{"port": 80, "protocol": "TCP"}],
            }
        ],
    )  # fmt: skip
    world.client.seed(endpoints)
    await world.run(EndpointSliceMirroringController(world.env))
    slices = world.client.objects(ENDPOINT_SLICES)
    assert sorted(s["addressType"] for s in slices) == ["IPv4", "IPv6"]
    four = next(s for s in slices if s["addressType"] == "IPv4")
    assert four["endpoints"] == [{"addresses": ["192.0.2.1"], "conditions": {"ready": True}}]
    assert four["metadata"]["labels"] == {
        "a": "b",
        "kubernetes.io/service-name": "web",
        "endpointslice.kubernetes.io/managed-by": "endpointslicemirroring-controller.k8s.io",
    }
    endpoints["metadata"]["labels"] = {"endpointslice.kubernetes.io/skip-mirror": "true"}
    world.client.seed(endpoints)
    await world.settle()
    assert world.client.objects(ENDPOINT_SLICES) == []
