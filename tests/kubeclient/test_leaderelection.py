"""Two candidates, one lease, a clock that stands still."""

from __future__ import annotations

from random import Random

import pytest

from pilothouse.apimachinery.testing import FakeClock
from pilothouse.componentbase.tasks import TaskOwner
from pilothouse.kubeclient.leaderelection import LeaderElectionConfig, LeaderElector
from pilothouse.kubeclient.resources import LEASES
from pilothouse.kubeclient.testing import FakeClient


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def client(clock):
    return FakeClient(clock=clock)


def candidate(client, clock, identity, **options):
    return LeaderElector(
        client, LeaderElectionConfig("lock", identity, **options), clock=clock, random=Random(1)
    )


def lease(client):
    return client.current(LEASES, "lock", "kube-system")


async def test_first_come_leads_and_renews_without_reading(client, clock):
    one = candidate(client, clock, "one")
    assert await one.try_acquire_or_renew()
    assert lease(client)["spec"]["holderIdentity"] == "one"
    assert lease(client)["spec"]["leaseDurationSeconds"] == 15
    clock.advance(2)
    acquired = lease(client)["spec"]["acquireTime"]
    assert await one.try_acquire_or_renew()
    assert lease(client)["spec"]["acquireTime"] == acquired
    assert lease(client)["spec"]["renewTime"] > acquired
    assert lease(client)["spec"]["leaseTransitions"] == 0


async def test_second_waits_until_it_saw_no_renewal_for_the_duration(client, clock):
    one, two = (candidate(client, clock, name) for name in ("one", "two"))
    await one.try_acquire_or_renew()
    assert not await two.try_acquire_or_renew()
    clock.advance(14)
    assert await one.try_acquire_or_renew()
    assert not await two.try_acquire_or_renew()
    clock.advance(14)
    assert not await two.try_acquire_or_renew()
    clock.advance(2)
    assert await two.try_acquire_or_renew()
    assert lease(client)["spec"]["leaseTransitions"] == 1
    assert not await one.try_acquire_or_renew()
    assert not one.is_leader and one.leader == "two"


async def test_released_lease_is_taken_at_once(client, clock):
    one, two = (candidate(client, clock, name) for name in ("one", "two"))
    await one.try_acquire_or_renew()
    await one.release()
    assert await two.try_acquire_or_renew()


async def test_renew_gives_up_after_its_deadline(client, clock):
    one = candidate(client, clock, "one")
    await one.acquire()
    client.react("*", "*", lambda action: (_ for _ in ()).throw(ConnectionError("gone")))
    tasks = TaskOwner("test")
    task = tasks.start(one.renew(), "renew")
    await clock.advance_through(9)
    assert not task.done()
    await clock.advance_through(2)
    assert task.done()
    await tasks.close()


async def test_conflict_is_no_leadership(client, clock):
    one, two = (candidate(client, clock, name) for name in ("one", "two"))
    await one.try_acquire_or_renew()
    clock.advance(16)
    await two.try_acquire_or_renew()
    clock.advance(16)
    assert await two.try_acquire_or_renew()
    assert not await one.try_acquire_or_renew()


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"lease_duration": 10.0}, "leaseDuration must be greater than renewDeadline"),
        (
            {"renew_deadline": 2.0},
            "renewDeadline must be greater than retryPeriod*JitterFactor",
        ),
    ],
)
def test_impossible_settings_are_refused(client, clock, options, text):
    with pytest.raises(ValueError, match=text.replace("*", r"\*")):
        candidate(client, clock, "one", **options)
