"""Requests of plain pods, which are remembered, are what the general rules say."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pilothouse.apimachinery.object import copy_object
from pilothouse.scheduler.framework import pod_info
from pilothouse.scheduler.framework.pod_info import PodInfo, integer_requests

LISTS = st.dictionaries(
    st.sampled_from(["cpu", "memory", "example.com/x"]), st.sampled_from(["0", "1", "250m", "2"]),
    max_size=2,
)  # fmt: skip
RESOURCES = st.fixed_dictionaries({}, optional={"requests": st.none() | LISTS, "limits": LISTS})


def containers(names):
    one = st.fixed_dictionaries(
        {"name": st.sampled_from(names)}, optional={"resources": st.none() | RESOURCES}
    )
    return st.lists(one, max_size=2, unique_by=lambda c: c["name"])


def statuses(names):
    one = st.fixed_dictionaries(
        {"name": st.sampled_from(names)},
        optional={"resources": st.none() | RESOURCES, "allocatedResources": st.none() | LISTS},
    )
    return st.lists(one, max_size=2)


PENDING = {"type": "PodResizePending", "reason": "Infeasible"}
PODS = st.fixed_dictionaries(
    {
        "metadata": st.just({"name": "p", "namespace": "d", "uid": "u"}),
        "spec": st.fixed_dictionaries(
            {"containers": containers(["a", "b"])},
            optional={
                "initContainers": containers(["i", "a"]), "overhead": LISTS, "resources": RESOURCES,
            },
        ),
    },
    optional={
        "status": st.fixed_dictionaries(
            {},
            optional={
                "containerStatuses": statuses(["a", "b"]),
                "initContainerStatuses": statuses(["i", "a"]),
                "resources": RESOURCES,
                "allocatedResources": LISTS,
                "conditions": st.sampled_from([[PENDING], [{"type": "Ready"}], None]),
            },
        )
    },
)  # fmt: skip


def agrees(pod, repeat):
    if repeat:  # as a kubelet tells it, so that pods with a status are plain, too
        told = [
            {"name": c["name"], "resources": c.get("resources")} for c in pod["spec"]["containers"]
        ]
        pod = {**pod, "status": {"containerStatuses": told}}
    before = copy_object(pod)
    for scoring in (False, True):
        found = integer_requests(pod, scoring=scoring)
        assert found == pod_info._general_requests(pod, scoring)
        assert list(found) == list(pod_info._general_requests(pod, scoring))
    assert pod == before


@given(PODS, st.booleans())
def test_requests_are_what_the_general_rules_say(pod, repeat):
    agrees(pod, repeat)


def test_pods_of_a_kind_share_their_requests():
    spec = {"containers": [{"name": "c", "resources": {"requests": {"cpu": "100m"}}}]}
    a, b = (
        PodInfo({"metadata": {"name": n, "namespace": "d", "uid": n}, "spec": spec}) for n in "ab"
    )
    assert a.requests == {"cpu": 100}
    assert a.requests is b.requests
