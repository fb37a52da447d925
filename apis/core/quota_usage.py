"""What one object counts for in a ResourceQuota, and which quotas it falls under.

Pure; admission charges by it and the ResourceQuota controller recounts by it
(pkg/quota/v1/evaluator/core). Kinds without an evaluator of their own count as objects only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pilothouse.apimachinery.labels import parse_selector
from pilothouse.apimachinery.quantity import Quantity
from pilothouse.apimachinery.schema import GroupResource
from pilothouse.apimachinery.timefmt import parse_time
from pilothouse.apis.core.qos import BEST_EFFORT, pod_qos
from pilothouse.apis.core.resource_names import is_native, parse_quantity
from pilothouse.apis.core.resource_requests import (
    ResourceList,
    is_pod_level_resources_set,
    parse_list,
    pod_limits,
    pod_requests,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime

    from pilothouse.apimachinery.object import Obj

PODS = GroupResource("", "pods")
SERVICES = GroupResource("", "services")
CLAIMS = GroupResource("", "persistentvolumeclaims")
RESOURCE_CLAIMS = GroupResource("resource.k8s.io", "resourceclaims")
IGNORED = frozenset(
    {
        GroupResource("", "bindings"),
        GroupResource("", "componentstatuses"),
        GroupResource("", "events"),
        GroupResource("events.k8s.io", "events"),
        GroupResource("authentication.k8s.io", "tokenreviews"),
        GroupResource("authentication.k8s.io", "selfsubjectreviews"),
        GroupResource("authorization.k8s.io", "subjectaccessreviews"),
        GroupResource("authorization.k8s.io", "selfsubjectaccessreviews"),
        GroupResource("authorization.k8s.io", "localsubjectaccessreviews"),
        GroupResource("authorization.k8s.io", "selfsubjectrulesreviews"),
    }
)
_LEGACY_ALIASES = frozenset({"configmaps", "resourcequotas", "replicationcontrollers", "secrets"})
_ONE = Quantity.of(1)
_COMPUTE = ("cpu", "memory", "ephemeral-storage")
_POD_RESOURCES = frozenset(
    {
        "count/pods",
        "pods",
        *_COMPUTE,
        *(f"requests.{name}" for name in _COMPUTE),
        *(f"limits.{name}" for name in _COMPUTE),
    }
)
_MUST_BE_SET = frozenset(
    {"cpu", "memory", "requests.cpu", "requests.memory", "limits.cpu", "limits.memory"}
)
_SERVICE_RESOURCES = frozenset(
    {"count/services", "services", "services.nodeports", "services.loadbalancers"}
)
_CLAIM_RESOURCES = ("persistentvolumeclaims", "requests.storage")
_CLASS_SUFFIX = ".storageclass.storage.k8s.io/"
IMPLICIT_PREFIX = "requests.deviceclass.resource.kubernetes.io/"
DEVICE_CLASS_SUFFIX = ".deviceclass.resource.k8s.io/devices"
_STORAGE_CLASS_ANNOTATION = "volume.beta.kubernetes.io/storage-class"


def object_count_name(resource: GroupResource) -> str:
    """``count/deployments.apps``"""
    return f"count/{resource}"


def matching_resources(resource: GroupResource, names: Iterable[str]) -> list[str]:
    """Those of a quota's resource names that objects of this kind are counted under."""
    return [name for name in names if _counts(resource, name)]


def _counts(resource: GroupResource, name: str) -> bool:
    if resource == PODS:
        if name in _POD_RESOURCES or name.startswith(("hugepages-", "requests.hugepages-")):
            return True
        return is_extended_request(name)
    if resource == SERVICES:
        return name in _SERVICE_RESOURCES
    if name == object_count_name(resource):
        return True
    if resource == CLAIMS:
        return name in _CLAIM_RESOURCES or name.endswith(
            tuple(_CLASS_SUFFIX + item for item in _CLAIM_RESOURCES)
        )
    if resource == RESOURCE_CLAIMS:
        return name.endswith(DEVICE_CLASS_SUFFIX) or is_extended_request(name)
    return (
        resource.group == ""
        and resource.resource in _LEGACY_ALIASES
        and (name == resource.resource)
    )


def is_extended_request(name: str) -> bool:
    """Whether a quota's name is that of an extended resource, or of devices requested as one."""
    extended = name.startswith("requests.") and not is_native(name)
    return extended or name.startswith(IMPLICIT_PREFIX)


