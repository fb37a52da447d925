"""A cluster whose time stands still until it is moved: a month of CronJobs and TTLs, dead nodes."""

from __future__ import annotations

import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from pilothouse import Cluster
from pilothouse.apimachinery.timefmt import parse_time
from pilothouse.apimachinery.virtual_clock import VirtualClock
from pilothouse.cluster.config import ConfigError
from pilothouse.kubeclient.resources import (
    CRON_JOBS,
    EVENTS,
    JOBS,
    LEASES,
    NODES,
    PODS,
)

START = datetime(2026, 10, 10, 0, 0, 30, tzinfo=UTC)  # Europe leaves summer time on the 25th
HOUR = 3600
MONTH = timedelta(days=30)


def job_spec(seconds: int, ttl: int | None) -> dict[str, Any]:
    container = {"name": "c", "image": "busybox", "command": ["sleep", str(seconds)]}
    return {
        "backoffLimit": 0,
        **({} if ttl is None else {"ttlSecondsAfterFinished": ttl}),
        "template": {"spec": {"restartPolicy": "Never", "containers": [container]}},
    }


def cron_job(
    name: str, schedule: str, *, seconds: int = 60, ttl: int | None = None, **spec: Any
) -> dict[str, Any]:
    return {
        "apiVersion": "batch/v1", "kind": "CronJob", "metadata": {"name": name},
        "spec": {
            "schedule": schedule, "jobTemplate": {"spec": job_spec(seconds, ttl)},
            "successfulJobsHistoryLimit": 2, "failedJobsHistoryLimit": 1, **spec,
        },
    }  # fmt: skip


class Starts:
    """When the Jobs of each CronJob were started, as a watch saw it."""

    def __init__(self) -> None:
        self.of: dict[str, list[datetime]] = {}

    async def follow(self, cluster: Cluster) -> None:
        informer = cluster.core._informers.informer(JOBS)
        informer.add_handler(self._added)

    def _added(self, job: dict[str, Any]) -> None:
        owner = job["metadata"]["ownerReferences"][0]["name"]
        self.of.setdefault(owner, []).append(parse_time(job["metadata"]["creationTimestamp"]))


async def test_a_month_of_cron_jobs_and_ttls_takes_less_than_two_seconds() -> None:
    """The whole cluster, its node included."""
    starts = Starts()
    async with Cluster(clock=VirtualClock(START), seed=1) as cluster:
        await starts.follow(cluster)
        for made in (
            cron_job("berlin", "0 6 */3 * *", timeZone="Europe/Berlin", ttl=2 * HOUR),
            cron_job("forbid", "0 */12 * * 3", seconds=13 * HOUR, concurrencyPolicy="Forbid",
                     startingDeadlineSeconds=600),
            cron_job("replace", "30 12 * * 1-3", seconds=100 * HOUR, concurrencyPolicy="Replace"),
            cron_job("asleep", "0 3 */5 * *", suspend=True, startingDeadlineSeconds=HOUR),
        ):  # fmt: skip
            await cluster.client.create(CRON_JOBS, made, "default")
        began = time.process_time()
        await cluster.advance(timedelta(days=10), heartbeats=False)
        await cluster.client.patch(
            CRON_JOBS, "asleep", {"spec": {"suspend": False}}, "application/merge-patch+json",
            "default",
        )  # fmt: skip
        await cluster.advance(MONTH - timedelta(days=10), heartbeats=False)
        assert time.process_time() - began < 2.0
        assert cluster.now == START + MONTH
        jobs = (await cluster.client.list(JOBS, "default")).items
        pods = (await cluster.client.list(PODS, "default")).items
    days = {name: [(d.day, d.hour) for d in found] for name, found in starts.of.items()}
    assert days == {
        "berlin": [(d, 4) for d in (10, 13, 16, 19, 22)] + [(d, 5) for d in (25, 28, 31, 1, 4, 7)],
        # The run at midnight still goes on at noon; it ends too late for the one at noon.
        "forbid": [(14, 0), (21, 0), (28, 0), (4, 0)],
        "replace": [(d, 12) for d in (12, 13, 14, 19, 20, 21, 26, 27, 28, 2, 3, 4)],
        "asleep": [(d, 3) for d in (21, 26, 31, 1, 6)],
    }
    left = Counter(job["metadata"]["ownerReferences"][0]["name"] for job in jobs)
    # The history keeps two; a Job with a time to live is gone two hours after its end.
    assert left == {"forbid": 2, "replace": 2, "asleep": 2}
    uids = {job["metadata"]["uid"] for job in jobs}
    assert {pod["metadata"]["ownerReferences"][0]["uid"] for pod in pods} == uids


