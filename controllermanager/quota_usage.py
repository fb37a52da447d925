"""How much of a ResourceQuota an object uses (kubernetes pkg/quota). Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from pilothouse.apimachinery.object import Obj, get_nested, meta
from pilothouse.apimachinery.quantity import Quantity
from pilothouse.apimachinery.timefmt import parse_time
from pilothouse.controllermanager.pods import is_terminal

Usage = dict[str, Quantity]

CORE_COUNTED = {
    "configmaps": "configmaps",
    "persistentvolumeclaims": "persistentvolumeclaims",
    "replicationcontrollers": "replicationcontrollers",
    "resourcequotas": "resourcequotas",
    "secrets": "secrets",
    "services": "services",
}
"""Resources that have a quota name of their own besides ``count/<resource>``."""

_COMPUTE = ("cpu", "memory", "ephemeral-storage")
_ONE = Quantity.of(1)


def add(total: Usage, usage: Mapping[str, Quantity]) -> None:
    for name, value in usage.items():
        total[name] = total[name] + value if name in total else value


def count_usage(group: str, resource: str) -> Usage:
    """What every object of a resource counts for."""
    name = f"{resource}.{group}" if group else resource
    usage = {f"count/{name}": _ONE}
    if not group and resource in CORE_COUNTED:
        usage[CORE_COUNTED[resource]] = _ONE
    return usage


def pod_usage(pod: Obj, now: float) -> Usage:
    """A pod counts as an object for as long as it is there, but for its resources only until it
    has ended (or should have, when its node does not answer)."""
    usage: Usage = {"count/pods": _ONE}
    if not is_quota_relevant(pod, now):
        return usage
    usage["pods"] = _ONE
    for kind in ("requests", "limits"):
        for name, value in pod_resources(pod, kind).items():
            if name in _COMPUTE:
                usage[f"{kind}.{name}"] = value
                if kind == "requests":
                    usage[name] = value
            elif kind == "requests" and (name.startswith("hugepages-") or "/" in name):
                usage[f"requests.{name}"] = value
                if name.startswith("hugepages-"):
                    usage[name] = value
    return usage


def is_quota_relevant(pod: Obj, now: float) -> bool:
    if is_terminal(pod):
        return False
    deleted = meta(pod).get("deletionTimestamp")
    grace = meta(pod).get("deletionGracePeriodSeconds")
    if deleted and grace is not None:
        return now <= parse_time(deleted).timestamp() + int(grace)
    return True


def pod_resources(pod: Obj, kind: str) -> Usage:
    """PodRequests or PodLimits: containers and sidecars together, or the largest init step."""
    spec = pod.get("spec") or {}
    total: Usage = {}
    for container in spec.get("containers") or ():
        add(total, _of(container, kind))
    sidecars: Usage = {}
    peak: Usage = {}
    for container in spec.get("initContainers") or ():
        own = _of(container, kind)
        if container.get("restartPolicy") == "Always":
            add(total, own)
            add(sidecars, own)
            step = dict(sidecars)
        else:
            step = dict(own)
            add(step, sidecars)
        _raise_to(peak, step)
    _raise_to(total, peak)
    overall = _parsed(get_nested(spec, "resources", kind, default={}))
    total |= {k: v for k, v in overall.items() if k in ("cpu", "memory") or k.startswith("huge")}
    overhead = _parsed(spec.get("overhead") or {})
    add(total, {k: v for k, v in overhead.items() if kind == "requests" or k in total})
    return total


def _of(container: Obj, kind: str) -> Usage:
    return _parsed(get_nested(container, "resources", kind, default={}))


def _parsed(values: Mapping[str, str]) -> Usage:
    return {name: Quantity.parse(value) for name, value in values.items()}


def _raise_to(total: Usage, least: Mapping[str, Quantity]) -> None:
    for name, value in least.items():
        if name not in total or total[name] < value:
            total[name] = value


def service_usage(service: Obj) -> Usage:
    usage = count_usage("", "services")
    spec = service.get("spec") or {}
    ports = len(spec.get("ports") or ())
    if spec.get("type") == "NodePort":
        usage["services.nodeports"] = Quantity.of(ports)
    elif spec.get("type") == "LoadBalancer":
        usage["services.loadbalancers"] = _ONE
        if spec.get("allocateLoadBalancerNodePorts", True):
            usage["services.nodeports"] = Quantity.of(ports)
        else:
            given = sum(bool(port.get("nodePort")) for port in spec.get("ports") or ())
            usage["services.nodeports"] = Quantity.of(given)
    return usage


def claim_usage(claim: Obj) -> Usage:
    usage = count_usage("", "persistentvolumeclaims")
    spec = claim.get("spec") or {}
    requested = get_nested(spec, "resources", "requests", "storage")
    storage_class = spec.get("storageClassName") or (meta(claim).get("annotations") or {}).get(
        "volume.beta.kubernetes.io/storage-class", ""
    )
    prefix = f"{storage_class}.storageclass.storage.k8s.io/" if storage_class else ""
    if prefix:
        usage[f"{prefix}persistentvolumeclaims"] = _ONE
    if requested is not None:
        usage["requests.storage"] = Quantity.parse(requested)
        if prefix:
            usage[f"{prefix}requests.storage"] = Quantity.parse(requested)
    return usage


def matches_scopes(quota: Obj, pod: Obj) -> bool:
    """Whether a pod falls under all of the quota's scopes."""
    spec = quota.get("spec") or {}
    wanted = [{"scopeName": name, "operator": "Exists"} for name in spec.get("scopes") or ()]
    wanted += get_nested(spec, "scopeSelector", "matchExpressions", default=[])
    return all(_matches_scope(pod, requirement) for requirement in wanted)


def _matches_scope(pod: Obj, requirement: Obj) -> bool:
    spec = pod.get("spec") or {}
    scope = requirement["scopeName"]
    if scope == "Terminating":
        return "activeDeadlineSeconds" in spec
    if scope == "NotTerminating":
        return "activeDeadlineSeconds" not in spec
    if scope in ("BestEffort", "NotBestEffort"):
        return is_best_effort(pod) is (scope == "BestEffort")
    if scope == "PriorityClass":
        return _matches_priority(spec.get("priorityClassName") or "", requirement)
    if scope == "CrossNamespacePodAffinity":
        return _crosses_namespaces(spec)
    return False


def _matches_priority(name: str, requirement: Obj) -> bool:
    operator, values = requirement.get("operator"), requirement.get("values") or ()
    if operator == "In":
        return name in values
    if operator == "NotIn":
        return name not in values
    return bool(name) == (operator == "Exists")


def is_best_effort(pod: Obj) -> bool:
    """No container asks for anything."""
    spec = pod.get("spec") or {}
    containers: Iterable[Obj] = [*(spec.get("containers") or ()), *(spec.get("initContainers") or
                                                                    ())]  # fmt: skip
    return not any(
        name in ("cpu", "memory") and Quantity.parse(value)
        for container in containers
        for kind in ("requests", "limits")
        for name, value in get_nested(container, "resources", kind, default={}).items()
    )


def _crosses_namespaces(spec: Obj) -> bool:
    affinity = spec.get("affinity") or {}
    for kind in ("podAffinity", "podAntiAffinity"):
        terms = affinity.get(kind) or {}
        listed = list(terms.get("requiredDuringSchedulingIgnoredDuringExecution") or ())
        listed += [
            weighted.get("podAffinityTerm") or {}
            for weighted in terms.get("preferredDuringSchedulingIgnoredDuringExecution") or ()
        ]
        if any(t.get("namespaces") or t.get("namespaceSelector") is not None for t in listed):
            return True
    return False