def usage(resource: GroupResource, obj: Obj, now: datetime) -> ResourceList:
    """What ``obj`` counts for, by quota resource name."""
    if resource == PODS:
        return _pod_usage(obj, now)
    if resource == SERVICES:
        return _service_usage(obj)
    found: ResourceList = {object_count_name(resource): _ONE}
    if resource == CLAIMS:
        found.update(_claim_usage(obj))
    elif resource == RESOURCE_CLAIMS:
        found.update(_resource_claim_usage(obj))
    elif resource.group == "" and resource.resource in _LEGACY_ALIASES:
        found[resource.resource] = _ONE
    return found


def is_quota_pod(pod: Obj, now: datetime) -> bool:
    """Whether the pod still uses compute resources: not finished, not stuck in deletion."""
    if (pod.get("status") or {}).get("phase") in ("Failed", "Succeeded"):
        return False
    metadata = pod.get("metadata") or {}
    deleted, grace = metadata.get("deletionTimestamp"), metadata.get("deletionGracePeriodSeconds")
    if deleted and grace is not None:
        return (now - parse_time(deleted)).total_seconds() <= float(grace)
    return True


def _pod_usage(pod: Obj, now: datetime) -> ResourceList:
    found: ResourceList = {"count/pods": _ONE}
    if is_quota_pod(pod, now):
        requests = pod_requests(pod, use_status=True)
        found.update(_compute_usage(requests, pod_limits(pod, use_status=True)))
    return found


def _compute_usage(requests: ResourceList, limits: ResourceList) -> ResourceList:
    found: ResourceList = {"pods": _ONE}
    for name in _COMPUTE:
        if name in requests:
            found[name] = found[f"requests.{name}"] = requests[name]
        if name in limits:
            found[f"limits.{name}"] = limits[name]
    for name, quantity in requests.items():
        if name.startswith("hugepages-"):
            found[name] = found[f"requests.{name}"] = quantity
        elif is_extended_request(f"requests.{name}"):
            found[f"requests.{name}"] = quantity
    return found


def _service_usage(service: Obj) -> ResourceList:
    spec = service.get("spec") or {}
    ports = spec.get("ports") or ()
    node_ports = balancers = 0
    if spec.get("type") == "NodePort":
        node_ports = len(ports)
    elif spec.get("type") == "LoadBalancer":
        balancers = 1
        if spec.get("allocateLoadBalancerNodePorts") is False:
            node_ports = sum(1 for port in ports if port.get("nodePort"))
        else:
            node_ports = len(ports)
    return {
        "count/services": _ONE,
        "services": _ONE,
        "services.nodeports": Quantity.of(node_ports),
        "services.loadbalancers": Quantity.of(balancers),
    }


def _claim_usage(claim: Obj) -> ResourceList:
    spec = claim.get("spec") or {}
    annotations = (claim.get("metadata") or {}).get("annotations") or {}
    storage_class = annotations.get(_STORAGE_CLASS_ANNOTATION) or spec.get("storageClassName")
    found: ResourceList = {"persistentvolumeclaims": _ONE}
    request = ((spec.get("resources") or {}).get("requests") or {}).get("storage")
    if request is not None:
        storage = parse_quantity(request)
        allocated = ((claim.get("status") or {}).get("allocatedResources") or {}).get("storage")
        if allocated is not None and parse_quantity(allocated) > storage:
            storage = parse_quantity(allocated)
        found["requests.storage"] = storage.round_up(0)
    if storage_class:
        prefix = f"{storage_class}{_CLASS_SUFFIX}"
        found.update({f"{prefix}{name}": quantity for name, quantity in list(found.items())})
    return found


def _resource_claim_usage(claim: Obj) -> ResourceList:
    """Devices by class; a request with alternatives counts its largest."""
    counts: dict[str, int] = {}
    devices = (claim.get("spec") or {}).get("devices") or {}
    for request in devices.get("requests") or ():
        options = request.get("firstAvailable") or [request.get("exactly") or {}]
        largest: dict[str, int] = {}
        for option in options:
            name = option.get("deviceClassName")
            if name:
                count = 32 if option.get("allocationMode") == "All" else option.get("count") or 1
                largest[name] = max(largest.get(name, 0), int(count))
        for name, count in largest.items():
            counts[name] = counts.get(name, 0) + count
    return {f"{name}{DEVICE_CLASS_SUFFIX}": Quantity.of(count) for name, count in counts.items()}


