"""Leader election of schedulers: only one of several schedules."""

from __future__ import annotations

import socket
from collections.abc import Awaitable, Callable

from pilothouse.kubeclient.interfaces import Environment
from pilothouse.kubeclient.leaderelection import LeaderElectionConfig, LeaderElector
from pilothouse.kubeclient.record import EventRecorder
from pilothouse.scheduler.config import SchedulerConfig


class LeadershipLost(Exception):
    """Another one leads now; this process must not go on."""


async def lead(
    env: Environment,
    config: SchedulerConfig,
    begin: Callable[[], Awaitable[None]],
    end: Callable[[], None],
) -> None:
    """Calls ``begin`` once elected, ``end`` at the end.

    :raises LeadershipLost: as upstream's process would exit.
    """
    recorder = EventRecorder(
        env.client, "default-scheduler", clock=env.clock, random=env.random, activity=env.activity
    )
    elector = LeaderElector(
        env.client,
        LeaderElectionConfig(
            name=config.leader_elect_name,
            identity=f"{socket.gethostname()}_{env.random.getrandbits(128):032x}",
            namespace=config.leader_elect_namespace,
        ),
        clock=env.clock,
        random=env.random,
        recorder=recorder,
    )
    try:
        await elector.acquire()
        await begin()
        await elector.renew()
        env.extra.get("leadership_lost", lambda: None)()
        raise LeadershipLost("leaderelection lost")
    finally:
        end()
        await elector.release()
        await recorder.close()
