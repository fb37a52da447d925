"""What a node keeps up to date while pods come, change and go."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from pilothouse.apimachinery.testing import make_pod
from pilothouse.scheduler.cache.node_info import NodeInfo
from pilothouse.scheduler.framework.pod_info import PodInfo

LABELS = [{}, {"a": "1"}, {"a": "1", "b": "2"}, {"b": "2", "a": "1"}]
STEPS = st.tuples(
    st.sampled_from("pqrs"),
    st.sampled_from(["put", "remove"]),
    st.sampled_from(["default", "other"]),
    st.sampled_from(LABELS),
    st.booleans(),
)


@given(st.lists(STEPS, max_size=30))
def test_label_groups_are_those_of_the_pods_that_stay(steps):
    node = NodeInfo("n")
    for name, step, namespace, labels, deleting in steps:
        pod = make_pod(
            f"{namespace}-{name}", namespace=namespace, labels=labels, uid=f"{namespace}-{name}"
        )
        if deleting:
            pod["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
        info = PodInfo(pod)
        if step == "remove" or not node.replace_pod(info):
            node.remove_pod(info.uid)
            if step == "put":
                node.add_pod(info)
        expected = Counter(
            (p.namespace, frozenset(p.labels.items())) for p in node.pods.values() if not p.deleting
        )
        assert {key: count for key, (_, _, count) in node.label_groups.items()} == expected