def missing_constraints(required: Iterable[str], pod: Obj) -> str:
    """Upstream's text when containers lack requests or limits that a quota counts."""
    spec = pod.get("spec") or {}
    if is_pod_level_resources_set(spec):
        return ""
    wanted = _MUST_BE_SET.intersection(required)
    missing: dict[str, set[str]] = {}
    for field in ("containers", "initContainers"):
        for container in spec.get(field) or ():
            resources = container.get("resources") or {}
            present = _compute_usage(
                parse_list(resources.get("requests")), parse_list(resources.get("limits"))
            )
            for name in wanted.difference(present):
                missing.setdefault(name, set()).add(container.get("name") or "")
    if not missing:
        return ""
    parts = [f"{name} for: {','.join(sorted(missing[name]))}" for name in sorted(missing)]
    return f"must specify {'; '.join(parts)}"


def scope_selectors(quota: Obj) -> list[Obj]:
    """``spec.scopes`` and ``spec.scopeSelector`` as one list of requirements."""
    spec = quota.get("spec") or {}
    listed = [{"scopeName": scope, "operator": "Exists"} for scope in spec.get("scopes") or ()]
    return listed + list((spec.get("scopeSelector") or {}).get("matchExpressions") or ())


def matches_quota(resource: GroupResource, obj: Obj, quota: Obj) -> bool:
    """Whether the quota counts a resource of this kind and all its scopes fit the object."""
    hard = (quota.get("status") or {}).get("hard") or {}
    if not matching_resources(resource, hard):
        return False
    return all(_matches_scope(resource, obj, s) for s in scope_selectors(quota))


def claim_in_scopes(quota: Obj, claim: Obj) -> bool:
    """Whether all scopes of the quota fit a persistent volume claim."""
    return all(_matches_scope(CLAIMS, claim, selector) for selector in scope_selectors(quota))


def is_terminating(pod: Obj) -> bool:
    """The pod has an active deadline (scope Terminating)."""
    deadline = (pod.get("spec") or {}).get("activeDeadlineSeconds")
    return deadline is not None and deadline >= 0


def _matches_scope(resource: GroupResource, obj: Obj, selector: Obj) -> bool:
    scope = selector.get("scopeName")
    if resource == CLAIMS:
        if scope != "VolumeAttributesClass":
            return False
        return _matches_names(selector, scope, attribute_classes(obj))
    if resource != PODS:
        return False
    if scope in ("Terminating", "NotTerminating"):
        return bool(is_terminating(obj) == (scope == "Terminating"))
    if scope in ("BestEffort", "NotBestEffort"):
        return bool((pod_qos(obj) == BEST_EFFORT) == (scope == "BestEffort"))
    if scope == "PriorityClass":
        name = (obj.get("spec") or {}).get("priorityClassName")
        return _matches_names(selector, scope, [name] if name else [])
    if scope == "CrossNamespacePodAffinity":
        return _crosses_namespaces(obj)
    return False


def _matches_names(selector: Obj, scope: str, names: list[str]) -> bool:
    if selector.get("operator") == "Exists":
        return bool(names)
    test = parse_selector(_selector_text(selector, scope))
    candidates: list[Mapping[str, str]] = [{scope: name} for name in names] or [{}]
    return any(test.matches(labels) for labels in candidates)


def _selector_text(selector: Obj, scope: str) -> str:
    operator, values = selector.get("operator"), ",".join(selector.get("values") or ())
    if operator == "DoesNotExist":
        return f"!{scope}"
    return f"{scope} {'in' if operator == 'In' else 'notin'} ({values})"


def attribute_classes(claim: Obj) -> list[str]:
    """The VolumeAttributesClasses that a claim wants, has, or is on its way to."""
    spec, status = claim.get("spec") or {}, claim.get("status") or {}
    modifying = (status.get("modifyVolumeStatus") or {}).get("targetVolumeAttributesClassName")
    named = (
        spec.get("volumeAttributesClassName"),
        status.get("currentVolumeAttributesClassName"),
        modifying,
    )
    return list(dict.fromkeys(name for name in named if name))


def _crosses_namespaces(pod: Obj) -> bool:
    affinity = (pod.get("spec") or {}).get("affinity") or {}
    for kind in ("podAffinity", "podAntiAffinity"):
        rules: dict[str, Any] = affinity.get(kind) or {}
        terms = list(rules.get("requiredDuringSchedulingIgnoredDuringExecution") or ())
        terms += [
            weighted.get("podAffinityTerm") or {}
            for weighted in rules.get("preferredDuringSchedulingIgnoredDuringExecution") or ()
        ]
        if any(t.get("namespaces") or t.get("namespaceSelector") is not None for t in terms):
            return True
    return False