async def test_every_timer_has_its_own_moment() -> None:
    async with Cluster(clock=VirtualClock(START)) as cluster:
        lease = await cluster.client.get(LEASES, "pilothouse-1", "kube-node-lease")
        await cluster.advance(65)
        later = await cluster.client.get(LEASES, "pilothouse-1", "kube-node-lease")
        renewed = [parse_time(x["spec"]["renewTime"]) for x in (lease, later)]
        assert renewed == [START, START + timedelta(seconds=60)]
        assert cluster.now == START + timedelta(seconds=65)


async def test_a_silent_node_loses_its_pods_at_the_second() -> None:
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"},
           "spec": {"containers": [{"name": "c", "image": "busybox"}]}}  # fmt: skip
    async with Cluster(clock=VirtualClock(START), nodes=2, seed=1) as cluster:
        await cluster.client.create(PODS, pod, "default")
        await cluster.settle()
        found = await cluster.client.get(PODS, "p", "default")
        name = found["spec"]["nodeName"]
        kubelets = [c for c in cluster.core._components if c.name.startswith("kubelet")]
        await next(k for k in kubelets if name in k.name).stop()
        await cluster.advance(45)
        assert await ready_status(cluster, name) == "True"
        await cluster.advance(10)
        assert await ready_status(cluster, name) == "Unknown"
        await cluster.advance(290)
        found = await cluster.client.get(PODS, "p", "default")
        assert "deletionTimestamp" not in found["metadata"]
        await cluster.advance(15)
        found = await cluster.client.get(PODS, "p", "default")
        assert "deletionTimestamp" in found["metadata"]


async def test_pods_of_a_node_that_comes_back_are_ready_again() -> None:
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"},
           "spec": {"containers": [{"name": "c", "image": "busybox"}]}}  # fmt: skip
    async with Cluster(clock=VirtualClock(START), seed=1) as cluster:
        await cluster.client.create(PODS, pod, "default")
        await cluster.settle()
        found = await cluster.client.get(PODS, "p", "default")
        status = {"conditions": [{"type": "Ready", "status": "False"}]}  # as node lifecycle does
        await cluster.client.patch(
            PODS, "p", {"status": status}, "application/strategic-merge-patch+json", "default",
            subresource="status",
        )  # fmt: skip
        await cluster.settle()
        again = await cluster.client.get(PODS, "p", "default")
    before, after = ({c["type"]: c["status"] for c in p["status"]["conditions"]}
                     for p in (found, again))  # fmt: skip
    assert before == after and after["Ready"] == "True"


async def ready_status(cluster: Cluster, name: str) -> str:
    node = await cluster.client.get(NODES, name)
    return next(c["status"] for c in node["status"]["conditions"] if c["type"] == "Ready")


def test_events_expire_and_the_synchronous_cluster_can_be_moved_too() -> None:
    with Cluster(clock="virtual") as cluster:
        before = cluster.now
        cluster.client.create(CRON_JOBS, cron_job("each", "* * * * *"), "default")
        cluster.advance(120.0)
        assert cluster.now - before == timedelta(seconds=120)
        events = cluster.client.list(EVENTS, "default").items
        assert "SuccessfulCreate" in {event["reason"] for event in events}
        cluster.client.delete(CRON_JOBS, "each", "default")
        cluster.advance(timedelta(hours=2), heartbeats=False)
        # A node without heartbeats may have said something in the last hour.
        left = cluster.client.list(EVENTS, "default").items
        assert [e for e in left if e["involvedObject"]["kind"] != "Node"] == []


def test_a_real_clock_can_not_be_advanced() -> None:
    with Cluster(components=("apiserver",)) as cluster, pytest.raises(TypeError, match="virtual"):
        cluster.advance(1)
    with pytest.raises(ConfigError, match="fast"):
        Cluster(clock="fast")
