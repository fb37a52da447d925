"""Node health, NoExecute eviction and pod garbage collection, on a clock that stands still."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilothouse.apimachinery.object import condition_of, copy_object
from pilothouse.apimachinery.testing import make_node, make_object, make_pod
from pilothouse.apimachinery.timefmt import format_micro_time, format_time
from pilothouse.controllermanager.node_lifecycle import NodeLifecycleController
from pilothouse.controllermanager.pod_gc import PodGCController, surplus_terminated
from pilothouse.controllermanager.taint_eviction import TaintEvictionController, eviction_delay
from pilothouse.controllermanager.zone_health import (
    EXCLUDE_DISRUPTION,
    NodeLifecycleConfig,
    ZoneHealth,
    zone_rates,
)
from pilothouse.kubeclient.resources import NODES, PODS


def node(world, name="n1", status="True"):
    one = make_node(name)
    one["status"]["conditions"] = [
        {"type": "Ready", "status": status, "lastHeartbeatTime": format_time(world.clock.now())}
    ]
    return one


def renew(world, name="n1"):
    now = format_micro_time(world.clock.now())
    world.client.seed(
        make_object(
            "coordination.k8s.io/v1", "Lease", name, "kube-node-lease", spec={"renewTime": now}
        )
    )


def taints(world, name="n1"):
    found = world.client.current(NODES, name)["spec"].get("taints") or []
    return sorted((t["key"].rpartition("/")[2], t["effect"]) for t in found)


async def test_silent_kubelet_makes_the_node_unknown_after_its_grace(world):
    world.client.seed(node(world))
    world.client.seed(node(world, "n2"))
    world.client.seed(make_pod("p", node="n1", phase="Running", ready=True))
    renew(world)
    renew(world, "n2")
    await world.run(NodeLifecycleController(world.env))
    for _ in range(10):
        await world.advance(10)
        renew(world)
        renew(world, "n2")
        await world.settle()
    assert condition_of(world.client.current(NODES, "n1"), "Ready")["status"] == "True"
    for _ in range(5):
        await world.advance(10)
        renew(world, "n2")
        await world.settle()
    await world.advance(1)
    dead = world.client.current(NODES, "n1")
    for type_ in ("Ready", "MemoryPressure", "DiskPressure", "PIDPressure"):
        assert condition_of(dead, type_)["status"] == "Unknown"
    assert condition_of(dead, "Ready")["reason"] == "NodeStatusUnknown"
    assert condition_of(dead, "Ready")["message"] == "Kubelet stopped posting node status."
    assert condition_of(dead, "PIDPressure")["reason"] == "NodeStatusNeverUpdated"
    assert taints(world) == [("unreachable", "NoExecute"), ("unreachable", "NoSchedule")]
    pod = world.client.current(PODS, "p", "default")
    assert condition_of(pod, "Ready")["status"] == "False"
    events = world.client.events()
    assert ("Normal", "NodeNotReady", "Node n1 status is now: NodeNotReady") in events
    assert ("Warning", "NodeNotReady", "Node is not ready") in events
    assert (
        "Normal", "RegisteredNode", "Node n1 event: Registered Node n1 in Controller",
    ) in events  # fmt: skip
    world.client.seed(node(world))
    await world.settle()
    assert taints(world) == []


async def test_node_that_never_reported_gets_its_start_up_grace(world):
    bare = node(world)
    bare["status"] = {}
    world.client.seed(bare)
    await world.run(NodeLifecycleController(world.env))
    await world.advance(59)
    assert condition_of(world.client.current(NODES, "n1"), "Ready") is None
    await world.advance(2)
    ready = condition_of(world.client.current(NODES, "n1"), "Ready")
    assert ready["message"] == "Kubelet never posted node status."


@pytest.mark.parametrize(
    ("type_", "status", "key"),
    [
        ("MemoryPressure", "True", "memory-pressure"),
        ("DiskPressure", "True", "disk-pressure"),
        ("PIDPressure", "True", "pid-pressure"),
        ("NetworkUnavailable", "True", "network-unavailable"),
    ],
)
async def test_conditions_become_taints(world, type_, status, key):
    one = node(world)
    one["status"]["conditions"].append({"type": type_, "status": status})
    one["spec"]["unschedulable"] = True
    world.client.seed(one)
    await world.run(NodeLifecycleController(world.env))
    assert taints(world) == sorted([(key, "NoSchedule"), ("unschedulable", "NoSchedule")])


async def test_not_ready_nodes_are_tainted_one_in_ten_seconds(world):
    for number in range(6):
        world.client.seed(node(world, f"n{number}"))
    await world.run(NodeLifecycleController(world.env))
    for number in range(2):
        world.client.seed(node(world, f"n{number}", "False"))
    await world.settle()

    def evicted():
        return sum(("not-ready", "NoExecute") in taints(world, f"n{i}") for i in range(2))

    assert evicted() == 1
    await world.advance(10)
    assert evicted() == 2


async def test_no_node_is_tainted_when_all_are_down(world):
    for number in range(2):
        world.client.seed(node(world, f"n{number}", "False"))
    await world.run(NodeLifecycleController(world.env))
    await world.advance(40)
    assert taints(world, "n0") == [("not-ready", "NoSchedule")]


async def test_outage_of_5000_nodes_costs_a_few_looks_at_each(world):
    count = 5000
    for number in range(count):
        world.client.seed(node(world, f"n{number}"))
    controller = NodeLifecycleController(world.env)
    await world.run(controller)
    before = controller.queue.adds
    for number in range(count):
        world.client.seed(node(world, f"n{number}", "False"))
    await world.settle()
    # Each for its own changes (condition, taints), and all when the pace of the zone changes.
    assert controller.queue.adds - before < 8 * count
    gone = [n for n in range(count) if ("not-ready", "NoExecute") in taints(world, f"n{n}")]
    assert len(gone) <= 1
    assert taints(world, f"n{count - 1}") == [("not-ready", "NoSchedule")]
    for number in range(count // 2):
        world.client.seed(node(world, f"n{number}"))
    await world.settle()
    assert taints(world, "n0") == []


NODE_STATES = st.tuples(
    st.sampled_from("abcdefgh"),
    st.sampled_from(["", "x", "y"]),
    st.booleans(),
    st.booleans(),
    st.booleans(),
)


@given(st.lists(NODE_STATES, max_size=40))
def test_zones_counted_one_by_one_are_those_counted_at_once(states):
    config = NodeLifecycleConfig(large_cluster_size_threshold=4)
    zones, nodes = ZoneHealth(config), {}
    for name, zone, ready, excluded, gone in states:
        labels = {"topology.kubernetes.io/zone": zone} | ({EXCLUDE_DISRUPTION: ""} if excluded
                                                         else {})  # fmt: skip
        before = zones.pace
        if gone:
            nodes.pop(name, None)
            changed = zones.forget(name)
        else:
            nodes[name] = make_node(name, labels=labels, ready=ready)
            changed = zones.note(nodes[name])
        assert changed == (before != zones.pace)
        assert zones.pace.rates == naive_rates(nodes.values(), config)
        assert zones.not_ready == {n for n, o in nodes.items() if not is_up(o)}
        assert zones.pace.any_ready == any(map(is_up, nodes.values()))


def naive_rates(nodes, config):
    zones = {}
    for one in nodes:
        labels = one["metadata"]["labels"]
        if EXCLUDE_DISRUPTION not in labels:
            zone = labels["topology.kubernetes.io/zone"]
            zones.setdefault(f":\x00:{zone}" if zone else "", []).append(is_up(one))
    rates = {}
    for zone, up in zones.items():
        down = up.count(False)
        rates[zone] = config.eviction_rate
        if not any(map(any, zones.values())):
            rates[zone] = 0.0
        elif any(up) and down > 2 and down / len(up) >= config.unhealthy_zone_threshold:
            large = len(up) > config.large_cluster_size_threshold
            rates[zone] = config.secondary_eviction_rate if large else 0.0
    return rates


def is_up(node):
    return condition_of(node, "Ready")["status"] == "True"


def test_zone_rates():
    config = NodeLifecycleConfig()

    def zone(name, ready, not_ready):
        labels = {"topology.kubernetes.io/zone": name}
        return [
            make_node(f"{name}{i}", labels=labels, ready=i < ready)
            for i in range(ready + not_ready)
        ]

    rates = zone_rates(
        [*zone("ok", 3, 1), *zone("bad", 2, 3), *zone("big", 20, 40), *zone("dark", 0, 3)],
        config,
    )
    assert [rates[f":\x00:{z}"] for z in ("ok", "bad", "big", "dark")] == [0.1, 0.0, 0.01, 0.1]
    assert set(zone_rates(zone("x", 0, 3), config).values()) == {0.0}


TAINT = {"key": "node.kubernetes.io/unreachable", "effect": "NoExecute"}


@pytest.mark.parametrize(
    ("tolerations", "delay"),
    [
        ([], 0.0),
        ([{"operator": "Exists"}], None),
        ([{"key": TAINT["key"], "operator": "Exists", "effect": "NoExecute"}], None),
        ([{"key": TAINT["key"], "operator": "Exists", "tolerationSeconds": 300}], 300.0),
        ([{"key": TAINT["key"], "operator": "Equal", "value": "x"}], 0.0),
        ([{"key": "other", "operator": "Exists"}], 0.0),
        ([{"operator": "Exists", "tolerationSeconds": -1}], 0.0),
    ],
)
def test_eviction_delay(tolerations, delay):
    assert eviction_delay({"spec": {"tolerations": tolerations}}, [TAINT]) == delay
    assert eviction_delay({"spec": {"tolerations": tolerations}}, []) is None


async def test_pods_leave_when_their_toleration_is_over(world):
    tolerated = [{"key": TAINT["key"], "operator": "Exists", "tolerationSeconds": 300}]
    world.client.seed(make_node("n1"))
    world.client.seed(make_pod("soon", node="n1"))
    world.client.seed(make_pod("later", node="n1", spec={"tolerations": tolerated}))
    world.client.seed(make_pod("elsewhere", node="n2"))
    await world.run(TaintEvictionController(world.env))
    world.client.seed(make_node("n1", taints=[TAINT]))
    await world.settle()
    assert world.client.current(PODS, "soon", "default") is None
    await world.advance(299)
    assert world.client.current(PODS, "later", "default")
    await world.advance(2)
    assert world.client.current(PODS, "later", "default") is None
    assert world.client.current(PODS, "elsewhere", "default")
    assert (
        "Normal", "TaintManagerEviction", "Marking for deletion Pod default/later",
    ) in world.client.events()  # fmt: skip


async def test_eviction_is_cancelled_when_the_taint_goes(world):
    tolerated = [{"key": TAINT["key"], "operator": "Exists", "tolerationSeconds": 300}]
    world.client.seed(make_node("n1", taints=[TAINT]))
    world.client.seed(make_pod("later", node="n1", spec={"tolerations": tolerated}))
    await world.run(TaintEvictionController(world.env))
    await world.advance(100)
    world.client.seed(make_node("n1"))
    await world.settle()
    await world.advance(1000)
    assert world.client.current(PODS, "later", "default")
    assert (
        "Normal", "TaintManagerEviction", "Cancelling deletion of Pod default/later",
    ) in world.client.events()  # fmt: skip


async def test_pods_of_a_missing_node_go_after_the_quarantine(world):
    world.client.seed(make_node("n1"))
    world.client.seed(make_pod("p", node="n1", phase="Running"))
    await world.run(PodGCController(world.env))
    world.client.remove(NODES, "n1")
    await world.settle()
    await world.advance(39)
    assert world.client.current(PODS, "p", "default")
    await world.advance(2)
    assert world.client.current(PODS, "p", "default") is None
    (patch,) = [a for a in world.client.actions if a.verb == "patch"]
    assert patch.object["status"]["phase"] == "Failed"
    assert patch.object["status"]["conditions"][0]["message"] == "PodGC: node no longer exists"


async def test_terminating_pods_without_a_node_or_on_one_out_of_service_go(world):
    def going(name, **options):
        pod = make_pod(name, phase="Running", **options)
        pod["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
        return pod

    dead = make_node("n1", ready=False)
    world.client.seed(dead)
    world.client.seed(make_node("n2"))
    world.client.seed(going("unscheduled"))
    world.client.seed(going("out", node="n1"))
    world.client.seed(going("alive", node="n2"))
    await world.run(PodGCController(world.env))
    assert {p["metadata"]["name"] for p in world.client.objects(PODS)} == {"out", "alive"}
    dead = copy_object(dead)
    dead["spec"]["taints"] = [{"key": "node.kubernetes.io/out-of-service", "effect": "NoExecute"}]
    world.client.seed(dead)
    await world.settle()
    assert {p["metadata"]["name"] for p in world.client.objects(PODS)} == {"alive"}


def test_surplus_terminated_pods():
    pods = [make_pod(f"p{i}", phase="Succeeded") for i in range(4)]
    pods += [make_pod("run", phase="Running"), make_pod("evicted", phase="Failed")]
    pods[-1]["status"]["reason"] = "Evicted"
    for number, pod in enumerate(pods):
        pod["metadata"]["creationTimestamp"] = f"2026-01-01T00:00:0{9 - number}Z"
    assert [p["metadata"]["name"] for p in surplus_terminated(pods, 3)] == ["evicted", "p3"]
    assert surplus_terminated(pods, 0) == []
