"""The manager: which controllers run, start and stop, leader election, flags."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from pilothouse.apimachinery.testing import make_node, make_object, make_service, make_workload
from pilothouse.controllermanager import config
from pilothouse.controllermanager.config import ControllerManagerConfig
from pilothouse.controllermanager.manager import CONTROLLERS, ControllerManager, is_enabled
from pilothouse.kubeclient.resources import (
    DEPLOYMENTS,
    ENDPOINT_SLICES,
    LEASES,
    NAMESPACES,
    PODS,
    REPLICA_SETS,
    SERVICE_ACCOUNTS,
    SERVICES,
)


def parsed(*arguments):
    parser = argparse.ArgumentParser()
    config.add_flags(parser)
    return config.from_args(parser.parse_args(arguments))


def test_flags(tmp_path):
    ca = tmp_path / "ca.crt"
    ca.write_text("PEM")
    made = parsed(
        "--controllers=*,-garbagecollector", "--leader-elect", "--concurrent-gc-syncs=3",
        "--node-monitor-grace-period=1m10s", "--leader-elect-lease-duration=20s",
        f"--root-ca-file={ca}",
    )  # fmt: skip
    assert made.controllers == ("*", "-garbagecollector")
    assert (made.leader_elect, made.concurrent_gc_syncs, made.root_ca) == (True, 3, "PEM")
    assert (made.node_monitor_grace_period, made.leader_elect_lease_duration) == (70.0, 20.0)
    assert parsed() == ControllerManagerConfig()


def test_unknown_controllers_are_refused():
    with pytest.raises(ValueError, match="not in the list of known controllers"):
        parsed("--controllers=nonsense")


def test_enabled():
    by_name = {entry.name: entry for entry in CONTROLLERS}
    deployment = by_name["deployment-controller"]
    assert is_enabled(deployment, ("*",))
    assert not is_enabled(deployment, ("*", "-deployment"))
    assert is_enabled(deployment, ("deployment-controller",))
    assert not is_enabled(deployment, ("replicaset",))


async def test_all_controllers_together(world):
    config = ControllerManagerConfig(
        ("*", "bootstrapsigner", "tokencleaner"), root_ca="PEM",
        cluster_signing_cert_file="ca.crt", cluster_signing_key_file="ca.key",
        local_path_root="/nowhere", service_account_private_key_file="sa.key",
        allocate_node_cidrs=True, cluster_cidr="10.244.0.0/16",
    )  # fmt: skip
    manager = ControllerManager(world.env, config)
    await world.run(manager)
    assert len(manager.controllers) == len(CONTROLLERS)
    assert manager.health() is None
    await world.client.create(NAMESPACES, make_object("v1", "Namespace", "default"))
    await world.client.create(
        SERVICES, make_service("web", spec={"clusterIP": "10.0.0.1"}), "default"
    )
    world.client.seed(make_node("node"))
    await world.client.create(DEPLOYMENTS, make_workload("Deployment", "web"), "default")
    await world.settle()
    await world.run_pods()
    (piece,) = world.client.objects(ENDPOINT_SLICES)
    assert piece["endpoints"][0]["conditions"]["ready"]
    assert world.client.current(SERVICE_ACCOUNTS, "default", "default")
    await world.client.delete(DEPLOYMENTS, "web", "default")
    await world.settle()
    assert world.client.objects(REPLICA_SETS) == [] and world.client.objects(PODS) == []
    world.client.actions.clear()
    await world.advance(45)
    assert world.client.writes() == []


async def test_stopped_manager_leaves_nothing_behind(world):
    manager = ControllerManager(world.env, ControllerManagerConfig())
    await manager.start()
    await manager.stop()
    await world.settle()
    assert world.activity.busy() == []
    await world.client.create(DEPLOYMENTS, make_workload("Deployment", "web"), "default")
    await world.settle()
    assert world.client.objects(REPLICA_SETS) == []


async def test_leader_election(world):
    settings = ControllerManagerConfig(leader_elect=True, controllers=("deployment",))
    one, two = (ControllerManager(world.env, settings) for _ in range(2))
    await one.start()
    await world.clock.advance_through(0.1)
    assert len(one.controllers) == 1
    await two.start()
    await world.clock.advance_through(30)
    assert two.controllers == []
    await one.stop()
    lease = world.client.current(LEASES, "kube-controller-manager", "kube-system")
    assert lease["spec"]["holderIdentity"] == ""
    await world.clock.advance_through(5)
    assert len(two.controllers) == 1
    await two.stop()


async def test_own_client_for_each_controller(world):
    users = []

    def client_for(user):
        users.append(user)
        return world.client

    world.env.extra["client_for"] = client_for
    settings = ControllerManagerConfig(
        controllers=("daemonset",), use_service_account_credentials=True
    )
    await world.run(ControllerManager(world.env, settings))
    assert users == ["system:serviceaccount:kube-system:daemon-set-controller"]


def test_every_controller_has_a_role():
    """Each acts as a service account that a bootstrap role is bound to."""
    root = Path(__file__).parents[2]
    policy = (root / "apiserver/authorization/bootstrap_policy.json").read_text()
    for entry in CONTROLLERS:
        role = f'"system:controller:{entry.account or entry.name}"'
        assert not entry.own_account or role in policy, entry.name
