"""Numbers about this node: ``/stats/summary``, ``/metrics…`` and ``/configz``.

Read when somebody asks; nothing is sampled in between (``cpu_rates.py``).
"""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, cast

from pilothouse.apimachinery.object import Obj
from pilothouse.apimachinery.timefmt import format_time
from pilothouse.componentbase.metrics import (
    CONTENT_TYPE,
    Counter,
    Gauge,
    Registry,
    about_metrics,
    build_info,
    process_metrics,
)
from pilothouse.componentbase.version import version_info
from pilothouse.kubelet.config import KubeletConfig
from pilothouse.kubelet.runtime.errors import RuntimeFailure
from pilothouse.kubelet.runtime.interfaces import ContainerStats, ContainerStatus
from pilothouse.kubelet.server.cpu_rates import CPURates
from pilothouse.kubelet.server.interfaces import KubeletHost, Response
from pilothouse.kubelet.server.simulated_usage import simulated_usage

NANO = 1e9
_NODE = ""  # its key among containers' ids


@dataclass(frozen=True, slots=True)
class Sample:
    pod: Obj
    status: ContainerStatus
    stats: ContainerStats

    @property
    def labels(self) -> tuple[str, str, str]:
        """container, pod, namespace."""
        metadata = self.pod["metadata"]
        return self.status.name, metadata["name"], metadata.get("namespace", "")


async def sample(host: KubeletHost) -> tuple[list[Sample], bool]:
    """(all running containers, whether some could not be read)."""
    wanted = [
        (pod, status)
        for pod in host.pods()
        for status in host.cache.get(pod["metadata"]["uid"]).running
    ]
    simulated = not (await host.runtime.info()).capabilities.real_processes
    results = await asyncio.gather(
        *(host.runtime.container_stats(status.id) for _, status in wanted), return_exceptions=True
    )
    samples, failed = [], False
    for (pod, status), result in zip(wanted, results, strict=True):
        if isinstance(result, ContainerStats):
            if simulated:
                result = simulated_usage(pod, status, result)
            samples.append(Sample(pod, status, result))
        elif isinstance(result, (RuntimeFailure, OSError)):
            failed = True
        else:
            raise result
    return samples, failed


# -- /stats/summary ----------------------------------------------------------------------


async def summary(host: KubeletHost, rates: CPURates, *, only_cpu_and_memory: bool = False) -> Obj:
    """stats.k8s.io v1alpha1 Summary, as far as it can be told. ``rates``: of summaries before."""
    samples = [_rated(one, rates) for one in (await sample(host))[0]]
    rates.keep([_NODE, *(one.status.id for one in samples)])
    now = format_time(host.clock.now())
    by_pod: dict[str, list[Sample]] = {}
    for one in samples:
        by_pod.setdefault(one.pod["metadata"]["uid"], []).append(one)
    usage = _node_usage(host, now, rates)
    if not (await host.runtime.info()).capabilities.real_processes:
        # Nothing of what the machine does is this node's.
        usage = {"cpu": _cpu(samples, now), "memory": _memory(samples, now)}
    node = {"nodeName": host.config.node_name, "startTime": _boot_time(), **usage}
    if not only_cpu_and_memory:
        node["fs"] = _filesystem(host.config.root_dir, now)
        node["runtime"] = {"imageFs": node["fs"]}
    return {
        "node": node,
        "pods": [_pod_stats(group, now, only_cpu_and_memory) for group in by_pod.values()],
    }


def _rated(one: Sample, rates: CPURates) -> Sample:
    stats = one.stats
    if stats.cpu_usage_nanocores is not None:
        return one
    used = stats.cpu_usage_core_nanoseconds
    rate = rates.rate(one.status.id, stats.timestamp, used, one.status.started_at)
    return replace(one, stats=replace(stats, cpu_usage_nanocores=rate))


