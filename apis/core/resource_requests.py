"""What a pod asks for in sum (component-helpers/resource): the scheduler, quotas, the kubelet.

Init containers run one after the other, so the largest counts; sidecars (init containers with
``restartPolicy: Always``) stay and add to everything that starts after them; pod-level
resources replace the containers' sum; overhead is added last.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pilothouse.apis.core.resource_names import is_huge_page, is_pod_level, parse_quantity

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pilothouse.apimachinery.object import Obj
    from pilothouse.apimachinery.quantity import Quantity

ResourceList = dict[str, "Quantity"]
_NONE: Obj = {}


def pod_requests(
    pod: Obj,
    *,
    use_status: bool = False,
    exclude_overhead: bool = False,
    skip_pod_level: bool = False,
    non_missing: Mapping[str, str] | None = None,
) -> ResourceList:
    """PodRequests. ``use_status``: the larger of spec, allocated and actuated resources, as for
    a pod in the middle of a resize. ``non_missing``: requests that a container without one is
    taken to have (for scoring)."""
    spec = pod.get("spec") or _NONE
    result = aggregate_container_requests(pod, use_status=use_status, non_missing=non_missing)
    resources = spec.get("resources")
    if resources is not None and not skip_pod_level and _has_pod_level(resources.get("requests")):
        requests = resources.get("requests") or _NONE
        effective = parse_list(requests)
        status = pod.get("status") or _NONE
        if use_status and status.get("resources"):
            effective = {} if is_resize_infeasible(pod) else effective
            _raise_to(effective, parse_list(status["resources"].get("requests")))
            _raise_to(effective, parse_list(status.get("allocatedResources")))
        result.update({n: q for n, q in effective.items() if is_pod_level(n)})
    overhead = spec.get("overhead")
    if overhead and not exclude_overhead:
        _add(result, parse_list(overhead))
    return result


def pod_limits(
    pod: Obj, *, use_status: bool = False, exclude_overhead: bool = False
) -> ResourceList:
    """PodLimits; overhead only adds to limits that there are."""
    spec = pod.get("spec") or _NONE
    result = aggregate_container_limits(pod, use_status=use_status)
    resources = spec.get("resources")
    if resources and is_pod_level_resources_set(spec):
        effective = parse_list(resources.get("limits"))
        status = pod.get("status") or _NONE
        if use_status and status.get("resources"):
            effective = {} if is_resize_infeasible(pod) else effective
            _raise_to(effective, parse_list(status["resources"].get("limits")))
        result.update({n: q for n, q in effective.items() if is_pod_level(n)})
    if not exclude_overhead:
        for name, quantity in parse_list(spec.get("overhead")).items():
            if name in result and result[name].milli_value():
                result[name] = result[name] + quantity
    return result


def aggregate_container_requests(
    pod: Obj, *, use_status: bool = False, non_missing: Mapping[str, str] | None = None
) -> ResourceList:
    extra = parse_list(non_missing)
    spec_sum = _aggregate(pod, _spec_requests, extra)
    if not use_status:
        return spec_sum
    status = pod.get("status") or _NONE
    actuated_pod = (status.get("resources") or _NONE).get("requests")
    if status.get("allocatedResources") and actuated_pod:
        allocated = parse_list(status["allocatedResources"])
        actuated = parse_list(actuated_pod)
    else:
        statuses = _statuses(pod)
        infeasible = is_resize_infeasible(pod)
        allocated = _aggregate(pod, _allocated_requests(statuses, infeasible), extra)
        actuated = _aggregate(pod, _actuated(statuses, infeasible, "requests"), extra)
    result = {} if is_resize_infeasible(pod) else spec_sum
    _raise_to(result, actuated)
    _raise_to(result, allocated)
    return result


def aggregate_container_limits(pod: Obj, *, use_status: bool = False) -> ResourceList:
    spec_sum = _aggregate(pod, lambda c: (c.get("resources") or _NONE).get("limits"), {})
    if not use_status:
        return spec_sum
    infeasible = is_resize_infeasible(pod)
    pod_level = ((pod.get("status") or _NONE).get("resources") or _NONE).get("limits")
    if pod_level:
        actuated = parse_list(pod_level)
    else:
        actuated = _aggregate(pod, _actuated(_statuses(pod), infeasible, "limits"), {})
    if infeasible:
        return actuated
    _raise_to(spec_sum, actuated)
    return spec_sum


def is_resize_infeasible(pod: Obj) -> bool:
    for condition in (pod.get("status") or _NONE).get("conditions") or ():
        if condition.get("type") == "PodResizePending":
            return bool(condition.get("reason") == "Infeasible")
    return False


def is_pod_level_resources_set(spec: Obj) -> bool:
    """Whether ``spec.resources`` names cpu, memory or huge pages."""
    resources = spec.get("resources") or _NONE
    return _has_pod_level(resources.get("requests")) or _has_pod_level(resources.get("limits"))


def is_restartable_init_container(container: Obj) -> bool:
    return container.get("restartPolicy") == "Always"


def parse_list(resources: Mapping[str, Any] | None) -> ResourceList:
    """A wire resource list as quantities, in a new dict."""
    if not resources:
        return {}
    return {name: parse_quantity(text) for name, text in resources.items()}


def default_pod_level_resources(pod: Obj) -> None:
    """DefaultPodLevelResources: fills ``spec.resources`` from the containers and its limits."""
    spec = pod.get("spec") or _NONE
    resources = spec.get("resources")
    if not resources or not (resources.get("requests") or resources.get("limits")):
        return
    bare = {"spec": {k: spec.get(k) for k in ("containers", "initContainers")}}
    requests, limits = resources.get("requests") or {}, resources.get("limits") or {}
    for name, quantity in aggregate_container_limits(bare).items():
        if is_huge_page(name) and name not in requests:
            limits.setdefault(name, str(quantity))
    for name, quantity in aggregate_container_requests(bare).items():
        if is_pod_level(name) and not is_huge_page(name):
            requests.setdefault(name, str(quantity))
    for name, text in limits.items():
        if is_pod_level(name):
            requests.setdefault(name, text)
    _default_pod_level_limits(bare, requests, limits)
    if requests:
        resources["requests"] = requests
    if limits:
        resources["limits"] = limits


def _default_pod_level_limits(bare: Obj, requests: Obj, limits: Obj) -> None:
    """A limit for each requested resource that every container limits."""
    containers = [
        *(bare["spec"]["containers"] or ()),
        *(bare["spec"]["initContainers"] or ()),
    ]
    wanted = [
        name
        for name in requests
        if is_pod_level(name)
        and name not in limits
        and all(name in ((c.get("resources") or _NONE).get("limits") or _NONE) for c in containers)
    ]
    if not wanted:
        return
    aggregate = aggregate_container_limits(bare)
    for name in wanted:
        if name in aggregate:
            request = parse_quantity(requests[name])
            limits[name] = str(request if aggregate[name] < request else aggregate[name])


def _aggregate(
    pod: Obj, resources_of: Callable[[Obj], Mapping[str, Any] | None], extra: ResourceList
) -> ResourceList:
    spec = pod.get("spec") or _NONE
    result: ResourceList = {}
    for container in spec.get("containers") or ():
        _add(result, _with_missing(parse_list(resources_of(container)), extra))
    init_containers = spec.get("initContainers")
    if not init_containers:
        return result
    sidecars: ResourceList = {}
    peak: ResourceList = {}
    for container in init_containers:
        own = _with_missing(parse_list(resources_of(container)), extra)
        if is_restartable_init_container(container):
            _add(result, own)
            _add(sidecars, own)
            _raise_to(peak, sidecars)
        else:
            _add(own, sidecars)
            _raise_to(peak, own)
    _raise_to(result, peak)
    return result


def _with_missing(own: ResourceList, extra: ResourceList) -> ResourceList:
    for name, quantity in extra.items():
        own.setdefault(name, quantity)
    return own


def _spec_requests(container: Obj) -> Mapping[str, Any] | None:
    return (container.get("resources") or _NONE).get("requests")


def _statuses(pod: Obj) -> dict[str, Obj]:
    status = pod.get("status") or _NONE
    listed = [
        *(status.get("initContainerStatuses") or ()),
        *(status.get("containerStatuses") or ()),
    ]
    return {s.get("name") or "": s for s in listed}


def _allocated_requests(
    statuses: dict[str, Obj], infeasible: bool
) -> Callable[[Obj], Mapping[str, Any] | None]:
    def of(container: Obj) -> Mapping[str, Any] | None:
        status = statuses.get(container.get("name") or "") or _NONE
        allocated = status.get("allocatedResources")
        if allocated is not None:
            return allocated  # type: ignore[no-any-return]
        return None if infeasible else _spec_requests(container)

    return of


def _actuated(
    statuses: dict[str, Obj], infeasible: bool, kind: str
) -> Callable[[Obj], Mapping[str, Any] | None]:
    def of(container: Obj) -> Mapping[str, Any] | None:
        status = statuses.get(container.get("name") or "") or _NONE
        actuated = (status.get("resources") or _NONE).get(kind)
        if actuated is None and kind == "requests":
            actuated = status.get("allocatedResources")
        if actuated is not None:
            return actuated  # type: ignore[no-any-return]
        return None if infeasible else (container.get("resources") or _NONE).get(kind)

    return of


def _has_pod_level(resources: Mapping[str, Any] | None) -> bool:
    return any(is_pod_level(name) for name in resources or ())


def _add(total: ResourceList, more: ResourceList) -> None:
    for name, quantity in more.items():
        have = total.get(name)
        total[name] = quantity if have is None else have + quantity


def _raise_to(total: ResourceList, other: ResourceList) -> None:
    for name, quantity in other.items():
        have = total.get(name)
        if have is None or have < quantity:
            total[name] = quantity
