"""Matching and the plans for claims and volumes, as in upstream's tables of pv_controller."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilothouse.apimachinery.object import name_of
from pilothouse.apis.core.volume_binding import (
    BIND_COMPLETED,
    BOUND_BY_CONTROLLER,
    PROVISIONED_BY,
    SELECTED_NODE,
    access_modes_match,
    bound_volume,
    capacity_of,
    find_matching_volume,
    is_bound_to,
    node_matches,
    requested_size,
)
from pilothouse.controllermanager.persistent_volume import compute
from pilothouse.controllermanager.persistent_volume.compute import (
    AssignClass,
    Bind,
    ClaimPhase,
    Lose,
    Provision,
    Reclaim,
    Surroundings,
    SyncClaim,
    Tell,
    Unbind,
    VolumePhase,
    plan_claim,
    plan_volume,
)


def claim(size="1Gi", modes=("ReadWriteOnce",), cls: Any = "", annotations=(), **spec):
    spec = {"accessModes": list(modes), "resources": {"requests": {"storage": size}}, **spec}
    if cls is not None:
        spec["storageClassName"] = cls
    return {
        "metadata": {
            "name": "c", "namespace": "ns", "uid": "u", "resourceVersion": "1",
            "annotations": dict(annotations),
        },
        "spec": spec,
        "status": {"phase": "Pending"},
    }  # fmt: skip


def volume(name="v", size="1Gi", modes=("ReadWriteOnce",), ref=None, phase="Available", **fields):
    annotations = fields.pop("annotations", {})
    labels = fields.pop("labels", {})
    spec = {"capacity": {"storage": size}, "accessModes": list(modes), **fields}
    if ref is not None:
        spec["claimRef"] = {"namespace": "ns", "name": "c"} | ref
    return {
        "metadata": {"name": name, "annotations": annotations, "labels": labels},
        "spec": spec,
        "status": {"phase": phase},
    }


@pytest.mark.parametrize(
    ("wanted", "volumes", "expected"),
    [
        (claim("2Gi"), [volume("small", "1Gi")], None),
        (claim("2Gi"), [volume("big", "9Gi"), volume("fits", "2Gi")], "fits"),
        (claim(), [volume("b"), volume("a", storageClassName="gold")], "b"),
        (claim(cls="gold"), [volume("b"), volume("a", storageClassName="gold")], "a"),
        (claim(modes=["ReadWriteMany"]), [volume()], None),
        (claim(volumeMode="Block"), [volume()], None),
        (claim(volumeMode="Block"), [volume(volumeMode="Block")], "v"),
        (claim(), [volume(phase="Released")], None),
        (claim(), [volume(ref={"name": "other"})], None),
        (claim(), [volume("free"), volume("mine", "5Gi", ref={})], "mine"),
        (claim(), [volume("free"), volume("mine", "5Gi", ref={"uid": "old"})], "free"),
        (
            claim(selector={"matchLabels": {"a": "b"}}),
            [volume("x"), volume("y", labels={"a": "b"})],
            "y",
        ),
        # Of those that offer enough, the one with the fewest access modes.
        (
            claim(),
            [volume("both", modes=["ReadWriteOnce", "ReadOnlyMany"]), volume("one", "3Gi")],
            "one",
        ),
    ],
)
def test_best_volume(wanted, volumes, expected):
    found = compute.best_volume(wanted, volumes, delayed=False)
    assert (found and name_of(found)) == expected


def test_delayed_claims_take_only_what_was_bound_to_them_before():
    assert compute.best_volume(claim(), [volume()], delayed=True) is None
    found = compute.best_volume(claim(), [volume("x"), volume("mine", ref={})], delayed=True)
    assert found is not None and name_of(found) == "mine"


SIZES = st.sampled_from(["1Mi", "5Mi", "1Gi", "1500M", "2Gi"])
MODES = st.lists(st.sampled_from(["ReadWriteOnce", "ReadOnlyMany", "ReadWriteMany"]), min_size=1,
                 unique=True)  # fmt: skip
VOLUMES = st.lists(
    st.builds(
        volume, size=SIZES, modes=MODES,
        ref=st.sampled_from([None, None, {}, {"name": "other"}, {"uid": "x"}]),
        phase=st.sampled_from(["Available", "Bound", "Released"]),
    ),
    max_size=8,
)  # fmt: skip


@given(st.builds(claim, size=SIZES, modes=MODES), VOLUMES)
def test_a_match_always_satisfies_and_is_never_anothers(wanted, volumes):
    for i, v in enumerate(volumes):
        v["metadata"]["name"] = f"v{i}"
    found = compute.best_volume(wanted, volumes, delayed=False)
    usable = [
        v for v in volumes
        if access_modes_match(wanted, v)
        and not capacity_of(v) < requested_size(wanted)
        and (is_bound_to(v, wanted) or (not v["spec"].get("claimRef")
                                        and v["status"]["phase"] == "Available"))
    ]  # fmt: skip
    assert (found is None) == (not usable)
    assert found is None or found in usable


@given(st.builds(claim), VOLUMES)
def test_a_chosen_volume_stays_chosen(wanted, volumes):
    """Once bound, whatever else there is, the claim finds just that volume again."""
    for i, v in enumerate(volumes):
        v["metadata"]["name"] = f"v{i}"
    found = find_matching_volume(wanted, volumes)
    if found is None:
        return
    bound = bound_volume(found, wanted) or found
    assert is_bound_to(bound, wanted) and bound_volume(bound, wanted) is None
    others = [v for v in volumes if v is not found and not is_bound_to(v, wanted)]
    again = find_matching_volume(wanted, [*others, bound])
    assert again is not None and name_of(again) == name_of(found)


@pytest.mark.parametrize(
    ("expression", "matches"),
    [
        ({"key": "z", "operator": "In", "values": ["a", "b"]}, True),
        ({"key": "z", "operator": "NotIn", "values": ["a"]}, False),
        ({"key": "y", "operator": "Exists"}, False),
        ({"key": "y", "operator": "DoesNotExist"}, True),
        ({"key": "n", "operator": "Gt", "values": ["4"]}, True),
        ({"key": "n", "operator": "Lt", "values": ["4"]}, False),
        ({"key": "z", "operator": "Gt", "values": ["4"]}, False),
    ],
)
def test_node_affinity(expression, matches):
    affinity = {"required": {"nodeSelectorTerms": [{"matchExpressions": [expression]}]}}
    assert node_matches(volume(nodeAffinity=affinity), {"z": "a", "n": "5"}) is matches


DELAYED = {"metadata": {"name": "wait"}, "volumeBindingMode": "WaitForFirstConsumer"}


def kinds(intents):
    return [type(i) for i in intents]


def test_free_claims():
    v = volume()
    assert plan_claim(claim(), Surroundings([v])) == [Bind(v)]
    told = plan_claim(claim(), Surroundings())
    assert told == [Tell("Normal", "FailedBinding", compute.NO_VOLUME), ClaimPhase("Pending")]
    # '' says: no class; only one that says nothing gets the default.
    assert plan_claim(claim(cls=None), Surroundings(default_class="d")) == [AssignClass("d")]
    assert kinds(plan_claim(claim(), Surroundings(default_class="d"))) == [Tell, ClaimPhase]
    assert plan_claim(claim(cls="x"), Surroundings()) == [Provision()]


@pytest.mark.parametrize(
    ("pods", "reason", "message"),
    [
        ([], "WaitForFirstConsumer", "waiting for first consumer to be created before binding"),
        (["a"], "WaitForPodScheduled", "waiting for pod a to be scheduled"),
        (["a", "b"], "WaitForPodScheduled", "waiting for pods a,b to be scheduled"),
    ],
)
def test_delayed_claims_wait(pods, reason, message):
    around = Surroundings(storage_class=DELAYED, waiting_pods=pods)
    told, phase = plan_claim(claim(cls="wait"), around)
    assert told == Tell("Normal", reason, message) and phase == ClaimPhase("Pending")


def test_delayed_claims_are_provisioned_once_a_node_is_selected():
    around = Surroundings(storage_class=DELAYED)
    chosen = claim(cls="wait", annotations={SELECTED_NODE: "n"})
    assert plan_claim(chosen, around) == [Provision()]


@pytest.mark.parametrize(
    ("requested", "expected"),
    [
        (None, [ClaimPhase]),
        (volume(), [Bind]),
        (volume(size="1Mi"), [Tell, ClaimPhase]),
        (volume(ref={}), [Bind]),
        (volume(ref={"name": "other"}), [Tell, ClaimPhase]),
    ],
)
def test_claims_that_name_a_volume(requested, expected):
    wanted = claim(volumeName="v")
    assert kinds(plan_claim(wanted, Surroundings(requested=requested))) == expected


def test_mismatches_say_why():
    assert compute.mismatch(volume(size="1Mi"), claim()) == "requested PV is too small"
    assert compute.mismatch(volume(), claim(cls="x")) == "storageClassName does not match"
    assert compute.mismatch(volume(), claim(volumeMode="Block")) == "incompatible volumeMode"
    assert compute.mismatch(volume(modes=[]), claim()) == "incompatible accessMode"
    assert compute.mismatch(volume(), claim()) == ""


@pytest.mark.parametrize(
    ("name", "requested", "expected"),
    [
        ("", None, Lose("ClaimLost", compute.LOST_REFERENCE)),
        ("v", None, Lose("ClaimLost", compute.LOST_VOLUME)),
        ("v", volume(ref={"uid": "other"}), Lose("ClaimMisbound", compute.MISBOUND)),
    ],
)
def test_bound_claims_can_be_lost(name, requested, expected):
    bound = claim(annotations={BIND_COMPLETED: "yes"}, volumeName=name)
    assert plan_claim(bound, Surroundings(requested=requested)) == [expected]


def test_volumes():
    available = VolumePhase("Available")
    assert plan_volume(volume(), None) == [available]
    assert plan_volume(volume(ref={}), claim()) == [available, SyncClaim()]
    mine = volume(ref={"uid": "u"}, phase="Bound")
    assert plan_volume(mine, None) == [VolumePhase("Released"), Reclaim()]
    assert plan_volume(mine | {"status": {"phase": "Failed"}}, None) == [Reclaim()]
    assert plan_volume(mine, claim()) == [SyncClaim()]
    assert plan_volume(mine, claim(volumeName="v")) == [VolumePhase("Bound")]
    assert plan_volume(mine, claim(volumeName="w")) == [Unbind()]
    assert kinds(plan_volume(mine, claim(volumeMode="Block"))) == [Tell, Tell]


def test_a_volume_made_for_a_claim_that_took_another_goes():
    made = volume(
        ref={"uid": "u"}, persistentVolumeReclaimPolicy="Delete",
        annotations={PROVISIONED_BY: "p", BOUND_BY_CONTROLLER: "yes"},
    )  # fmt: skip
    assert plan_volume(made, claim(volumeName="w")) == [VolumePhase("Released"), Reclaim()]


def test_default_class_is_the_newest():
    def cls(name, created, default="true"):
        annotations = {"storageclass.kubernetes.io/is-default-class": default}
        return {"metadata": {"name": name, "creationTimestamp": created,
                             "annotations": annotations}}  # fmt: skip

    old, new = cls("old", "2026-01-01T00:00:00Z"), cls("new", "2026-02-01T00:00:00Z")
    assert compute.default_class_of([old, new, cls("no", "2026-03-01T00:00:00Z", "x")]) == "new"
    assert compute.default_class_of([cls("b", "x"), cls("a", "x")]) == "a"
    assert compute.default_class_of([]) == ""