def _pod_stats(group: list[Sample], now: str, only_cpu_and_memory: bool) -> Obj:
    pod = group[0].pod
    metadata = pod["metadata"]
    stats: Obj = {
        "podRef": {
            "name": metadata["name"], "namespace": metadata.get("namespace", ""),
            "uid": metadata["uid"],
        },
        "startTime": (pod.get("status") or {}).get("startTime"),
        "containers": [_container_stats(one, now, only_cpu_and_memory) for one in group],
        "cpu": _cpu(group, now),
        "memory": _memory(group, now),
    }  # fmt: skip
    if not only_cpu_and_memory:
        used = sum(one.stats.rootfs_used_bytes for one in group)
        stats["ephemeral-storage"] = {"time": now, "usedBytes": used}
    return stats


def _container_stats(one: Sample, now: str, only_cpu_and_memory: bool) -> Obj:
    stats: Obj = {
        "name": one.status.name,
        "startTime": format_time(datetime.fromtimestamp(one.status.started_at, UTC)),
        "cpu": _cpu([one], now),
        "memory": _memory([one], now),
    }
    if not only_cpu_and_memory:
        stats["rootfs"] = {"time": now, "usedBytes": one.stats.rootfs_used_bytes}
    return stats


def _cpu(group: list[Sample], now: str) -> Obj:
    used = sum(one.stats.cpu_usage_core_nanoseconds for one in group)
    cpu: Obj = {"time": now, "usageCoreNanoSeconds": used}
    rates = [one.stats.cpu_usage_nanocores for one in group]
    known = [rate for rate in rates if rate is not None]
    if len(known) == len(rates):
        cpu["usageNanoCores"] = sum(known)
    return cpu


def _memory(group: list[Sample], now: str) -> Obj:
    return {
        "time": now,
        "workingSetBytes": sum(one.stats.memory_working_set_bytes for one in group),
        "usageBytes": sum(one.stats.memory_usage_bytes for one in group),
        "rssBytes": sum(one.stats.memory_rss_bytes for one in group),
    }


def _node_usage(host: KubeletHost, now: str, rates: CPURates) -> Obj:
    memory = _meminfo()
    used = int(_cpu_seconds() * NANO)
    rate = rates.rate(_NODE, host.clock.now().timestamp(), used, _boot_seconds())
    total, available = memory.get("MemTotal", 0), memory.get("MemAvailable", 0)
    return {
        "cpu": {"time": now, "usageCoreNanoSeconds": used, "usageNanoCores": rate},
        "memory": {
            "time": now,
            "availableBytes": available,
            "usageBytes": total - memory.get("MemFree", 0),
            "workingSetBytes": total - available,
            "rssBytes": memory.get("AnonPages", 0),
        },
    }


def _cpu_seconds() -> float:
    """Busy time of all processors since boot: user, nice, system, irq, softirq, steal."""
    with open("/proc/stat") as file:
        ticks = [int(text) for text in file.readline().split()[1:9]]
    return (sum(ticks) - ticks[3] - ticks[4]) / os.sysconf("SC_CLK_TCK")


def _boot_time() -> str:
    return format_time(datetime.fromtimestamp(_boot_seconds(), UTC))


def _boot_seconds() -> int:
    with open("/proc/stat") as file:
        found = next((line for line in file if line.startswith("btime ")), "btime 0")
    return int(found.split()[1])


def _meminfo() -> dict[str, int]:
    with open("/proc/meminfo") as file:
        fields = (line.split() for line in file)
        return {words[0].rstrip(":"): int(words[1]) * 1024 for words in fields if len(words) > 2}


def _filesystem(path: str, now: str) -> Obj:
    try:
        fs = os.statvfs(path)
    except OSError:
        return {"time": now}
    return {
        "time": now,
        "availableBytes": fs.f_bavail * fs.f_frsize,
        "capacityBytes": fs.f_blocks * fs.f_frsize,
        "usedBytes": (fs.f_blocks - fs.f_bfree) * fs.f_frsize,
        "inodesFree": fs.f_ffree,
        "inodes": fs.f_files,
        "inodesUsed": fs.f_files - fs.f_ffree,
    }


