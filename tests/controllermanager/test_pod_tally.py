"""The tally always says what counting the pods one by one says."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pilothouse.apimachinery.object import controller_of, copy_object, meta
from pilothouse.apimachinery.testing import make_pod, make_workload
from pilothouse.controllermanager import pods as podutil
from pilothouse.controllermanager.controller_ref import controller_reference, sort_out
from pilothouse.controllermanager.pod_tally import PodTally
from pilothouse.controllermanager.replicaset import count, count_groups, selector_of

NOW = 1_767_225_600.0
OWNERS = [make_workload("ReplicaSet", name, uid=name) for name in ("one", "two")]
OTHER = make_workload("StatefulSet", "db", uid="db")
LABELS = [{"app": "one"}, {"app": "one", "pod-template-hash": "1"}, {"app": "two"}, {}]


def make(name, owner, labels, phase, ready, deleted):
    pod = make_pod(name, labels=labels, phase=phase, uid=name)
    if owner is not None:
        pod["metadata"]["ownerReferences"] = [controller_reference(owner)]
    if deleted:
        pod["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    value = "True" if ready else "False"
    since = "2025-12-31T00:00:00Z"
    pod["status"]["conditions"] = [{"type": "Ready", "status": value, "lastTransitionTime": since}]
    return pod


PODS = st.builds(
    make,
    st.sampled_from("abcdef"),
    st.sampled_from([*OWNERS, OTHER, None]),
    st.sampled_from(LABELS),
    st.sampled_from(["Pending", "Running", "Failed", "Succeeded"]),
    st.booleans(),
    st.booleans(),
)
EVENTS = st.lists(st.one_of(PODS, st.sampled_from("abcdef")), max_size=30)


def slow(owner, selector, pods):
    """As the controller does it without a tally; None when a pod needs a write."""
    mine = [p for p in pods if controller_of(p) == controller_reference(owner)]
    free = [p for p in pods if controller_of(p) is None]
    active = [p for p in [*mine, *free] if podutil.is_active(p)]
    claims = sort_out(owner, selector, active)
    if claims.adopt or claims.release:
        return None
    terminating = [
        p for p in mine if podutil.is_terminating(p) and selector.matches(meta(p).get("labels"))
    ]
    return count(owner, claims.owned, terminating, NOW)


@given(EVENTS, st.sampled_from(LABELS[:3]))
def test_counts_are_those_of_the_pods(events, template_labels):
    tally, pods = PodTally("ReplicaSet"), {}
    for event in events:
        if isinstance(event, str):
            if event in pods:
                tally.removed(pods.pop(event))
            continue
        name = event["metadata"]["name"]
        if name in pods:
            tally.updated(pods[name], event)
        else:
            tally.added(event)
        pods[name] = event
    for owner in map(copy_object, OWNERS):
        owner["spec"]["selector"] = {"matchLabels": {"app": owner["metadata"]["name"]}}
        owner["spec"]["template"] = {"metadata": {"labels": template_labels}}
        selector = selector_of(owner)
        key = podutil.controller_index_key("default", controller_reference(owner))
        got = count_groups(owner, selector, tally.groups(key), tally.groups("default"))
        assert got == slow(owner, selector, list(pods.values()))
    for name in list(pods):
        tally.removed(pods.pop(name))
    assert not tally._owners
    assert not tally._known
