"""``--config``: a KubeletConfiguration (kubelet.config.k8s.io/v1beta1) as defaults of the flags.

What a flag says counts more than the file. Fields that this kubelet has no use for are told of in
the log; names that no kubelet knows are an error, as upstream's strict decoding makes them.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Callable, Mapping
from typing import Any

from pilothouse.apimachinery.timefmt import parse_duration

log = logging.getLogger(__name__)
API_VERSION, KIND = "kubelet.config.k8s.io/v1beta1", "KubeletConfiguration"
SYSTEM_CRITICAL_PRIORITY = 2_000_000_000
Periods = tuple[tuple[int, int], ...]
"""(priority from which on, seconds), in order."""

KNOWN = frozenset(
    """enableServer staticPodPath podLogsDir syncFrequency fileCheckFrequency httpCheckFrequency
    staticPodURL staticPodURLHeader address port readOnlyPort tlsCertFile tlsPrivateKeyFile
    tlsCipherSuites tlsCurvePreferences tlsMinVersion rotateCertificates serverTLSBootstrap
    authentication authorization registryPullQPS registryBurst
    imagePullCredentialsVerificationPolicy preloadedImagesVerificationAllowlist eventRecordQPS
    eventBurst enableDebuggingHandlers enableContentionProfiling healthzPort healthzBindAddress
    oomScoreAdj clusterDomain clusterDNS streamingConnectionIdleTimeout nodeStatusUpdateFrequency
    nodeStatusReportFrequency nodeLeaseDurationSeconds imageMinimumGCAge imageMaximumGCAge
    imageGCHighThresholdPercent imageGCLowThresholdPercent volumeStatsAggPeriod kubeletCgroups
    systemCgroups cgroupRoot cgroupsPerQOS cgroupDriver cpuManagerPolicy singleProcessOOMKill
    cpuManagerPolicyOptions cpuManagerReconcilePeriod memoryManagerPolicy topologyManagerPolicy
    topologyManagerScope topologyManagerPolicyOptions qosReserved runtimeRequestTimeout hairpinMode
    maxPods podCIDR podPidsLimit resolvConf runOnce cpuCFSQuota cpuCFSQuotaPeriod
    nodeStatusMaxImages maxOpenFiles contentType kubeAPIQPS kubeAPIBurst serializeImagePulls
    maxParallelImagePulls evictionHard evictionSoft evictionSoftGracePeriod
    evictionPressureTransitionPeriod evictionMaxPodGracePeriod evictionMinimumReclaim
    mergeDefaultEvictionSettings podsPerCore enableControllerAttachDetach protectKernelDefaults
    makeIPTablesUtilChains iptablesMasqueradeBit iptablesDropBit featureGates failSwapOn memorySwap
    containerLogMaxSize containerLogMaxFiles containerLogMaxWorkers containerLogMonitorInterval
    configMapAndSecretChangeDetectionStrategy systemReserved kubeReserved reservedSystemCPUs
    showHiddenMetricsForVersion systemReservedCgroup kubeReservedCgroup enforceNodeAllocatable
    allowedUnsafeSysctls defaultPodSysctls volumePluginDir providerID kernelMemcgNotification
    logging enableSystemLogHandler enableSystemLogQuery shutdownGracePeriod
    shutdownGracePeriodCriticalPods shutdownGracePeriodByPodPriority crashLoopBackOff
    reservedMemory enableProfilingHandler enableDebugFlagsHandler seccompDefault
    memoryThrottlingFactor memoryReservationPolicy registerWithTaints registerNode tracing
    localStorageCapacityIsolation containerRuntimeEndpoint imageServiceEndpoint failCgroupV1
    userNamespaces""".split()
)


def _commas(value: Any) -> str:
    return ",".join(value)


def _thresholds(value: Mapping[str, str]) -> str:
    return ",".join(f"{signal}<{amount}" for signal, amount in value.items())


def _periods(value: Mapping[str, str]) -> str:
    return ",".join(f"{signal}={period}" for signal, period in value.items())


_FLAGS: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "staticPodPath": ("pod_manifest_path", str),
    "port": ("port", int),
    "tlsCertFile": ("tls_cert_file", str),
    "tlsPrivateKeyFile": ("tls_private_key_file", str),
    "rotateCertificates": ("rotate_certificates", bool),
    "serverTLSBootstrap": ("rotate_server_certificates", bool),
    "eventRecordQPS": ("event_qps", int),
    "eventBurst": ("event_burst", int),
    "clusterDomain": ("cluster_domain", str),
    "clusterDNS": ("cluster_dns", _commas),
    "maxPods": ("max_pods", int),
    "podCIDR": ("pod_cidr", str),
    "podPidsLimit": ("pod_max_pids", int),
    "evictionHard": ("eviction_hard", _thresholds),
    "evictionSoft": ("eviction_soft", _thresholds),
    "evictionSoftGracePeriod": ("eviction_soft_grace_period", _periods),
    "evictionPressureTransitionPeriod": ("eviction_pressure_transition_period", str),
    "imageGCHighThresholdPercent": ("image_gc_high_threshold", int),
    "imageGCLowThresholdPercent": ("image_gc_low_threshold", int),
    "containerLogMaxSize": ("container_log_max_size", str),
    "containerLogMaxFiles": ("container_log_max_files", int),
    "allowedUnsafeSysctls": ("allowed_unsafe_sysctls", _commas),
    "registerNode": ("register_node", bool),
    "registerWithTaints": ("register_with_taints", tuple),
}
"""Where each field goes among the flags."""


class ConfigFileError(ValueError):
    """With upstream's beginning: ``failed to load kubelet config file``."""


