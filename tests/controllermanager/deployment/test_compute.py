"""The pure core of Deployments: bounds of a rolling update, proportional sizes, annotations."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pilothouse.apimachinery.object import condition_of, copy_object
from pilothouse.apimachinery.testing import make_container, make_workload
from pilothouse.controllermanager.deployment import revisions, scaling, status
from pilothouse.controllermanager.deployment.compute import compute

NOW = 1_800_000_000.0
STAMP = "2027-01-15T08:00:00Z"


def deployment(replicas, surge, unavailable, image="v1"):
    made = make_workload(
        "Deployment", "web", replicas=replicas, uid="d", containers=[make_container(image=image)],
        spec={
            "strategy": {
                "type": "RollingUpdate",
                "rollingUpdate": {"maxSurge": surge, "maxUnavailable": unavailable},
            },
            "progressDeadlineSeconds": 600,
        },
    )  # fmt: skip
    made["metadata"]["generation"] = 1
    return made


class Simulation:
    """ReplicaSets that do what they are told, at a pace that the test chooses."""

    def __init__(self, deployment_):
        self.deployment = deployment_
        self.sets: dict[str, dict] = {}

    def step(self):
        plan = compute(self.deployment, list(self.sets.values()), {}, NOW, STAMP)
        for write in plan.writes:
            obj = copy_object(write.obj)
            name = obj["metadata"]["name"]
            if write.verb == "delete":
                del self.sets[name]
                continue
            obj["metadata"].setdefault("uid", name)
            obj["metadata"].setdefault(
                "creationTimestamp", f"2027-01-01T00:00:{len(self.sets):02}Z"
            )
            before = self.sets.get(name, {}).get("status", {})
            obj["status"] = dict(before)
            self.sets[name] = obj
            self._shrink(obj)
        self.deployment = copy_object(self.deployment)
        self.deployment["status"] = plan.status
        return plan

    def _shrink(self, obj):
        """Pods that are not available go first, as the ReplicaSet controller has it."""
        wanted, now = obj["spec"]["replicas"], obj["status"]
        now["replicas"] = min(now.get("replicas", 0), wanted)
        now["availableReplicas"] = min(now.get("availableReplicas", 0), wanted)
        now["readyReplicas"] = now["availableReplicas"]

    def create_pods(self, share):
        for obj in self.sets.values():
            missing = obj["spec"]["replicas"] - obj["status"].get("replicas", 0)
            obj["status"]["replicas"] = obj["status"].get("replicas", 0) + round(missing * share)

    def become_available(self, share):
        for obj in self.sets.values():
            now = obj["status"]
            missing = now.get("replicas", 0) - now.get("availableReplicas", 0)
            now["availableReplicas"] = now.get("availableReplicas", 0) + round(missing * share)
            now["readyReplicas"] = now["availableReplicas"]

    def finish(self):
        for _ in range(200):
            before = copy_object([self.sets, self.deployment])
            self.step()
            self.create_pods(1)
            self.become_available(1)
            if before == [self.sets, self.deployment]:
                return
        raise AssertionError("the rollout never ends")

    @property
    def total(self):
        return sum(obj["spec"]["replicas"] for obj in self.sets.values())

    @property
    def available(self):
        return sum(obj["status"].get("availableReplicas", 0) for obj in self.sets.values())


def limits(deployment_):
    replicas = deployment_["spec"]["replicas"]
    return (
        replicas + scaling.max_surge(deployment_),
        replicas - scaling.max_unavailable(deployment_),
    )


_LIMIT = st.one_of(st.integers(0, 5), st.integers(0, 100).map(lambda p: f"{p}%"))
_SHARE = st.sampled_from([0.0, 0.4, 1.0])


@given(
    st.integers(1, 12), _LIMIT, _LIMIT,
    st.lists(st.tuples(_SHARE, _SHARE, st.sampled_from(["", "", "v1", "v2", "v3"])), max_size=25),
)  # fmt: skip
@settings(deadline=None, max_examples=60)
def test_rolling_update_never_leaves_its_bounds(replicas, surge, unavailable, history):
    world = Simulation(deployment(replicas, surge, unavailable))
    world.finish()
    most, least = limits(world.deployment)
    for created, available, image in history:
        if image:
            template = world.deployment["spec"]["template"]
            template["spec"]["containers"][0]["image"] = image
            world.deployment["metadata"]["generation"] += 1
        world.step()
        assert world.total <= most
        assert world.available >= least
        world.create_pods(created)
        world.become_available(available)
    world.finish()
    running = [obj for obj in world.sets.values() if obj["spec"]["replicas"]]
    assert len(running) == 1
    wanted = world.deployment["spec"]["template"]["spec"]["containers"][0]["image"]
    assert running[0]["spec"]["template"]["spec"]["containers"][0]["image"] == wanted
    assert condition_of(world.deployment, "Progressing")["reason"] == "NewReplicaSetAvailable"


@given(st.integers(0, 40), st.integers(0, 40), st.lists(st.integers(1, 20), min_size=2, max_size=4))
def test_proportional_sizes_add_up(replicas, before, sizes):
    owner = deployment(replicas, "25%", "25%")
    sets = []
    for number, size in enumerate(sizes):
        one = make_workload("ReplicaSet", f"rs{number}", replicas=size)
        one["metadata"]["creationTimestamp"] = f"2027-01-01T00:00:{number:02}Z"
        one["metadata"]["annotations"] = {revisions.MAX_REPLICAS: str(before)}
        sets.append(one)
    result = scaling.proportional_sizes(owner, sets)
    assert all(size >= 0 for _, size in result)
    allowed = replicas + scaling.max_surge(owner) if replicas else 0
    assert sum(size for _, size in result) == allowed or any(size == 0 for _, size in result)


@pytest.mark.parametrize(
    ("replicas", "surge", "unavailable", "expected"),
    [
        (10, "25%", "25%", (3, 2)),
        (10, 0, 0, (0, 1)),
        (1, "1%", "1%", (1, 0)),
        (3, "0%", "10%", (0, 1)),
        (10, 5, "100%", (5, 10)),
    ],
)
def test_fenceposts(replicas, surge, unavailable, expected):
    assert scaling.resolve_fenceposts(deployment(replicas, surge, unavailable)) == expected


def test_bad_percentage_is_an_error():
    with pytest.raises(ValueError, match="string is not a percentage"):
        scaling.resolve_fenceposts(deployment(1, "x", 0))


def test_annotations_follow_the_deployment_but_not_the_reserved_ones():
    owner = deployment(1, 1, 0)
    owner["metadata"]["annotations"] = {
        "team": "a", revisions.LAST_APPLIED: "{}", revisions.REVISION: "7",
    }  # fmt: skip
    replica_set = make_workload("ReplicaSet", "rs")
    replica_set["metadata"]["annotations"] = {revisions.REVISION: "2", "own": "b"}
    assert revisions.new_annotations(owner, replica_set, 5) == {
        "team": "a", "own": "b", revisions.REVISION: "5", revisions.REVISION_HISTORY: "2",
    }  # fmt: skip
    assert revisions.new_annotations(owner, replica_set, 1)[revisions.REVISION] == "2"


def test_history_annotation_stays_short():
    annotations = {revisions.REVISION_HISTORY: ",".join(str(i) for i in range(1000))}
    replica_set = {"metadata": {"annotations": annotations | {revisions.REVISION: "1000"}}}
    new = revisions.new_annotations(deployment(1, 1, 0), replica_set, 1001)
    history = new[revisions.REVISION_HISTORY]
    assert len(history) <= revisions.HISTORY_LIMIT_IN_CHARS and history.endswith(",999,1000")


def test_same_template_ignores_the_hash_and_empty_things():
    template = deployment(1, 1, 0)["spec"]["template"]
    other = copy_object(template)
    other["metadata"]["labels"][revisions.TEMPLATE_HASH] = "x"
    other["metadata"]["creationTimestamp"] = None
    other["spec"]["volumes"] = []
    assert revisions.same_template(template, other)
    other["spec"]["volumes"] = [{"name": "v", "emptyDir": {}}]
    assert not revisions.same_template(template, other)


def test_condition_keeps_its_transition_time_while_the_status_stays():
    now = {"conditions": [status.condition("Progressing", "True", "A", "a", "t1")]}
    status.set_condition(now, status.condition("Progressing", "True", "B", "b", "t2"))
    (condition,) = now["conditions"]
    assert (condition["reason"], condition["lastTransitionTime"]) == ("B", "t1")
    status.set_condition(now, status.condition("Progressing", "False", "C", "c", "t3"))
    assert now["conditions"][0]["lastTransitionTime"] == "t3"
