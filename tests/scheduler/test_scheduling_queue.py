"""The queue: order, back-off, events that help, events missed in flight, and no pod ever lost."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from pilothouse.apimachinery.testing import make_pod
from pilothouse.scheduler.framework.events import Action, ClusterEvent
from pilothouse.scheduler.framework.pod_info import PodInfo
from pilothouse.scheduler.queueing.scheduling_queue import SchedulingQueue

NODE_ADDED = ClusterEvent("Node", Action.ADD)
FIT = frozenset(("NodeResourcesFit",))


def pod(name: str, priority: int = 0) -> PodInfo:
    obj = make_pod(name)
    obj["spec"]["priority"] = priority
    obj["metadata"]["uid"] = name
    return PodInfo(obj)


def queue(gated: tuple[str, ...] = (), helps: bool = True) -> SchedulingQueue:
    return SchedulingQueue(
        lambda plugins, p, event, old, new: helps, lambda p: "Gates" if p.name in gated else ""
    )


def popped(q: SchedulingQueue) -> str:
    queued = q.pop()
    assert queued is not None
    return queued.pod.name


def test_higher_priority_first_then_the_older() -> None:
    q = queue()
    q.add(pod("old"), 1.0)
    q.add(pod("young"), 2.0)
    q.add(pod("important", 10), 3.0)
    assert [popped(q), popped(q), popped(q)] == ["important", "old", "young"]
    assert q.pop() is None


def failed(plugins: frozenset[str]) -> SchedulingQueue:
    """A queue whose only pod, ``a``, has failed at 0.0."""
    q = queue()
    q.add(pod("a"), 0.0)
    queued = q.pop()
    assert queued is not None
    q.park(queued, plugins, 0.0)
    return q


def test_refused_pod_waits_for_an_event_and_for_active_pods() -> None:
    q = failed(FIT)
    assert q.counts()["unschedulable"] == 1 and not q.has_active
    q.move(NODE_ADDED, None, {}, 0.5)
    q.add(pod("b"), 0.6)
    assert q.counts()["backoff"] == 1
    assert q.next_wake() == 1.0
    assert [popped(q), popped(q)] == ["b", "a"]
    assert not q.has_active and q.next_wake() is None


def test_pod_that_failed_by_an_error_waits_for_its_backoff() -> None:
    q = failed(frozenset())
    q.flush(0.9)
    assert not q.has_active and q.pop() is None
    q.flush(1.0)
    assert popped(q) == "a"


def test_backoff_doubles_to_ten_seconds() -> None:
    q = queue()
    q.add(pod("a"), 0.0)
    now, waits = 0.0, []
    for _ in range(6):
        q.flush(now)
        queued = q.pop()
        assert queued is not None
        q.park(queued, frozenset(), now)
        wake = q.next_wake()
        assert wake is not None
        waits.append(wake - now)
        now = wake
    assert waits == [1, 2, 4, 8, 10, 10]


def test_event_during_the_attempt_is_not_missed() -> None:
    q = queue()
    q.add(pod("a"), 0.0)
    queued = q.pop()
    assert queued is not None
    q.move(NODE_ADDED, None, {}, 0.0)
    q.park(queued, FIT, 0.0)
    assert q.counts()["backoff"] == 1


def test_event_that_cannot_help_leaves_the_pod() -> None:
    q = queue(helps=False)
    q.add(pod("a"), 0.0)
    queued = q.pop()
    assert queued is not None
    q.park(queued, FIT, 0.0)
    q.move(NODE_ADDED, None, {}, 5.0)
    assert q.counts()["unschedulable"] == 1
    q.flush(300.0)
    assert q.has_active  # the safety net


def test_gated_pod_is_not_tried_until_it_changes() -> None:
    gates = ["a"]
    q = SchedulingQueue(lambda *_: True, lambda p: "Gates" if p.name in gates else "")
    q.add(pod("a"), 0.0)
    q.move(NODE_ADDED, None, {}, 1.0)
    q.flush(1000.0)
    assert q.counts() == {"active": 0, "backoff": 0, "unschedulable": 0, "gated": 1}
    gates.clear()
    q.update(pod("a"), 1001.0, helpful=False)
    assert popped(q) == "a"


def test_deleted_pod_is_never_popped() -> None:
    q = queue()
    q.add(pod("a"), 0.0)
    q.delete("a")
    assert q.pop() is None and len(q) == 0


OPERATIONS = st.lists(
    st.tuples(
        st.sampled_from(
            ["add", "pop", "park", "error", "move", "flush", "update", "delete", "done"]
        ),
        st.integers(0, 4),
    ),
    max_size=60,
)


@given(OPERATIONS)
@settings(max_examples=200, deadline=None)
def test_no_pod_is_lost_or_doubled(operations: list[tuple[str, int]]) -> None:
    """Whatever happens, a pod that is neither bound nor deleted can be popped in the end, once."""
    q = queue()
    alive: set[str] = set()
    flying: dict[str, object] = {}
    now = 0.0
    for operation, number in operations:
        now += 0.7
        name = f"p{number}"
        if operation == "add" and name not in alive:
            q.add(pod(name), now)
            alive.add(name)
        elif operation == "pop":
            queued = q.pop()
            if queued is not None:
                assert queued.pod.name not in flying
                flying[queued.pod.name] = queued
        elif operation in ("park", "error") and name in flying:
            q.park(flying.pop(name), FIT if operation == "park" else frozenset(), now)  # type: ignore[arg-type]
        elif operation == "done" and name in flying:
            flying.pop(name)
            q.done(name)
            alive.discard(name)
        elif operation == "move":
            q.move(NODE_ADDED, None, {}, now)
        elif operation == "flush":
            q.flush(now)
        elif operation == "update" and name in alive:
            q.update(pod(name), now, helpful=True)
        elif operation == "delete" and name in alive and name not in flying:
            q.delete(name)
            alive.discard(name)
    q.flush(now + 1000)
    q.flush(now + 2000)
    rest = []
    while (queued := q.pop()) is not None:
        rest.append(queued.pod.name)
    assert sorted([*rest, *flying]) == sorted(alive)
