"""Status updates of pods."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pilothouse.apimachinery import names
from pilothouse.apis.core.pod_helpers import all_containers_could_restart, container_should_restart
from pilothouse.apis.core.validation_pod import options_for
from pilothouse.apis.core.validation_pod_annotations import (
    validate_pod_annotation_updates,
    validate_pod_annotations,
)
from pilothouse.apis.meta import validation as check
from pilothouse.apis.meta.errors import (
    IMMUTABLE,
    add_all,
    duplicate,
    forbidden,
    invalid,
    not_supported,
    required,
    too_long,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pilothouse.apimachinery.fieldpath import ErrorList
    from pilothouse.apimachinery.object import Obj

_SYSTEM_CONDITIONS = ("PodScheduled", "Ready", "Initialized")
_NOT_NEGATIVE_INTEGER = "must be a non-negative integer"
_HEALTH = ("Healthy", "Unhealthy", "Unknown")


def validate_pod_status_update(pod: Obj, old: Obj) -> ErrorList:
    errors: ErrorList = []
    spec, status = pod.get("spec") or {}, pod.get("status") or {}
    old_spec, old_status = old.get("spec") or {}, old.get("status") or {}
    _annotations(errors, pod, old, spec)
    _conditions(errors, status.get("conditions") or ())
    if spec.get("nodeName") != old_spec.get("nodeName"):
        errors.append(forbidden("status.nodeName", "may not be changed directly"))
    _nominated(errors, status, old_status, old_spec)
    if (status.get("observedGeneration") or 0) < 0:
        value = status["observedGeneration"]
        errors.append(invalid("status.observedGeneration", value, _NOT_NEGATIVE_INTEGER))
    if (status.get("qosClass") or "") != (old_status.get("qosClass") or ""):
        errors.append(invalid("status.qosClass", status.get("qosClass") or "", IMMUTABLE))
    for field, containers in (
        ("containerStatuses", "containers"),
        ("initContainerStatuses", "initContainers"),
        ("ephemeralContainerStatuses", ""),
    ):
        now = status.get(field) or ()
        _transitions(errors, now, old_status.get(field) or (), old_spec, containers, field)
    _claim_statuses(errors, status, spec)
    _ips(errors, status, old_status, "podIP", "podIPs")
    _ips(errors, status, old_status, "hostIP", "hostIPs")
    for field in ("containerStatuses", "initContainerStatuses", "ephemeralContainerStatuses"):
        _users(errors, status.get(field) or (), spec, f"status.{field}")
    _allocated_resources(errors, status, spec)
    return errors


def _annotations(errors: ErrorList, pod: Obj, old: Obj, spec: Obj) -> None:
    new = (pod.get("metadata") or {}).get("annotations") or {}
    before = (old.get("metadata") or {}).get("annotations") or {}
    if new == before:
        return
    validate_pod_annotation_updates(errors, new, before, "metadata.annotations")
    allow = options_for(old).allow_invalid_deletion_cost
    validate_pod_annotations(
        errors, new, spec, "metadata.annotations", allow_invalid_deletion_cost=allow
    )


def _conditions(errors: ErrorList, conditions: Sequence[Obj]) -> None:
    for i, condition in enumerate(conditions):
        at = f"status.conditions[{i}]"
        if (condition.get("observedGeneration") or 0) < 0:
            value = condition["observedGeneration"]
            errors.append(invalid(f"{at}.observedGeneration", value, _NOT_NEGATIVE_INTEGER))
        kind = condition.get("type") or ""
        if kind not in _SYSTEM_CONDITIONS:
            check.qualified_name(errors, kind, f"{at}.Type")


def _nominated(errors: ErrorList, status: Obj, old_status: Obj, old_spec: Obj) -> None:
    name = status.get("nominatedNodeName")
    if not name or name == old_status.get("nominatedNodeName"):
        return
    messages = names.is_dns1123_subdomain(name)
    add_all(errors, "status.nominatedNodeName", name, messages)
    if old_spec.get("nodeName"):
        message = "may not be set on pods that are already bound to a node"
        errors.append(forbidden("status.nominatedNodeName", message))


def _transitions(
    errors: ErrorList,
    new: Sequence[Obj],
    old: Sequence[Obj],
    spec: Obj,
    containers_field: str,
    field: str,
) -> None:
    """A container that has finished for good does not run again."""
    if containers_field and all_containers_could_restart(spec):
        return
    by_name = {s.get("name"): s for s in new}
    containers = {c.get("name"): c for c in spec.get(containers_field) or ()}
    for i, before in enumerate(old):
        terminated = (before.get("state") or {}).get("terminated")
        now = by_name.get(before.get("name"))
        if terminated is None or now is None or (now.get("state") or {}).get("terminated"):
            continue
        container = containers.get(before.get("name"))
        exit_code = terminated.get("exitCode") or 0
        if container is None or not container_should_restart(container, spec, exit_code):
            message = "may not be transitioned to non-terminated state"
            errors.append(forbidden(f"status.{field}[{i}].state", message))


def _claim_statuses(errors: ErrorList, status: Obj, spec: Obj) -> None:
    known = {c.get("name") for c in spec.get("resourceClaims") or ()}
    seen: set[str] = set()
    for i, claim in enumerate(status.get("resourceClaimStatuses") or ()):
        at, name = f"status.resourceClaimStatuses[{i}]", claim.get("name") or ""
        if name not in known:
            message = "must match the name of an entry in `spec.resourceClaims`"
            errors.append(invalid(f"{at}.name", name, message))
        if name in seen:
            errors.append(duplicate(f"{at}.name", name))
        seen.add(name)
        if claim.get("resourceClaimName") is not None:
            check.dns_subdomain(errors, claim["resourceClaimName"], f"{at}.resourceClaimName")
    extended = status.get("extendedResourceClaimStatus")
    if extended is not None:
        _extended_claim(errors, extended, spec, "status.extendedResourceClaimStatus")


def _extended_claim(errors: ErrorList, status: Obj, spec: Obj, path: str) -> None:
    mappings = status.get("requestMappings") or ()
    if not mappings:
        message = "at least one request mapping is required"
        errors.append(required(f"{path}.requestMappings", message))
    containers = {
        c.get("name"): c for f in ("initContainers", "containers") for c in spec.get(f) or ()
    }
    for i, mapping in enumerate(mappings):
        at, name = f"{path}.requestMappings[{i}]", mapping.get("containerName") or ""
        container = containers.get(name)
        if container is None:
            message = (
                "must match the name of an entry in spec.initContainers.name or "
                "spec.containers.name"
            )
            errors.append(invalid(f"{at}.containerName", name, message))
        else:
            resource = mapping.get("resourceName") or ""
            if resource not in ((container.get("resources") or {}).get("requests") or {}):
                message = (
                    "must match the extended resource name of an entry in "
                    "spec.initContainers.resources.requests or spec.containers.resources.requests"
                )
                errors.append(invalid(f"{at}.resourceName", resource, message))
        check.dns_label(errors, mapping.get("requestName") or "", f"{path}.requestName")
    claim = status.get("resourceClaimName") or ""
    if not claim:
        errors.append(required(f"{path}.resourceClaimName"))
    else:
        check.dns_subdomain(errors, claim, f"{path}.resourceClaimName")


def _ips(errors: ErrorList, status: Obj, old: Obj, single: str, plural: str) -> None:
    path = f"status.{plural}"
    ip, ips = status.get(single) or "", status.get(plural) or []
    values = [i.get("ip") or "" for i in ips]
    if plural == "hostIPs" and not ips:
        return
    existing = [i.get("ip") or "" for i in old.get(plural) or ()]
    for i, value in enumerate(values):
        check.ip_for_legacy_field(errors, value, f"{path}[{i}]", existing)
    if len(values) > 2 or (len(values) > 1 and not check.is_dual_stack(values)):
        message = "may specify no more than one IP for each IP family"
        errors.append(invalid(path, ips, message))
    if plural == "podIPs" and bool(ip) != bool(ips):
        message = "podIP and podIPs must either both be set or both be unset"
        errors.append(invalid(path, ips or None, message))
    elif ips and ip != values[0]:
        errors.append(invalid(f"{path}[0].ip", values[0], f"must be equal to `{single}`"))


def _users(errors: ErrorList, statuses: Sequence[Obj], spec: Obj, path: str) -> None:
    os = (spec.get("os") or {}).get("name") or "linux"
    for i, status in enumerate(statuses):
        user = (status.get("user") or {}).get("linux")
        if user is None:
            continue
        at = f"{path}[{i}].user.linux"
        if os == "windows":
            errors.append(forbidden(at, "cannot be set for a windows pod"))
            continue
        uid = user.get("uid") or 0
        if not 0 <= uid <= 0xFFFFFFFF:
            message = "must be between 0 and 4294967295, inclusive"
            errors.append(invalid(f"{at}.uid", uid, message))
        add_all(errors, f"{at}.gid", user.get("gid"), names.is_valid_user_id(user.get("gid") or 0))
        for j, group in enumerate(user.get("supplementalGroups") or ()):
            add_all(errors, f"{at}.supplementalGroups[{j}]", group, names.is_valid_user_id(group))


def _allocated_resources(errors: ErrorList, status: Obj, spec: Obj) -> None:
    for field, containers in (
        ("containerStatuses", "containers"),
        ("initContainerStatuses", "initContainers"),
    ):
        by_name = {c.get("name"): c for c in spec.get(containers) or ()}
        for i, item in enumerate(status.get(field) or ()):
            at = f"status.{field}[{i}].allocatedResourcesStatus"
            container = by_name.get(item.get("name"))
            for j, allocated in enumerate(item.get("allocatedResourcesStatus") or ()):
                _allocated_resource(errors, allocated, container, f"{at}[{j}]")
    for i, item in enumerate(status.get("ephemeralContainerStatuses") or ()):
        if item.get("allocatedResourcesStatus"):
            at = f"status.ephemeralContainerStatuses[{i}].allocatedResourcesStatus"
            errors.append(forbidden(at, "must not be specified in container status"))


def _allocated_resource(
    errors: ErrorList, allocated: Obj, container: Obj | None, path: str
) -> None:
    name = allocated.get("name") or ""
    if container is not None and not name.startswith("claim:"):
        if name not in ((container.get("resources") or {}).get("requests") or {}):
            message = "must match one of the container's resource requests"
            errors.append(invalid(f"{path}.name", name, message))
    elif container is not None:
        claims = (container.get("resources") or {}).get("claims") or ()
        known = {
            f"claim:{c.get('name')}/{c['request']}"
            if c.get("request")
            else f"claim:{c.get('name')}"
            for c in claims
        }
        if name not in known:
            message = (
                "must match one of the container's resource claims as "
                "'claim:<claimName>/<requestName>' when container.resources.claims[*].request is "
                "set or 'claim:<claimName>' when it is empty"
            )
            errors.append(invalid(f"{path}.name", name, message))
    seen: set[str] = set()
    for i, resource in enumerate(allocated.get("resources") or ()):
        at = f"{path}.resources[{i}]"
        health, message = resource.get("health") or "", resource.get("message")
        if health not in _HEALTH:
            errors.append(not_supported(f"{at}.health", health, _HEALTH))
        if message == "":
            errors.append(required(f"{at}.message", "must be non-empty if specified"))
        elif message is not None and len(message) > 1024:
            errors.append(too_long(f"{at}.message", 1024))
        identity = resource.get("resourceID") or ""
        if identity in seen:
            errors.append(duplicate(f"{at}.resourceID", identity))
        seen.add(identity)
