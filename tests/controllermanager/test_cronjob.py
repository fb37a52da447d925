"""CronJobs: schedules, missed moments, concurrency, history; and TTL of finished Jobs."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from pilothouse.apimachinery.object import copy_object
from pilothouse.apimachinery.testing import make_container, make_object
from pilothouse.apimachinery.timefmt import format_time
from pilothouse.controllermanager.cronjob.controller import CronJobController
from pilothouse.controllermanager.cronjob.schedule import parse
from pilothouse.controllermanager.ttl_after_finished import TTLAfterFinishedController
from pilothouse.kubeclient.resources import CRON_JOBS, JOBS


@pytest.mark.parametrize(
    ("text", "zone", "after", "expected"),
    [
        ("*/5 * * * *", "", "2026-01-01T00:00:00", "2026-01-01T00:05:00"),
        ("*/5 * * * *", "", "2026-01-01T00:04:59", "2026-01-01T00:05:00"),
        ("0 12 * * *", "", "2026-01-01T13:00:00", "2026-01-02T12:00:00"),
        ("30 4 1 jan *", "", "2026-01-02T00:00:00", "2027-01-01T04:30:00"),
        ("0 0 * * mon", "", "2026-01-01T00:00:00", "2026-01-05T00:00:00"),
        ("0 0 13 * 5", "", "2026-01-01T00:00:00", "2026-01-02T00:00:00"),
        ("0 0 29 2 *", "", "2026-01-01T00:00:00", "2028-02-29T00:00:00"),
        ("@hourly", "", "2026-01-01T00:30:00", "2026-01-01T01:00:00"),
        ("@every 90s", "", "2026-01-01T00:00:00", "2026-01-01T00:01:30"),
        ("0 9 * * *", "Europe/Berlin", "2026-07-01T00:00:00", "2026-07-01T07:00:00"),
        ("TZ=America/New_York 0 9 * * *", "", "2026-01-01T00:00:00", "2026-01-01T14:00:00"),
        ("30 2 * * *", "Europe/Berlin", "2026-03-29T00:00:00", "2026-03-30T00:30:00"),
    ],
)
def test_next(text, zone, after, expected):
    moment = datetime.fromisoformat(after).replace(tzinfo=UTC)
    assert parse(text, zone).next(moment) == datetime.fromisoformat(expected).replace(tzinfo=UTC)


def test_never():
    assert parse("0 0 31 2 *").next(datetime(2026, 1, 1, tzinfo=UTC)) is None
    with pytest.raises(ValueError, match="expected exactly 5 fields"):
        parse("* *")


def cron_job(**spec):
    template = {
        "metadata": {"labels": {"x": "y"}},
        "spec": {"template": {"spec": {"containers": [make_container()]}}},
    }
    return make_object(
        "batch/v1", "CronJob", "c", "default", uid="cj",
        spec={"schedule": "*/10 * * * *", "concurrencyPolicy": "Allow", "jobTemplate": template,
              "successfulJobsHistoryLimit": 1, "failedJobsHistoryLimit": 1} | spec,
    )  # fmt: skip


@pytest.fixture
async def cluster(world):
    await world.run(CronJobController(world.env))
    return world


def jobs(world):
    return [j["metadata"]["name"] for j in world.client.objects(JOBS)]


async def end(world, name, kind="Complete"):
    job = copy_object(world.client.current(JOBS, name, "default"))
    now = format_time(world.clock.now())
    job["status"] = {
        "startTime": now,
        "completionTime": now,
        "conditions": [{"type": kind, "status": "True", "lastTransitionTime": now}],
    }
    world.client.seed(job)
    await world.settle()


def status(world):
    return world.client.current(CRON_JOBS, "c", "default")["status"]


async def test_a_job_at_each_moment(cluster):
    await cluster.client.create(CRON_JOBS, cron_job(), "default")
    await cluster.settle()
    assert jobs(cluster) == []
    await cluster.advance(601)
    (name,) = jobs(cluster)
    minutes = int(cluster.clock.time()) // 60
    assert name == f"c-{minutes}"
    job = cluster.client.current(JOBS, name, "default")
    assert job["metadata"]["labels"] == {"x": "y"}
    assert job["metadata"]["annotations"] == {
        "batch.kubernetes.io/cronjob-scheduled-timestamp": "2026-01-01T00:10:00Z"
    }
    assert status(cluster)["lastScheduleTime"] == "2026-01-01T00:10:00Z"
    assert [r["name"] for r in status(cluster)["active"]] == [name]
    assert ("Normal", "SuccessfulCreate", f"Created job {name}") in cluster.client.events()
    await end(cluster, name)
    assert "active" not in status(cluster)
    assert status(cluster)["lastSuccessfulTime"]
    message = f"Saw completed job: {name}, condition: Complete"
    assert ("Normal", "SawCompletedJob", message) in cluster.client.events()


async def test_history_limit(cluster):
    await cluster.client.create(CRON_JOBS, cron_job(), "default")
    await cluster.settle()
    for _ in range(3):
        await cluster.advance(600.2)
        await end(cluster, jobs(cluster)[-1])
    assert len(jobs(cluster)) == 1


@pytest.mark.parametrize(("policy", "count"), [("Allow", 2), ("Forbid", 1), ("Replace", 1)])
async def test_concurrency(cluster, policy, count):
    await cluster.client.create(CRON_JOBS, cron_job(concurrencyPolicy=policy), "default")
    await cluster.settle()
    await cluster.advance(601)
    first = jobs(cluster)
    await cluster.advance(600)
    assert len(jobs(cluster)) == count
    assert (jobs(cluster) == first) is (policy == "Forbid")


async def test_suspended_and_too_late(cluster):
    await cluster.client.create(
        CRON_JOBS, cron_job(suspend=True, startingDeadlineSeconds=60), "default"
    )
    await cluster.settle()
    await cluster.advance(900)
    assert jobs(cluster) == []
    new = copy_object(cluster.client.current(CRON_JOBS, "c", "default"))
    new["spec"]["suspend"] = False
    await cluster.client.update(CRON_JOBS, new)
    await cluster.settle()
    assert jobs(cluster) == []
    await cluster.advance(301)
    assert len(jobs(cluster)) == 1


async def test_only_the_last_of_many_missed_is_made_up_for(cluster):
    late = cron_job()
    late["metadata"]["creationTimestamp"] = "2025-12-01T00:00:00Z"
    cluster.client.seed(late)
    await cluster.settle()
    assert len(jobs(cluster)) == 1
    assert status(cluster)["lastScheduleTime"] == "2026-01-01T00:00:00Z"
    assert any(reason == "TooManyMissedTimes" for _, reason, _ in cluster.client.events())


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        ({"schedule": "x"}, "UnparseableSchedule"),
        ({"schedule": "59 23 31 2 *"}, "InvalidSchedule"),
        ({"timeZone": "No/Where"}, "UnknownTimeZone"),
    ],
)
async def test_bad_schedules_are_told(cluster, spec, reason):
    await cluster.client.create(CRON_JOBS, cron_job(**spec), "default")
    await cluster.settle()
    assert any(r == reason for _, r, _ in cluster.client.events())
    assert jobs(cluster) == []


async def test_finished_job_goes_after_its_ttl(world):
    await world.run(TTLAfterFinishedController(world.env))
    job = make_object("batch/v1", "Job", "j", "default", uid="j",
                      spec={"ttlSecondsAfterFinished": 30})  # fmt: skip
    world.client.seed(job)
    await world.advance(100)
    assert jobs(world) == ["j"]
    await end(world, "j")
    await world.advance(29)
    assert jobs(world) == ["j"]
    await world.advance(2)
    (delete,) = [a for a in world.client.actions if a.verb == "delete"]
    assert delete.object.propagation_policy == "Foreground"
