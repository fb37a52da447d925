"""Runs the controllers: the table of all of them, what is switched on, leader election.

Controllers start together: all register their handlers and informers first, then all wait for
the caches, then all begin to work. Their modules are imported when they are first needed.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pilothouse.componentbase.tasks import TaskOwner
from pilothouse.controllermanager.entry import Entry
from pilothouse.controllermanager.more_controllers import STORAGE_AND_MORE, WITHOUT_WORK

if TYPE_CHECKING:
    from pilothouse.componentbase.metrics import Registry
    from pilothouse.controllermanager.config import ControllerManagerConfig
    from pilothouse.controllermanager.controller import Controller
    from pilothouse.kubeclient.interfaces import Environment

log = logging.getLogger(__name__)


def _node_options(config: ControllerManagerConfig) -> dict[str, Any]:
    from pilothouse.controllermanager.zone_health import NodeLifecycleConfig

    return {
        "config": NodeLifecycleConfig(
            config.node_monitor_grace_period,
            config.node_startup_grace_period,
            config.node_eviction_rate,
            config.secondary_node_eviction_rate,
            config.large_cluster_size_threshold,
            config.unhealthy_zone_threshold,
        )
    }


def _signing_options(config: ControllerManagerConfig) -> dict[str, Any]:
    from pilothouse.controllermanager.certificates.signing import SignerFiles

    signers = {name: SignerFiles(*files) for name, files in config.signer_files().items()}
    return {"signers": signers, "duration": config.cluster_signing_duration}


def _autoscaler_options(config: ControllerManagerConfig) -> dict[str, Any]:
    return {
        "workers": config.concurrent_horizontal_pod_autoscaler_syncs,
        "sync_period": config.horizontal_pod_autoscaler_sync_period,
        "downscale_stabilization": config.horizontal_pod_autoscaler_downscale_stabilization,
        "tolerance": config.horizontal_pod_autoscaler_tolerance,
        "cpu_initialization_period": config.horizontal_pod_autoscaler_cpu_initialization_period,
        "initial_readiness_delay": config.horizontal_pod_autoscaler_initial_readiness_delay,
    }


CONTROLLERS = (
    Entry(
        "serviceaccount-controller",
        "serviceaccount",
        "ServiceAccountController",
        lambda c: {},
        ("serviceaccount",),
        account="service-account-controller",
    ),
    Entry(
        "root-ca-certificate-publisher-controller",
        "root_ca",
        "RootCAPublisher",
        lambda c: {"root_ca": c.root_ca},
        ("root-ca-cert-publisher",),
        account="root-ca-cert-publisher",
    ),
    Entry(
        "namespace-controller",
        "namespace",
        "NamespaceController",
        lambda c: {"workers": c.concurrent_namespace_syncs},
        ("namespace",),
    ),
    Entry(
        "deployment-controller",
        "deployment.controller",
        "DeploymentController",
        lambda c: {"workers": c.concurrent_deployment_syncs},
        ("deployment",),
    ),
    Entry(
        "replicaset-controller",
        "replicaset",
        "ReplicaSetController",
        lambda c: {"workers": c.concurrent_replicaset_syncs},
        ("replicaset",),
    ),
    Entry(
        "replicationcontroller-controller",
        "replicaset",
        "ReplicationControllerController",
        lambda c: {"workers": c.concurrent_rc_syncs},
        ("replicationcontroller",),
        account="replication-controller",
    ),
    Entry(
        "endpointslice-controller",
        "endpointslice",
        "EndpointSliceController",
        lambda c: {
            "workers": c.concurrent_service_endpoint_syncs,
            "maximum": c.max_endpoints_per_slice,
        },
        ("endpointslice",),
    ),
    Entry(
        "endpoints-controller",
        "endpoints",
        "EndpointsController",
        lambda c: {"workers": c.concurrent_endpoint_syncs},
        ("endpoint",),
        account="endpoint-controller",
    ),
    Entry(
        "endpointslice-mirroring-controller",
        "endpointslice_mirroring",
        "EndpointSliceMirroringController",
        lambda c: {"workers": c.mirroring_concurrent_service_endpoint_syncs},
        ("endpointslicemirroring",),
        account="endpointslicemirroring-controller",
    ),
    Entry(
        "node-lifecycle-controller",
        "node_lifecycle",
        "NodeLifecycleController",
        _node_options,
        ("nodelifecycle",),
        account="node-controller",
    ),
    Entry(
        "taint-eviction-controller",
        "taint_eviction",
        "TaintEvictionController",
        lambda c: {},
        account="node-controller",
    ),
    Entry(
        "pod-garbage-collector-controller",
        "pod_gc",
        "PodGCController",
        lambda c: {"threshold": c.terminated_pod_gc_threshold},
        ("podgc",),
        account="pod-garbage-collector",
    ),
    Entry(
        "validatingadmissionpolicy-status-controller",
        "validatingadmissionpolicystatus.controller",
        "ValidatingAdmissionPolicyStatusController",
        lambda c: {"workers": c.concurrent_validating_admission_policy_status_syncs},
        ("validatingadmissionpolicy-status",),
    ),
    Entry(
        "clusterrole-aggregation-controller",
        "clusterrole_aggregation",
        "ClusterRoleAggregationController",
        lambda c: {},
        ("clusterrole-aggregation",),
    ),
    Entry(
        "job-controller",
        "job.controller",
        "JobController",
        lambda c: {"workers": c.concurrent_job_syncs},
        ("job",),
    ),
    Entry(
        "daemonset-controller",
        "daemonset.controller",
        "DaemonSetController",
        lambda c: {"workers": c.concurrent_daemonset_syncs},
        ("daemonset",),
        account="daemon-set-controller",
    ),
    Entry(
        "statefulset-controller",
        "statefulset.controller",
        "StatefulSetController",
        lambda c: {"workers": c.concurrent_statefulset_syncs},
        ("statefulset",),
    ),
    Entry(
        "cronjob-controller",
        "cronjob.controller",
        "CronJobController",
        lambda c: {"workers": c.concurrent_cron_job_syncs},
        ("cronjob",),
    ),
    Entry(
        "ttl-after-finished-controller",
        "ttl_after_finished",
        "TTLAfterFinishedController",
        lambda c: {"workers": c.concurrent_ttl_after_finished_syncs},
        ("ttl-after-finished",),
    ),
    Entry(
        "horizontal-pod-autoscaler-controller",
        "horizontalpodautoscaler.controller",
        "HorizontalPodAutoscalerController",
        _autoscaler_options,
        ("horizontalpodautoscaling",),
        account="horizontal-pod-autoscaler",
    ),
    Entry(
        "disruption-controller",
        "disruption",
        "DisruptionController",
        lambda c: {},
        ("disruption",),
    ),
    Entry(
        "resourcequota-controller",
        "resource_quota",
        "ResourceQuotaController",
        lambda c: {
            "workers": c.concurrent_resource_quota_syncs,
            "sync_period": c.resource_quota_sync_period,
        },
        ("resourcequota",),
    ),
    Entry(
        "persistentvolumeclaim-protection-controller",
        "volume_protection",
        "ClaimProtectionController",
        lambda c: {},
        ("pvc-protection",),
        account="pvc-protection-controller",
    ),
    Entry(
        "persistentvolume-protection-controller",
        "volume_protection",
        "VolumeProtectionController",
        lambda c: {},
        ("pv-protection",),
        account="pv-protection-controller",
    ),
    Entry(
        "volumeattributesclass-protection-controller",
        "volume_protection",
        "AttributesClassProtectionController",
        lambda c: {},
    ),
    Entry(
        "certificatesigningrequest-signing-controller",
        "certificates.signing",
        "SigningController",
        _signing_options,
        ("csrsigning",),
        lambda c: bool(c.signer_files()),
        account="certificate-controller",
    ),
    Entry(
        "certificatesigningrequest-approving-controller",
        "certificates.approving",
        "ApprovingController",
        lambda c: {},
        ("csrapproving",),
        account="certificate-controller",
    ),
    Entry(
        "certificatesigningrequest-cleaner-controller",
        "certificates.cleaner",
        "CleanerController",
        lambda c: {},
        ("csrcleaner",),
        account="certificate-controller",
    ),
    Entry(
        "kube-apiserver-serving-clustertrustbundle-publisher-controller",
        "certificates.trust_bundle",
        "TrustBundlePublisher",
        lambda c: {"root_ca": c.root_ca},
        wanted=lambda c: bool(c.root_ca),
        account="kube-apiserver-serving-clustertrustbundle-publisher",
    ),
    Entry(
        "bootstrap-signer-controller",
        "bootstrap.signer",
        "BootstrapSigner",
        lambda c: {},
        ("bootstrapsigner",),
        account="bootstrap-signer",
        by_default=False,
    ),
    Entry(
        "token-cleaner-controller",
        "bootstrap.cleaner",
        "TokenCleaner",
        lambda c: {},
        ("tokencleaner",),
        account="token-cleaner",
        by_default=False,
    ),
    *STORAGE_AND_MORE,
    Entry(
        "garbage-collector-controller",
        "garbage_collector.collector",
        "GarbageCollector",
        lambda c: {"workers": c.concurrent_gc_syncs},
        ("garbagecollector",),
        lambda c: c.enable_garbage_collector,
        account="generic-garbage-collector",
    ),
)


def known_names() -> frozenset[str]:
    ours = {name for entry in CONTROLLERS for name in (entry.name, *entry.aliases)}
    return frozenset(ours | set(WITHOUT_WORK) | set(WITHOUT_WORK.values()))


def is_enabled(entry: Entry, controllers: tuple[str, ...]) -> bool:
    """A name wins over ``*``, the first mention of a controller over later ones."""
    names = (entry.name, *entry.aliases)
    for item in controllers:
        if item in names:
            return True
        if item.startswith("-") and item[1:] in names:
            return False
    return entry.by_default and "*" in controllers


class ControllerManager:
    """A Component: all enabled controllers of one cluster.

    ``env.extra["client_for"]``, if given, makes a client for a user name; with
    ``use_service_account_credentials`` each controller gets one of its own.
    """

    name = "controller-manager"

    def __init__(self, env: Environment, config: ControllerManagerConfig) -> None:
        self._env = env
        self._config = config
        self._tasks = TaskOwner(self.name)
        self._problem = ""
        self.controllers: list[Controller] = []

    async def start(self) -> None:
        """Returns when the controllers work, or, with leader election, when it stands for
        election."""
        if self._config.leader_elect:
            self._tasks.start(self._lead(), "leader-election")
        else:
            await self._start_controllers()

    async def stop(self) -> None:
        await self._tasks.close()
        await self._stop_controllers()

    def metrics_registry(self) -> Registry:
        """/metrics of the health port."""
        from pilothouse.controllermanager.metrics import queue_metrics

        registry = queue_metrics(lambda: (c.queue for c in self.controllers))
        for controller in self.controllers:
            registry.add(*controller.own_metrics)
        return registry

    def health(self) -> str | None:
        if self._problem:
            return self._problem
        for controller in self.controllers:
            if controller.crashed:
                return f"{controller.name}: {controller.crashed}"
        return None

    async def _start_controllers(self) -> None:
        for entry in CONTROLLERS:
            if entry.wanted(self._config) and is_enabled(entry, self._config.controllers):
                self.controllers.append(entry.make(self._env_for(entry), self._config))
        for controller in self.controllers:
            controller.begin()
        for controller in self.controllers:
            await controller.wait_synced()
        for controller in self.controllers:
            controller.start_workers()

    def _env_for(self, entry: Entry) -> Environment:
        client_for = self._env.extra.get("client_for")
        own = entry.own_account and self._config.use_service_account_credentials
        if client_for is None or not own:
            return self._env
        user = f"system:serviceaccount:kube-system:{entry.account or entry.name}"
        return replace(self._env, client=client_for(user))

    async def _stop_controllers(self) -> None:
        for controller in reversed(self.controllers):
            await controller.stop()
        self.controllers.clear()

    async def _lead(self) -> None:
        """Runs the controllers while this process leads; a lost lease ends it for good, as
        upstream's process exits (the supervisor starts it anew)."""
        import socket

        from pilothouse.kubeclient.leaderelection import LeaderElectionConfig, LeaderElector
        from pilothouse.kubeclient.record import EventRecorder

        config, env = self._config, self._env
        recorder = EventRecorder(
            env.client,
            "kube-controller-manager",
            clock=env.clock,
            random=env.random,
            activity=env.activity,
        )
        elector = LeaderElector(
            env.client,
            LeaderElectionConfig(
                name=config.leader_elect_resource_name,
                identity=f"{socket.gethostname()}_{env.random.getrandbits(128):032x}",
                namespace=config.leader_elect_resource_namespace,
                lease_duration=config.leader_elect_lease_duration,
                renew_deadline=config.leader_elect_renew_deadline,
                retry_period=config.leader_elect_retry_period,
            ),
            clock=env.clock,
            random=env.random,
            recorder=recorder,
        )
        try:
            await elector.acquire()
            await self._start_controllers()
            await elector.renew()
            self._problem = "leaderelection lost"
            env.extra.get("leadership_lost", lambda: None)()
            log.error("leaderelection lost")
        finally:
            await self._stop_controllers()
            await elector.release()
            await recorder.close()
