"""Settings of the controller manager, with kube-controller-manager's flag names."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

from pilothouse.apimachinery.timefmt import format_duration, parse_duration


@dataclass(frozen=True, slots=True)
class ControllerManagerConfig:
    """Field names are the flags in snake_case; durations are seconds."""

    controllers: tuple[str, ...] = ("*",)
    """``*`` is all that are on by default, ``foo`` adds one, ``-foo`` leaves one out."""
    root_ca: str = ""
    """PEM text that is published in each namespace (--root-ca-file)."""
    leader_elect: bool = False
    leader_elect_lease_duration: float = 15.0
    leader_elect_renew_deadline: float = 10.0
    leader_elect_retry_period: float = 2.0
    leader_elect_resource_name: str = "kube-controller-manager"
    leader_elect_resource_namespace: str = "kube-system"
    use_service_account_credentials: bool = False
    """Each controller acts as ``system:serviceaccount:kube-system:<controller>``."""
    concurrent_deployment_syncs: int = 5
    concurrent_replicaset_syncs: int = 5
    concurrent_rc_syncs: int = 5
    concurrent_endpoint_syncs: int = 5
    concurrent_service_endpoint_syncs: int = 5
    mirroring_concurrent_service_endpoint_syncs: int = 5
    concurrent_namespace_syncs: int = 10
    concurrent_gc_syncs: int = 20
    concurrent_serviceaccount_token_syncs: int = 5
    concurrent_resource_quota_syncs: int = 5
    concurrent_job_syncs: int = 5
    concurrent_daemonset_syncs: int = 2
    concurrent_statefulset_syncs: int = 5
    concurrent_cron_job_syncs: int = 5
    concurrent_ttl_after_finished_syncs: int = 5
    concurrent_validating_admission_policy_status_syncs: int = 5
    enable_garbage_collector: bool = True
    terminated_pod_gc_threshold: int = 12500
    max_endpoints_per_slice: int = 100
    node_monitor_grace_period: float = 50.0
    node_startup_grace_period: float = 60.0
    node_eviction_rate: float = 0.1
    secondary_node_eviction_rate: float = 0.01
    large_cluster_size_threshold: int = 50
    unhealthy_zone_threshold: float = 0.55
    resource_quota_sync_period: float = 300.0
    concurrent_ephemeralvolume_syncs: int = 5
    concurrent_horizontal_pod_autoscaler_syncs: int = 5
    horizontal_pod_autoscaler_sync_period: float = 15.0
    horizontal_pod_autoscaler_downscale_stabilization: float = 300.0
    horizontal_pod_autoscaler_tolerance: float = 0.1
    horizontal_pod_autoscaler_cpu_initialization_period: float = 300.0
    horizontal_pod_autoscaler_initial_readiness_delay: float = 30.0
    pvclaimbinder_sync_period: float = 15.0
    concurrent_service_cidr_syncs: int = 5
    concurrent_resource_claim_syncs: int = 50
    concurrent_device_taint_eviction_syncs: int = 8
    service_account_private_key_file: str = ""
    legacy_service_account_token_clean_up_period: float = 8760 * 3600.0
    allocate_node_cidrs: bool = False
    cluster_cidr: str = ""
    node_cidr_mask_size: int = 24
    service_cluster_ip_range: str = ""
    local_path_root: str = ""
    """Where nodes keep the directories of local-path volumes: ``<root>/<node>/local-path``."""
    cluster_signing_cert_file: str = ""
    cluster_signing_key_file: str = ""
    cluster_signing_duration: float = 365 * 24 * 3600.0
    """The longest, and without a wish of the request the, lifetime of signed certificates."""
    cluster_signing_kubelet_serving_cert_file: str = ""
    cluster_signing_kubelet_serving_key_file: str = ""
    cluster_signing_kubelet_client_cert_file: str = ""
    cluster_signing_kubelet_client_key_file: str = ""
    cluster_signing_kube_apiserver_client_cert_file: str = ""
    cluster_signing_kube_apiserver_client_key_file: str = ""
    cluster_signing_legacy_unknown_cert_file: str = ""
    cluster_signing_legacy_unknown_key_file: str = ""

    def signer_files(self) -> dict[str, tuple[str, str]]:
        """Certificate and key file of each signer of CertificateSigningRequests that has any.
        Files of one signer's own switch those for all of them off."""
        common = (self.cluster_signing_cert_file, self.cluster_signing_key_file)
        own = {
            f"kubernetes.io/{signer}": (
                getattr(self, f"cluster_signing_{flag}_cert_file"),
                getattr(self, f"cluster_signing_{flag}_key_file"),
            )
            for signer, flag in _SIGNERS.items()
        }
        specific = {signer: files for signer, files in own.items() if any(files)}
        if specific or not all(common):
            return specific
        return dict.fromkeys(own, common)

    def validate(self) -> None:
        """:raises ValueError: with upstream's text."""
        from pilothouse.controllermanager.manager import known_names

        known = known_names()
        for name in self.controllers:
            if name != "*" and name.removeprefix("-") not in known:
                listed = ", ".join(sorted(known))
                raise ValueError(f'"{name}" is not in the list of known controllers [{listed}]')
        if self.max_endpoints_per_slice < 1 or self.max_endpoints_per_slice > 1000:
            raise ValueError(
                "MaxEndpointsPerSlice must be between 1 and 1000, "
                f"but got {self.max_endpoints_per_slice}"
            )
        if self.allocate_node_cidrs and not self.cluster_cidr:
            raise ValueError("no ClusterCIDR specified; required for --allocate-node-cidrs")
        common = (self.cluster_signing_cert_file, self.cluster_signing_key_file)
        if any(common) and any(files != common for files in self.signer_files().values()):
            raise ValueError("cannot specify default and per controller certs at the same time")


