"""Jobs over the fake client: completion, failure, policies, indexes, suspension."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilothouse.apimachinery.object import condition_of, copy_object
from pilothouse.apimachinery.testing import make_container, make_object
from pilothouse.apimachinery.timefmt import format_time
from pilothouse.controllermanager.job.controller import JobController
from pilothouse.controllermanager.job.indexes import format_indexes, parse
from pilothouse.kubeclient.resources import JOBS, PODS

FINALIZER = "batch.kubernetes.io/job-tracking"


def job(**spec):
    template = {
        "metadata": {"labels": {"job": "j"}},
        "spec": {"restartPolicy": "Never", "containers": [make_container()]},
    }
    full = {"parallelism": 1, "backoffLimit": 6, "selector": {"matchLabels": {"job": "j"}}}
    return make_object("batch/v1", "Job", "j", "default", uid="job-uid",
                       spec=full | {"template": template} | spec)  # fmt: skip


@pytest.fixture
async def cluster(world):
    await world.run(JobController(world.env))
    return world


async def start(world, **spec):
    world.client.seed(job(**spec))
    await world.settle()


def status(world):
    return world.client.current(JOBS, "j", "default")["status"]


def condition(world, type_):
    return condition_of({"status": status(world)}, type_)


def pods(world):
    return [p for p in world.client.objects(PODS) if p.get("status", {}).get("phase") not in
            ("Succeeded", "Failed")]  # fmt: skip


async def end(world, pod, phase, code=0):
    pod = copy_object(pod)
    now = format_time(world.clock.now())
    pod["status"] = {
        "phase": phase,
        "containerStatuses": [
            {"name": "c", "state": {"terminated": {"exitCode": code, "finishedAt": now}}}
        ],
    }
    world.client.seed(pod)
    await world.settle()


async def test_completions_with_parallelism(cluster):
    await start(cluster, completions=3, parallelism=2)
    assert len(pods(cluster)) == 2
    assert status(cluster)["active"] == 2
    assert all(FINALIZER in p["metadata"]["finalizers"] for p in pods(cluster))
    await end(cluster, pods(cluster)[0], "Succeeded")
    assert status(cluster)["succeeded"] == 1
    assert len(pods(cluster)) == 2
    for pod in pods(cluster):
        await end(cluster, pod, "Succeeded")
    assert status(cluster)["succeeded"] == 3
    complete = condition(cluster, "Complete")
    assert complete["reason"] == "CompletionsReached"
    assert complete["message"] == "Reached expected number of succeeded pods"
    assert condition(cluster, "SuccessCriteriaMet")["status"] == "True"
    assert status(cluster)["completionTime"]
    assert status(cluster)["uncountedTerminatedPods"] == {}
    assert "active" not in status(cluster)
    assert not any(p["metadata"].get("finalizers") for p in cluster.client.objects(PODS))
    assert ("Normal", "Completed", "Job completed") in cluster.client.events()


async def test_failures_back_off_and_end_at_the_limit(cluster):
    await start(cluster, completions=1, backoffLimit=1)
    await end(cluster, pods(cluster)[0], "Failed", 1)
    assert status(cluster)["failed"] == 1
    assert pods(cluster) == []
    await cluster.advance(9)
    assert pods(cluster) == []
    await cluster.advance(2)
    assert len(pods(cluster)) == 1
    await end(cluster, pods(cluster)[0], "Failed", 1)
    failed = condition(cluster, "Failed")
    assert failed["reason"] == "BackoffLimitExceeded"
    assert failed["message"] == "Job has reached the specified backoff limit"
    assert condition(cluster, "FailureTarget")["status"] == "True"
    assert status(cluster)["failed"] == 2
    assert any(e[1] == "BackoffLimitExceeded" for e in cluster.client.events())


async def test_deadline(cluster):
    await start(cluster, completions=1, activeDeadlineSeconds=30)
    await cluster.advance(31)
    assert condition(cluster, "Failed")["reason"] == "DeadlineExceeded"
    assert cluster.client.objects(PODS) == []


async def test_suspend_and_resume(cluster):
    await start(cluster, completions=1, suspend=True)
    assert pods(cluster) == []
    assert condition(cluster, "Suspended")["status"] == "True"
    assert "startTime" not in status(cluster)
    new = copy_object(cluster.client.current(JOBS, "j", "default"))
    new["spec"]["suspend"] = False
    await cluster.client.update(JOBS, new)
    await cluster.settle()
    assert len(pods(cluster)) == 1
    assert condition(cluster, "Suspended")["reason"] == "JobResumed"
    new = copy_object(cluster.client.current(JOBS, "j", "default"))
    new["spec"]["suspend"] = True
    await cluster.client.update(JOBS, new)
    await cluster.settle()
    assert pods(cluster) == []
    assert "failed" not in status(cluster)


async def test_indexed_job_gives_each_index_once(cluster):
    await start(cluster, completions=4, parallelism=2, completionMode="Indexed")
    assert sorted(p["spec"]["hostname"] for p in pods(cluster)) == ["j-0", "j-1"]
    first = pods(cluster)[0]
    assert first["metadata"]["generateName"] in ("j-0-", "j-1-")
    environment = first["spec"]["containers"][0]["env"][0]
    assert environment["name"] == "JOB_COMPLETION_INDEX"
    by_index = {p["spec"]["hostname"]: p for p in pods(cluster)}
    await end(cluster, by_index["j-1"], "Succeeded")
    assert status(cluster)["completedIndexes"] == "1"
    assert sorted(p["spec"]["hostname"] for p in pods(cluster)) == ["j-0", "j-2"]
    while pods(cluster):
        await end(cluster, pods(cluster)[0], "Succeeded")
    assert status(cluster)["completedIndexes"] == "0-3"
    assert condition(cluster, "Complete")["status"] == "True"


async def test_backoff_limit_per_index(cluster):
    await start(
        cluster, completions=2, parallelism=2, completionMode="Indexed", backoffLimitPerIndex=1,
        backoffLimit=2147483647,
    )  # fmt: skip
    by_index = {p["spec"]["hostname"]: p for p in pods(cluster)}
    await end(cluster, by_index["j-1"], "Succeeded")
    await end(cluster, by_index["j-0"], "Failed", 1)
    assert pods(cluster) == []
    await cluster.advance(11)
    (again,) = pods(cluster)
    assert again["metadata"]["annotations"]["batch.kubernetes.io/job-index-failure-count"] == "1"
    await end(cluster, again, "Failed", 1)
    assert status(cluster)["failedIndexes"] == "0"
    assert condition(cluster, "Failed")["reason"] == "FailedIndexes"
    assert status(cluster)["failed"] == 2


POLICY = {
    "rules": [
        {"action": "Ignore",
         "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
        {"action": "FailJob", "onExitCodes": {"operator": "In", "values": [42]}},
    ]
}  # fmt: skip


async def test_pod_failure_policy(cluster):
    await start(cluster, completions=1, podFailurePolicy=POLICY, backoffLimit=0)
    pod = copy_object(pods(cluster)[0])
    pod["status"] = {
        "phase": "Failed", "conditions": [{"type": "DisruptionTarget", "status": "True"}],
    }  # fmt: skip
    cluster.client.seed(pod)
    await cluster.settle()
    assert condition(cluster, "Failed") is None and "failed" not in status(cluster)
    await cluster.advance(11)
    pod = pods(cluster)[0]
    await end(cluster, pod, "Failed", 42)
    failed = condition(cluster, "Failed")
    assert failed["reason"] == "PodFailurePolicy"
    assert failed["message"] == (
        f"Container c for pod default/{pod['metadata']['name']} failed with exit code 42 matching "
        "FailJob rule at index 1"
    )


async def test_success_policy(cluster):
    await start(
        cluster, completions=3, parallelism=3, completionMode="Indexed",
        successPolicy={"rules": [{"succeededIndexes": "1"}]},
    )  # fmt: skip
    by_index = {p["spec"]["hostname"]: p for p in pods(cluster)}
    await end(cluster, by_index["j-1"], "Succeeded")
    assert condition(cluster, "SuccessCriteriaMet")["message"] == "Matched rules at index 0"
    await cluster.advance(1)
    assert condition(cluster, "Complete")["reason"] == "SuccessPolicy"


async def test_parallelism_can_be_lowered(cluster):
    await start(cluster, completions=5, parallelism=3)
    new = copy_object(cluster.client.current(JOBS, "j", "default"))
    new["spec"]["parallelism"] = 1
    await cluster.client.update(JOBS, new)
    await cluster.settle()
    assert len(pods(cluster)) == 1
    assert "failed" not in status(cluster)


async def test_pods_of_a_deleted_job_lose_their_finalizer(cluster):
    await start(cluster, completions=1)
    cluster.client.remove(JOBS, "j", "default")
    await cluster.settle()
    assert not any(p["metadata"].get("finalizers") for p in cluster.client.objects(PODS))


async def test_finished_job_is_left_alone(cluster):
    await start(cluster, completions=1)
    await end(cluster, pods(cluster)[0], "Succeeded")
    cluster.client.actions.clear()
    await cluster.advance(3600)
    assert cluster.client.writes() == []


@given(st.sets(st.integers(0, 40)))
def test_indexes_text_round_trip(numbers):
    assert parse(format_indexes(numbers), 100) == numbers


def test_indexes_text():
    assert format_indexes([0, 1, 3, 4, 5, 9]) == "0,1,3-5,9"
    assert parse("0-9,x,12", 5) == {0, 1, 2, 3, 4}
