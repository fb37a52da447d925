"""From a pod's spec to what the runtime is asked for (pure; kuberuntime_container_linux.go)."""

from __future__ import annotations

from typing import Any

from pilothouse.apimachinery.object import Obj
from pilothouse.apimachinery.quantity import Quantity
from pilothouse.apis.core.qos import pod_qos
from pilothouse.apis.core.resource_requests import pod_limits, pod_requests
from pilothouse.kubelet.runtime.errors import StartError
from pilothouse.kubelet.runtime.interfaces import (
    ContainerConfig,
    Mount,
    PodSandboxConfig,
    PortMapping,
    Resources,
    SecurityContext,
)
from pilothouse.kubelet.runtime.pod_actions import HASH_LABEL, Kind, container_hash
from pilothouse.kubelet.runtime.resizes import (
    RESOURCES_ANNOTATION,
    annotation,
    effective_resources,
)

CPU_PERIOD = 100_000
MIN_SHARES, MAX_SHARES, SHARES_PER_CPU = 2, 262_144, 1024
MIN_QUOTA = 1000
HOSTNAME_LENGTH = 64  # of Linux


def sandbox_config(
    pod: Obj,
    attempt: int,
    *,
    log_directory: str,
    cgroup_root: str = "",
    cluster_domain: str = "",
    resources: Resources | None = None,
    user_namespace: int = 0,
) -> PodSandboxConfig:
    """:raises StartError: the pod wants a hostname that Linux can't have."""
    metadata, spec = pod["metadata"], pod["spec"]
    context = spec.get("securityContext") or {}
    return PodSandboxConfig(
        name=metadata["name"],
        namespace=metadata.get("namespace") or "",
        uid=metadata["uid"],
        attempt=attempt,
        hostname=kernel_hostname(pod, cluster_domain),
        log_directory=log_directory,
        cgroup_parent=f"{cgroup_root}/pod{metadata['uid']}" if cgroup_root else "",
        host_network=bool(spec.get("hostNetwork")),
        host_pid=bool(spec.get("hostPID")),
        host_ipc=bool(spec.get("hostIPC")),
        share_process_namespace=bool(spec.get("shareProcessNamespace")),
        port_mappings=port_mappings(spec),
        sysctls={s["name"]: s["value"] for s in context.get("sysctls") or ()},
        user_namespace=user_namespace,
        resources=resources,
        labels={
            **(metadata.get("labels") or {}),
            "io.kubernetes.pod.name": metadata["name"],
            "io.kubernetes.pod.namespace": metadata.get("namespace") or "",
            "io.kubernetes.pod.uid": metadata["uid"],
        },
        annotations=dict(metadata.get("annotations") or {}),
    )


def hostname_of(pod: Obj) -> str:
    """``spec.hostname`` or the pod's name, at most 63 characters without a trailing '-' or '.';
    on the node's network the node's."""
    spec = pod["spec"]
    if spec.get("hostNetwork") and spec.get("nodeName"):
        return str(spec["nodeName"])
    name = spec.get("hostnameOverride") or spec.get("hostname") or pod["metadata"]["name"]
    return str(name)[:63].rstrip("-.")


def domain_of(pod: Obj, cluster_domain: str) -> str:
    """What follows the hostname of a pod with a subdomain; an overridden hostname stands alone."""
    spec = pod["spec"]
    if not spec.get("subdomain") or spec.get("hostnameOverride"):
        return ""
    return f"{spec['subdomain']}.{pod['metadata'].get('namespace')}.svc.{cluster_domain}"


def kernel_hostname(pod: Obj, cluster_domain: str) -> str:
    """The pod's hostname, with ``setHostnameAsFQDN`` the full name (util.GetNodenameForKernel).

    :raises StartError: it is too long.
    """
    host, domain, spec = hostname_of(pod), domain_of(pod, cluster_domain), pod["spec"]
    if not domain or not spec.get("setHostnameAsFQDN") or spec.get("hostNetwork"):
        return host
    full = f"{host}.{domain}"
    if len(full) > HOSTNAME_LENGTH:
        raise StartError(
            "failed to construct FQDN from pod hostname and cluster domain, "
            f"FQDN {full} is too long ({HOSTNAME_LENGTH} characters is the max, "
            f"{len(full)} characters requested)"
        )
    return full