_SIGNERS = {
    "kubelet-serving": "kubelet_serving",
    "kube-apiserver-client-kubelet": "kubelet_client",
    "kube-apiserver-client": "kube_apiserver_client",
    "legacy-unknown": "legacy_unknown",
}
_NOT_FLAGS = ("root_ca",)
_DURATIONS = frozenset(
    (
        "leader_elect_lease_duration",
        "leader_elect_renew_deadline",
        "leader_elect_retry_period",
        "node_monitor_grace_period",
        "node_startup_grace_period",
        "resource_quota_sync_period",
        "pvclaimbinder_sync_period",
        "legacy_service_account_token_clean_up_period",
        "horizontal_pod_autoscaler_sync_period",
        "horizontal_pod_autoscaler_downscale_stabilization",
        "horizontal_pod_autoscaler_cpu_initialization_period",
        "horizontal_pod_autoscaler_initial_readiness_delay",
        "cluster_signing_duration",
    )
)
_HELP = {
    "controllers": "controllers to run: * for all that are on by default, foo, -foo",
    "leader_elect": "run the controllers only while holding the Lease",
    "use_service_account_credentials": "each controller uses a service account of its own",
    "enable_garbage_collector": "delete objects whose owners are gone",
    "cluster_signing_cert_file": "CA that signs CertificateSigningRequests",
    "cluster_signing_key_file": "its private key",
    "cluster_signing_duration": "the longest lifetime of a signed certificate",
    "terminated_pod_gc_threshold": "terminated pods to keep; 0 keeps all",
    "service_account_private_key_file": "signs long-lived tokens; empty: there are none",
    "allocate_node_cidrs": "give each node a range of --cluster-cidr for its pods",
    "local_path_root": "provision volumes as directories below this one; empty: don't",
}


def add_flags(
    parser: argparse.ArgumentParser | argparse._ArgumentGroup,
    wanted: Callable[[str], bool] = lambda name: True,
) -> None:
    """Adds upstream's flags (those that mean something here); ``wanted`` chooses by field."""
    for field in fields(ControllerManagerConfig):
        if field.name in _NOT_FLAGS or not wanted(field.name):
            continue
        options: dict[str, Any] = {"default": field.default, "help": _HELP.get(field.name, "")}
        if field.name == "controllers":
            options["type"] = lambda text: tuple(t for t in text.split(",") if t)
        elif isinstance(field.default, bool):
            options |= {"type": _boolean, "nargs": "?", "const": True}
        elif field.name in _DURATIONS:
            assert isinstance(field.default, float)
            options["type"] = _seconds
            options["metavar"] = format_duration(field.default)
        else:
            options["type"] = type(field.default)
        parser.add_argument(f"--{field.name.replace('_', '-')}", **options)
    if wanted("root_ca"):
        parser.add_argument("--root-ca-file", default="", help="CA to publish in each namespace")


def flag_text(name: str, value: Any) -> str:
    """The flag that sets this field to this value."""
    text = format_duration(value) if name in _DURATIONS else value
    return f"--{name.replace('_', '-')}={text}"


def from_args(args: argparse.Namespace) -> ControllerManagerConfig:
    """:raises OSError: the CA file can't be read. :raises ValueError: see ``validate``."""
    values = {
        field.name: getattr(args, field.name)
        for field in fields(ControllerManagerConfig)
        if field.name not in _NOT_FLAGS
    }
    if args.root_ca_file:
        with open(args.root_ca_file) as file:
            values["root_ca"] = file.read()
    config = ControllerManagerConfig(**values)
    config.validate()
    return config


def _boolean(text: str) -> bool:
    if text.lower() in ("true", "1", "t"):
        return True
    if text.lower() in ("false", "0", "f"):
        return False
    raise argparse.ArgumentTypeError(f"{text!r} is not true or false")


def _seconds(text: str) -> float:
    try:
        return parse_duration(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
