"""EndpointSlices: the pure computation, and the controller over the fake client."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilothouse.apimachinery.object import copy_object
from pilothouse.apimachinery.testing import make_node, make_pod, make_service
from pilothouse.controllermanager.endpointslice import EndpointSliceController, compute
from pilothouse.kubeclient.resources import ENDPOINT_SLICES, PODS, SERVICES

NODES = {"node": make_node("node", labels={"topology.kubernetes.io/zone": "z1"})}


def service(**spec):
    return make_service(
        "web", uid="svc", labels={"team": "a"},
        spec={"clusterIP": "10.96.0.1", "ipFamilies": ["IPv4"], **spec},
    )  # fmt: skip


def pod(number, ready=True, **options):
    return make_pod(
        f"p{number}", node="node", pod_ip=f"10.0.{number // 250}.{number % 250 + 1}", ready=ready,
        phase="Running", labels={"app": "web"}, uid=f"u{number}", **options,
    )  # fmt: skip


def named(slices):
    for number, piece in enumerate(slices):
        piece["metadata"].setdefault("name", f"web-{number}")
        piece["metadata"]["resourceVersion"] = "1"
    return slices


def apply(existing, changes):
    gone = {s["metadata"]["name"] for s in (*changes.delete, *changes.update)}
    kept = [s for s in existing if s["metadata"]["name"] not in gone]
    taken = {s["metadata"].get("name") for s in kept + changes.update}
    for piece in changes.create:
        piece["metadata"]["name"] = next(f"new-{i}" for i in range(999) if f"new-{i}" not in taken)
        taken.add(piece["metadata"]["name"])
    return kept + changes.update + changes.create


def test_one_slice_with_all_facts():
    changes, problems = compute(service(), [pod(1), pod(2, ready=False)], [], NODES)
    assert not problems and not changes.update and not changes.delete
    (piece,) = changes.create
    assert piece["metadata"]["generateName"] == "web-"
    assert piece["metadata"]["labels"] == {
        "team": "a",
        "kubernetes.io/service-name": "web",
        "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io",
    }
    (owner,) = piece["metadata"]["ownerReferences"]
    assert (owner["kind"], owner["uid"], owner["controller"]) == ("Service", "svc", True)
    assert piece["ports"] == [{"name": "", "port": 80, "protocol": "TCP"}]
    assert piece["endpoints"][0] == {
        "addresses": ["10.0.0.2"],
        "conditions": {"ready": True, "serving": True, "terminating": False},
        "targetRef": {"kind": "Pod", "namespace": "default", "name": "p1", "uid": "u1"},
        "nodeName": "node",
        "zone": "z1",
    }
    assert piece["endpoints"][1]["conditions"]["ready"] is False


@pytest.mark.parametrize(
    ("wish", "hints"),
    [
        ("PreferClose", {"forZones": [{"name": "z1"}]}),
        ("PreferSameZone", {"forZones": [{"name": "z1"}]}),
        ("PreferSameNode", {"forZones": [{"name": "z1"}], "forNodes": [{"name": "node"}]}),
        (None, None),
    ],
)
def test_traffic_distribution_gives_ready_endpoints_hints(wish, hints):
    plain = service()
    slices = named(compute(plain, [pod(1), pod(2, ready=False)], [], NODES)[0].create)
    near = service(**({"trafficDistribution": wish} if wish else {}))
    slices = apply(slices, compute(near, [pod(1), pod(2, ready=False)], slices, NODES)[0])
    (piece,) = slices
    assert [e.get("hints") for e in piece["endpoints"]] == [hints, None]
    again = compute(plain, [pod(1), pod(2, ready=False)], named(slices), NODES)[0]
    assert bool(again.update) == bool(wish)
    assert all("hints" not in e for new in again.update for e in new["endpoints"])


def test_the_older_topology_annotation_wins_over_the_field():
    near = service(trafficDistribution="PreferClose")
    near["metadata"]["annotations"] = {"service.kubernetes.io/topology-mode": "Auto"}
    (piece,) = compute(near, [pod(1)], [], NODES)[0].create
    assert "hints" not in piece["endpoints"][0]


def test_terminating_pod_serves_but_is_not_ready():
    going = pod(1)
    going["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    (piece,) = compute(service(), [going], [], NODES)[0].create
    assert piece["endpoints"][0]["conditions"] == {
        "ready": False, "serving": True, "terminating": True,
    }  # fmt: skip


def test_no_pods_is_one_placeholder_that_stays():
    changes, _ = compute(service(), [], [], NODES)
    (piece,) = named(changes.create)
    assert piece["endpoints"] == [] and piece["ports"] == []
    again, _ = compute(service(), [], [piece], NODES)
    assert not (again.create or again.update or again.delete)


def test_headless_service_without_cluster_ip_gets_its_label_and_both_families():
    headless = service(clusterIP="None")
    del headless["spec"]["ipFamilies"]
    changes, _ = compute(headless, [pod(1)], [], NODES)
    assert {s["addressType"] for s in changes.create} == {"IPv4", "IPv6"}
    assert all("service.kubernetes.io/headless" in s["metadata"]["labels"] for s in changes.create)


def test_named_target_port_splits_by_number():
    svc = service(ports=[{"name": "web", "port": 80, "protocol": "TCP", "targetPort": "http"}])
    pods = []
    for number, port in ((1, 8080), (2, 9090)):
        one = pod(number)
        one["spec"]["containers"][0]["ports"] = [
            {"name": "http", "containerPort": port, "protocol": "TCP"}
        ]
        pods.append(one)
    changes, _ = compute(svc, pods, [], NODES)
    assert sorted(s["ports"][0]["port"] for s in changes.create) == [8080, 9090]


def test_pod_on_an_unknown_node_waits():
    changes, problems = compute(service(), [pod(1)], [], {})
    assert changes.create[0]["endpoints"] == []
    assert problems == ["skipping Pod p1 for Service default/web: Node node Not Found"]


def test_250_pods_fill_three_slices():
    changes, _ = compute(service(), [pod(i) for i in range(250)], [], NODES)
    assert sorted(len(s["endpoints"]) for s in changes.create) == [50, 100, 100]


def test_a_changed_endpoint_touches_only_its_slice():
    first, _ = compute(service(), [pod(i) for i in range(250)], [], NODES)
    slices = named(first.create)
    pods = [pod(i) for i in range(250)]
    pods[3] = pod(3, ready=False)
    changes, _ = compute(service(), pods, slices, NODES)
    assert len(changes.update) == 1 and not changes.create and not changes.delete


@given(st.lists(st.sets(st.integers(0, 30)), min_size=1, max_size=6), st.integers(1, 7))
def test_slices_hold_exactly_the_wanted_endpoints_after_any_history(history, maximum):
    slices: list = []
    for numbers in history:
        changes, _ = compute(
            service(), [pod(i) for i in sorted(numbers)], copy_object(slices), NODES, maximum
        )
        slices = apply(slices, changes)
        held = [e["targetRef"]["name"] for s in slices for e in s["endpoints"]]
        assert sorted(held) == sorted(f"p{i}" for i in numbers)
        assert all(len(s["endpoints"]) <= maximum for s in slices)
        assert slices
        again, _ = compute(
            service(), [pod(i) for i in sorted(numbers)], copy_object(slices), NODES, maximum
        )
        assert not (again.create or again.update or again.delete)


async def test_controller_follows_pods_and_repairs_its_slices(world):
    world.client.seed(NODES["node"])
    world.client.seed(service())
    await world.run(EndpointSliceController(world.env))
    (piece,) = world.client.objects(ENDPOINT_SLICES)
    assert piece["endpoints"] == []
    world.client.seed(pod(1))
    world.client.seed(pod(2, ready=False))
    await world.settle()
    (piece,) = world.client.objects(ENDPOINT_SLICES)
    assert [e["conditions"]["ready"] for e in piece["endpoints"]] == [True, False]
    world.client.remove(PODS, "p1", "default")
    await world.settle()
    (piece,) = world.client.objects(ENDPOINT_SLICES)
    assert [e["targetRef"]["name"] for e in piece["endpoints"]] == ["p2"]
    world.client.remove(ENDPOINT_SLICES, piece["metadata"]["name"], "default")
    await world.settle()
    (piece,) = world.client.objects(ENDPOINT_SLICES)
    assert len(piece["endpoints"]) == 1
    world.client.actions.clear()
    await world.advance(600)
    assert world.client.writes() == []


async def test_controller_leaves_services_without_selector_alone(world):
    manual = service()
    del manual["spec"]["selector"]
    world.client.seed(manual)
    await world.run(EndpointSliceController(world.env))
    assert world.client.objects(ENDPOINT_SLICES) == []
    assert world.client.current(SERVICES, "web", "default")