def read(path: str) -> dict[str, Any]:
    """Values by the flags' names. :raises ConfigFileError: with the reason."""
    import yaml

    try:
        with open(path, encoding="utf-8") as file:
            loaded = yaml.safe_load(file)
        return values(loaded)
    except (OSError, ValueError, TypeError, AttributeError, yaml.YAMLError) as error:
        raise ConfigFileError(
            f"failed to load kubelet config file, path: {path}, error: {error}"
        ) from error


def values(configuration: Any) -> dict[str, Any]:
    """:raises ValueError: it is no KubeletConfiguration, or one with a mistake."""
    if not isinstance(configuration, dict) or configuration.get("kind") != KIND:
        raise ValueError(f"no kind {KIND!r} in the file")
    if configuration.get("apiVersion") != API_VERSION:
        raise ValueError(
            f'no kind "{KIND}" is registered for version "{configuration.get("apiVersion")}"'
        )
    fields = {k: v for k, v in configuration.items() if k not in ("apiVersion", "kind")}
    unknown = sorted(fields.keys() - KNOWN)
    if unknown:
        texts = ", ".join(f'unknown field "{name}"' for name in unknown)
        raise ValueError(f"strict decoding error: {texts}")
    found: dict[str, Any] = {"shutdown_periods": shutdown_periods(fields)}
    for name, value in fields.items():
        if name in _FLAGS and value is not None:
            flag, convert = _FLAGS[name]
            found[flag] = convert(value)
    x509 = (fields.get("authentication") or {}).get("x509") or {}
    if x509.get("clientCAFile"):
        found["client_ca_file"] = str(x509["clientCAFile"])
    used = _FLAGS.keys() | {"authentication", *_SHUTDOWN}
    idle = sorted(fields.keys() - used)
    if idle:
        log.info("fields of the configuration without effect here: %s", ", ".join(idle))
    return found


_SHUTDOWN = (
    "shutdownGracePeriod", "shutdownGracePeriodCriticalPods", "shutdownGracePeriodByPodPriority",
)  # fmt: skip


def shutdown_periods(fields: Mapping[str, Any]) -> Periods:
    """How long pods have when the node shuts down (migrateConfig); empty: they go on running.

    :raises ValueError: as upstream's validation says it.
    """
    total, critical = (parse_duration(str(fields.get(n) or "0s")) for n in _SHUTDOWN[:2])
    by_priority = fields.get(_SHUTDOWN[2]) or ()
    if critical > total:
        raise ValueError(
            f"invalid configuration: shutdownGracePeriodCriticalPods {critical:g}s must be <= "
            f"shutdownGracePeriod {total:g}s"
        )
    for name, seconds in ((_SHUTDOWN[0], total), (_SHUTDOWN[1], critical)):
        if 0 < seconds < 1:
            raise ValueError(
                f"invalid configuration: {name} {seconds:g}s must be either zero or otherwise >= "
                "1 sec"
            )
    if total and by_priority:
        raise ValueError(
            "invalid configuration: Cannot specify both shutdownGracePeriodByPodPriority and "
            "shutdownGracePeriod at the same time"
        )
    if by_priority:
        listed = ((int(e["priority"]), int(e["shutdownGracePeriodSeconds"])) for e in by_priority)
        return tuple(sorted(listed))
    if not total:
        return ()
    return ((0, int(total - critical)), (SYSTEM_CRITICAL_PRIORITY, int(critical)))


class ConfigAction(argparse.Action):
    """Flags that haven't been given (yet) have the file's values; later ones override them."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        setattr(namespace, self.dest, values)
        try:
            found = read(values)
        except ConfigFileError as error:
            parser.error(str(error))
        for flag, value in found.items():
            if getattr(namespace, flag, None) == parser.get_default(flag):
                setattr(namespace, flag, value)