def port_mappings(spec: Obj) -> tuple[PortMapping, ...]:
    if spec.get("hostNetwork"):
        return ()
    return tuple(
        PortMapping(
            port.get("protocol") or "TCP", port["containerPort"], port["hostPort"],
            port.get("hostIP") or "",
        )
        for container in (*(spec.get("initContainers") or ()), *(spec.get("containers") or ()))
        for port in container.get("ports") or ()
        if port.get("hostPort")
    )  # fmt: skip


def container_config(
    pod: Obj,
    container: Obj,
    kind: Kind,
    *,
    attempt: int,
    image_id: str,
    command: tuple[str, ...] | None,
    args: tuple[str, ...] | None,
    envs: list[tuple[str, str]],
    mounts: list[Mount],
    node_memory: int,
    devices: list[Obj] | None = None,
) -> ContainerConfig:
    name = container["name"]
    return ContainerConfig(
        name=name,
        attempt=attempt,
        image=image_id,
        command=command,
        args=args,
        working_dir=container.get("workingDir") or "",
        envs=tuple(envs),
        mounts=tuple(mounts),
        log_path=f"{name}/{attempt}.log",
        stdin=bool(container.get("stdin")),
        stdin_once=bool(container.get("stdinOnce")),
        tty=bool(container.get("tty")),
        target=container.get("targetContainerName") or "",
        stop_signal=(container.get("lifecycle") or {}).get("stopSignal") or "",
        resources=container_resources(pod, container, node_memory),
        devices=tuple(devices or ()),
        security=security_context(pod, container),
        labels={
            "io.kubernetes.container.name": name,
            "io.kubernetes.pod.name": pod["metadata"]["name"],
            "io.kubernetes.pod.namespace": pod["metadata"].get("namespace") or "",
            "io.kubernetes.pod.uid": pod["metadata"]["uid"],
            "io.pilothouse.container.kind": kind,
            HASH_LABEL: container_hash(container),
        },
        annotations={
            "io.kubernetes.container.terminationMessagePath": container.get(
                "terminationMessagePath"
            )
            or "/dev/termination-log",
            "io.kubernetes.container.terminationMessagePolicy": container.get(
                "terminationMessagePolicy"
            )
            or "File",
            "io.pilothouse.container.image": container.get("image") or "",
            RESOURCES_ANNOTATION: annotation(pod, container),
            "io.pilothouse.container.restartPolicy": container.get("restartPolicy") or "",
        },
    )


# -- resources ---------------------------------------------------------------------------


