"""A kubelet with all its parts, for a cluster in one process and for ``pilothouse kubelet``."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from pilothouse.apimachinery.object import Obj
from pilothouse.kubeclient.interfaces import Environment
from pilothouse.kubeclient.record import EventRecorder
from pilothouse.kubeclient.resources import SERVICES
from pilothouse.kubeclient.workqueue.rate_limiters import TokenBucket
from pilothouse.kubelet.config import KubeletConfig
from pilothouse.kubelet.environment import EnvironmentMaker
from pilothouse.kubelet.kubelet import Kubelet
from pilothouse.kubelet.lifecycle_hooks import HookRunner
from pilothouse.kubelet.node_status import Machine, read_machine
from pilothouse.kubelet.probes.manager import ProbeManager
from pilothouse.kubelet.probes.pretend import PretendGetter, PretendProber
from pilothouse.kubelet.probes.prober import HTTPGetter, Prober
from pilothouse.kubelet.runtime.handlers import HANDLERS
from pilothouse.kubelet.volumes.claims import ClaimVolumes
from pilothouse.kubelet.volumes.manager import VolumeManager
from pilothouse.kubelet.volumes.projected import ObjectVolumes

if TYPE_CHECKING:
    from pilothouse.kubelet.plugins.node_devices import NodeDevices


def make_kubelet(
    env: Environment,
    config: KubeletConfig,
    runtime: Any,
    images: Any,
    *,
    machine: Machine | None = None,
    real: bool = True,
    http: HTTPGetter | None = None,
) -> Kubelet:
    """``env.client`` acts as the node. ``real`` false: containers read no files, serve nothing."""
    machine = machine or read_machine()
    getter = http or (HTTPGetter() if real else PretendGetter())
    prober = Prober(runtime, getter) if real else PretendProber(runtime, getter)

    def allocatable() -> dict[str, str]:
        return {
            "cpu": config.cpu_capacity or str(machine.cpus),
            "memory": config.memory_capacity or str(machine.memory_bytes),
            "ephemeral-storage": str(machine.disk_bytes),
        }

    objects = ObjectVolumes(
        env.client, env.clock, allocatable=allocatable, host_ip=config.node_ip,
        node_name=config.node_name,
    )  # fmt: skip
    volumes = VolumeManager(
        config.root_dir,
        objects,
        cluster_dns=config.cluster_dns,
        cluster_domain=config.cluster_domain,
        real_files=real,
        claims=ClaimVolumes(env.client),
        memory=runtime if hasattr(runtime, "mount_tmpfs") else None,
        node_memory=machine.memory_bytes,
    )
    environments = EnvironmentMaker(
        env.client, services=linked_services(env), allocatable=allocatable, host_ip=config.node_ip
    )
    recorder = node_recorder(env, config)
    holder: list[Kubelet] = []
    probes = ProbeManager(
        prober, recorder, env.clock, env.random, lambda uid: holder[0].probe_changed(uid)
    )
    kubelet = Kubelet(
        env,
        config,
        runtime,
        images,
        volumes=volumes,
        environments=environments,
        hooks=HookRunner(runtime, getter, env.clock),
        probes=probes,
        machine=machine,
        recorder=recorder,
        runtime_handlers=HANDLERS if real else None,
        devices=_devices(env, config, holder) if real else None,
    )
    holder.append(kubelet)
    return kubelet


def _devices(env: Environment, config: KubeletConfig, holder: list[Kubelet]) -> NodeDevices:
    # Pretended nodes have no plugins: their clusters start without these modules.
    from pilothouse.kubelet.plugins.node_devices import NodeDevices

    return NodeDevices(
        env,
        config.node_name,
        config.root_dir,
        kick=lambda uid: holder[0].workers.kick(uid),
        capacity_changed=lambda: holder[0].registration.status_changed(),
    )


def node_recorder(env: Environment, config: KubeletConfig) -> EventRecorder:
    return EventRecorder(
        env.client,
        "kubelet",
        clock=env.clock,
        random=env.random,
        activity=env.activity,
        host=config.node_name,
        rate=TokenBucket(config.event_qps, config.event_burst, env.clock),
    )


def linked_services(env: Environment) -> Callable[[str], list[Obj]]:
    """By namespace: the Services whose addresses its pods get as variables."""
    services = env.informers.informer(SERVICES)

    def of(namespace: str) -> list[Obj]:
        listed = list(services.list(namespace))
        kubernetes = services.get("default/kubernetes")
        if kubernetes is not None and namespace != "default":
            listed.append(kubernetes)
        return listed

    return of