# -- /metrics ----------------------------------------------------------------------------


def exposition(registry: Registry) -> Response:
    return Response(body=registry.text().encode(), content_type=CONTENT_TYPE)


def own_metrics(host: KubeletHost) -> Registry:
    registry = Registry()
    name = Gauge("kubelet_node_name", "[ALPHA] The node's name. The count is always 1.", ("node",))
    name.set(1, host.config.node_name)
    running = [host.cache.get(uid) for uid in host.cache.uids()]
    pods = Gauge("kubelet_running_pods", "[ALPHA] Number of pods that have a running pod sandbox")
    pods.set(sum(any(s.state == "ready" for s in status.sandboxes) for status in running))
    containers = Gauge(
        "kubelet_running_containers", "[ALPHA] Number of containers currently running",
        ("container_state",),
    )  # fmt: skip
    counts = {"created": 0, "exited": 0, "running": 0}
    for status in running:
        for listed in status.containers.values():
            for one in listed:
                counts[one.state] = counts.get(one.state, 0) + 1
    for state, count in counts.items():
        containers.set(count, state)
    users = host.user_namespaces
    registry.add(name, pods, containers, host.terminations)
    client = getattr(getattr(host, "client", None), "metrics", None)
    if client is not None:  # over HTTPS, not in process
        registry.add(*client.all())
    registry.add(build_info(version_info()), *about_metrics(registry), *process_metrics())
    registry.add(users.started, users.failed)
    return registry


def probe_metrics(host: KubeletHost) -> Registry:
    """Empty where nobody probes."""
    metrics = getattr(getattr(host, "probes", None), "metrics", None)
    return Registry() if metrics is None else cast("Registry", metrics.registry())


async def resource_metrics(host: KubeletHost) -> Registry:
    samples, failed = await sample(host)
    of_container, of_pod = ("container", "pod", "namespace"), ("pod", "namespace")
    cpu = Counter(
        "container_cpu_usage_seconds_total",
        "[STABLE] Cumulative cpu time consumed by the container in core-seconds", of_container,
    )  # fmt: skip
    memory = Gauge(
        "container_memory_working_set_bytes",
        "[STABLE] Current working set of the container in bytes", of_container,
    )  # fmt: skip
    started = Gauge(
        "container_start_time_seconds",
        "[STABLE] Start time of the container since unix epoch in seconds", of_container,
    )  # fmt: skip
    pod_cpu = Counter(
        "pod_cpu_usage_seconds_total",
        "[STABLE] Cumulative cpu time consumed by the pod in core-seconds", of_pod,
    )  # fmt: skip
    pod_memory = Counter(
        "pod_memory_working_set_bytes", "[STABLE] Current working set of the pod in bytes", of_pod
    )
    pod_memory.kind = "gauge"
    for one in samples:
        seconds = one.stats.cpu_usage_core_nanoseconds / NANO
        cpu.inc(*one.labels, by=seconds)
        memory.set(one.stats.memory_working_set_bytes, *one.labels)
        started.set(one.status.started_at, *one.labels)
        pod_cpu.inc(*one.labels[1:], by=seconds)
        pod_memory.inc(*one.labels[1:], by=one.stats.memory_working_set_bytes)
    node_cpu = Counter(
        "node_cpu_usage_seconds_total",
        "[STABLE] Cumulative cpu time consumed by the node in core-seconds",
    )
    node_cpu.inc(by=_cpu_seconds())
    usage = _meminfo()
    node_memory = Gauge(
        "node_memory_working_set_bytes", "[STABLE] Current working set of the node in bytes"
    )
    node_memory.set(usage.get("MemTotal", 0) - usage.get("MemAvailable", 0))
    error = Gauge(
        "resource_scrape_error",
        "[STABLE] 1 if there was an error while getting container metrics, 0 otherwise",
    )
    error.set(int(failed))
    registry = Registry()
    registry.add(cpu, memory, started, node_cpu, node_memory, pod_cpu, pod_memory, error)
    return registry