def container_resources(pod: Obj, container: Obj, node_memory: int) -> Resources:
    resources = effective_resources(pod, container)
    limits, requests = resources["limits"], resources["requests"]
    cpu_limit = _milli(limits.get("cpu"))
    cpu_request = _milli(requests.get("cpu")) if "cpu" in requests else cpu_limit
    quota = max(cpu_limit * CPU_PERIOD // 1000, MIN_QUOTA) if cpu_limit else 0
    return Resources(
        cpu_shares=cpu_shares(cpu_request),
        cpu_quota=quota,
        cpu_period=CPU_PERIOD,
        memory_limit=_value(limits.get("memory")),
        oom_score_adj=oom_score_adj(pod, _value(requests.get("memory")), node_memory),
    )


def pod_resources(pod: Obj, pids_limit: int = 0) -> Resources:
    """Of all containers together (ResourceConfigForPod): a limit only when each has one, or the
    pod itself."""
    requests, limits = pod_requests(pod), pod_limits(pod)
    request, cpu = requests.get("cpu"), limits.get("cpu")
    memory = limits.get("memory")
    milli = cpu.milli_value() if cpu is not None and _limited(pod, "cpu") else 0
    return Resources(
        cpu_shares=cpu_shares(request.milli_value() if request is not None else 0),
        cpu_quota=max(milli * CPU_PERIOD // 1000, MIN_QUOTA) if milli else 0,
        cpu_period=CPU_PERIOD,
        memory_limit=memory.value() if memory is not None and _limited(pod, "memory") else 0,
        pids_limit=pids_limit,
    )


def _limited(pod: Obj, name: str) -> bool:
    spec = pod["spec"]
    containers = (*(spec.get("initContainers") or ()), *(spec.get("containers") or ()))
    own = ((spec.get("resources") or {}).get("limits") or {}).get(name)
    return own is not None or all(
        _milli(((c.get("resources") or {}).get("limits") or {}).get(name)) for c in containers
    )


def cpu_shares(milli_cpu: int) -> int:
    if milli_cpu == 0:
        return MIN_SHARES
    return min(max(milli_cpu * SHARES_PER_CPU // 1000, MIN_SHARES), MAX_SHARES)


def oom_score_adj(pod: Obj, memory_request: int, node_memory: int) -> int:
    """-997 for Guaranteed, 1000 for BestEffort, by share of the node's memory in between."""
    qos = pod_qos(pod)
    if pod["spec"].get("priorityClassName") == "system-node-critical" or qos == "Guaranteed":
        return -997
    if qos == "BestEffort" or not node_memory:
        return 1000
    adjust = 1000 - 1000 * memory_request // node_memory
    return min(max(adjust, 3), 999)


def _milli(quantity: Any) -> int:
    return Quantity.parse(quantity).milli_value() if quantity is not None else 0


def _value(quantity: Any) -> int:
    return Quantity.parse(quantity).value() if quantity is not None else 0


# -- security ----------------------------------------------------------------------------


def security_context(pod: Obj, container: Obj) -> SecurityContext:
    """The container's settings, the pod's where it has none."""
    common = pod["spec"].get("securityContext") or {}
    own = container.get("securityContext") or {}

    def setting(name: str) -> Any:
        return own[name] if own.get(name) is not None else common.get(name)

    capabilities = own.get("capabilities") or {}
    groups = list(common.get("supplementalGroups") or ())
    if common.get("fsGroup") is not None:
        groups.append(common["fsGroup"])
    profile = (setting("seccompProfile") or {}).get("type") or "Unconfined"
    return SecurityContext(
        run_as_user=setting("runAsUser"),
        run_as_group=setting("runAsGroup"),
        supplemental_groups=tuple(groups),
        strict_groups=common.get("supplementalGroupsPolicy") == "Strict",
        privileged=bool(own.get("privileged")),
        readonly_rootfs=bool(own.get("readOnlyRootFilesystem")),
        no_new_privileges=own.get("allowPrivilegeEscalation") is False,
        add_capabilities=tuple(capabilities.get("add") or ()),
        drop_capabilities=tuple(capabilities.get("drop") or ()),
        seccomp_unconfined=profile == "Unconfined",
        proc_mount_unmasked=own.get("procMount") == "Unmasked",
    )


def non_root_problem(pod: Obj, container: Obj, image_user: str) -> str:
    """Why ``runAsNonRoot`` forbids the container, or '' (verifyRunAsNonRoot)."""
    common = pod["spec"].get("securityContext") or {}
    own = container.get("securityContext") or {}
    wanted = own.get("runAsNonRoot")
    if wanted is None:
        wanted = common.get("runAsNonRoot")
    if not wanted:
        return ""
    user = own["runAsUser"] if own.get("runAsUser") is not None else common.get("runAsUser")
    name = f'(pod: "{_pod_text(pod)}", container: {container["name"]})'
    if user is not None:
        return f"container's runAsUser breaks non-root policy {name}" if user == 0 else ""
    image_user = image_user.partition(":")[0]
    if image_user in ("", "0"):
        return f"container has runAsNonRoot and image will run as root {name}"
    if not image_user.isdigit():
        return (
            f"container has runAsNonRoot and image has non-numeric user ({image_user}), "
            f"cannot verify user is non-root {name}"
        )
    return ""


def _pod_text(pod: Obj) -> str:
    metadata = pod["metadata"]
    return f"{metadata['name']}_{metadata.get('namespace')}({metadata.get('uid')})"