async def container_metrics(host: KubeletHost) -> Registry:
    """The part of cAdvisor's metrics that dashboards need most."""
    samples, _ = await sample(host)
    names = ("container", "id", "image", "name", "namespace", "pod")
    cpu = Counter(
        "container_cpu_usage_seconds_total", "Cumulative cpu time consumed in seconds.",
        (*names[:1], "cpu", *names[1:]),
    )  # fmt: skip
    working = Gauge("container_memory_working_set_bytes", "Current working set in bytes.", names)
    usage = Gauge(
        "container_memory_usage_bytes",
        "Current memory usage in bytes, including all memory regardless of when it was accessed",
        names,
    )
    started = Gauge(
        "container_start_time_seconds",
        "Start time of the container since unix epoch in seconds.", names,
    )  # fmt: skip
    for one in samples:
        container, pod, namespace = one.labels
        rest = (f"/{one.status.id}", one.status.image, one.status.id, namespace, pod)
        cpu.inc(container, "total", *rest, by=one.stats.cpu_usage_core_nanoseconds / NANO)
        working.set(one.stats.memory_working_set_bytes, container, *rest)
        usage.set(one.stats.memory_usage_bytes, container, *rest)
        started.set(one.status.started_at, container, *rest)
    cores = Gauge("machine_cpu_cores", "Number of logical CPU cores.")
    cores.set(len(os.sched_getaffinity(0)))
    memory = Gauge("machine_memory_bytes", "Amount of memory installed on the machine.")
    memory.set(_meminfo().get("MemTotal", 0))
    registry = Registry()
    registry.add(cpu, working, usage, started, cores, memory)
    return registry


def configz(config: KubeletConfig) -> dict[str, Any]:
    """What is in effect, under KubeletConfiguration's names."""
    return {
        "kubeletconfig": {
            "enableServer": config.serve,
            "port": config.port,
            "syncFrequency": f"{config.resync_seconds:g}s",
            "tlsCertFile": config.tls_cert_file,
            "tlsPrivateKeyFile": config.tls_private_key_file,
            "authentication": {
                "x509": {"clientCAFile": config.client_ca_file},
                "webhook": {"enabled": True},
                "anonymous": {"enabled": False},
            },
            "authorization": {"mode": "Webhook"},
            "clusterDomain": config.cluster_domain,
            "clusterDNS": list(config.cluster_dns),
            "nodeStatusReportFrequency": f"{config.node_status_report_seconds:g}s",
            "nodeLeaseDurationSeconds": config.lease_seconds,
            "cgroupRoot": config.cgroup_root,
            "maxPods": config.max_pods,
            "podCIDR": config.pod_cidr,
            "registerNode": config.register_node,
            "registerWithTaints": list(config.register_with_taints),
            "enableDebuggingHandlers": True,
            "enableSystemLogHandler": True,
            "staticPodPath": config.static_pod_path,
            "podPidsLimit": config.pod_pids_limit or -1,
            "containerLogMaxSize": str(config.container_log_max_size),
            "containerLogMaxFiles": config.container_log_max_files,
            "imageGCHighThresholdPercent": config.image_gc_high_percent,
            "imageGCLowThresholdPercent": config.image_gc_low_percent,
            "allowedUnsafeSysctls": list(config.allowed_unsafe_sysctls),
            "shutdownGracePeriodByPodPriority": [
                {"priority": priority, "shutdownGracePeriodSeconds": seconds}
                for priority, seconds in config.shutdown_periods
            ],
            "userNamespaces": {"idsPerPod": 65536},
        }
    }
