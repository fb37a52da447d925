"""Warnings about pods and templates that are legal but surely not meant."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pilothouse.apis.core.pod_helpers import visit_containers
from pilothouse.apis.core.resource_names import parse_quantity
from pilothouse.apis.core.validation_pod_annotations import (
    APP_ARMOR_PREFIX,
    SECCOMP_CONTAINER_PREFIX,
    SECCOMP_POD,
)
from pilothouse.apis.core.warnings_volume import overlapping_paths, volume_warnings
from pilothouse.apis.meta.validation import child, ip_warnings

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pilothouse.apimachinery.object import Obj

_REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
_PREFERRED = "preferredDuringSchedulingIgnoredDuringExecution"
_NULL_SELECTOR = "a null labelSelector results in matching no pod"
_NODE_LABELS = {
    "beta.kubernetes.io/arch": 'deprecated since v1.14; use "kubernetes.io/arch" instead',
    "beta.kubernetes.io/os": 'deprecated since v1.14; use "kubernetes.io/os" instead',
    "failure-domain.beta.kubernetes.io/region": (
        'deprecated since v1.17; use "topology.kubernetes.io/region" instead'
    ),
    "failure-domain.beta.kubernetes.io/zone": (
        'deprecated since v1.17; use "topology.kubernetes.io/zone" instead'
    ),
    "beta.kubernetes.io/instance-type": (
        'deprecated since v1.17; use "node.kubernetes.io/instance-type" instead'
    ),
}
_ANNOTATIONS = {
    "scheduler.alpha.kubernetes.io/critical-pod": (
        'non-functional in v1.16+; use the "priorityClassName" field instead'
    ),
    "security.alpha.kubernetes.io/sysctls": (
        'non-functional in v1.11+; use the "sysctls" field instead'
    ),
    "security.alpha.kubernetes.io/unsafe-sysctls": (
        'non-functional in v1.11+; use the "sysctls" field instead'
    ),
}
_WHOLE_BYTES = ("memory", "ephemeral-storage")


def pod_template_warnings(obj: Obj, path: str = "spec.template") -> list[str]:
    """Of the template at ``path`` of a workload object."""
    template: Obj = obj
    for step in path.split("."):
        template = template.get(step) or {}
    return pod_warnings(template, path)


def pod_warnings(pod: Obj, path: str = "") -> list[str]:
    """Of a pod (no ``path``) or of a template."""
    spec, metadata = pod.get("spec") or {}, pod.get("metadata") or {}
    annotations = metadata.get("annotations") or {}
    at = child(path, "spec")
    warnings: list[str] = []
    if spec.get("nodeSelector") or spec.get("affinity"):
        warnings += _node_labels(spec, at)
    if spec.get("topologySpreadConstraints"):
        warnings += _spread(spec["topologySpreadConstraints"], at)
    if annotations:
        warnings += _annotations(annotations, child(path, "metadata.annotations"))
    if spec.get("volumes"):
        warnings += volume_warnings(spec["volumes"], at) + overlapping_paths(spec["volumes"])
    warnings += _duplicates(spec, at)
    if spec.get("overhead"):
        warnings += _fractions(spec["overhead"], f"{at}.overhead")
    if annotations:
        warnings += _old_profiles(spec, annotations, path)
    for container, container_at in visit_containers(spec, at):
        warnings += _container(container, container_at)
    warnings += _ports(spec, at)
    grace = spec.get("terminationGracePeriodSeconds")
    if grace is not None and grace < 0:
        warnings.append(
            f"{at}.terminationGracePeriodSeconds: must be >= 0; negative values are invalid and "
            "will be treated as 1"
        )
    if spec.get("affinity"):
        warnings += _null_selectors(spec["affinity"], f"{at}.affinity")
    for i, server in enumerate((spec.get("dnsConfig") or {}).get("nameservers") or ()):
        warnings += ip_warnings(f"{at}.dnsConfig.nameservers[{i}]", server)
    for i, alias in enumerate(spec.get("hostAliases") or ()):
        warnings += ip_warnings(f"{at}.hostAliases[{i}].ip", alias.get("ip") or "")
    return warnings


def _node_labels(spec: Obj, path: str) -> list[str]:
    warnings = [
        f"{path}.nodeSelector[{key}]: {_NODE_LABELS[key]}"
        for key in spec.get("nodeSelector") or ()
        if key in _NODE_LABELS
    ]
    affinity = (spec.get("affinity") or {}).get("nodeAffinity") or {}
    at = f"{path}.affinity.nodeAffinity"
    terms = (affinity.get(_REQUIRED) or {}).get("nodeSelectorTerms") or ()
    for i, term in enumerate(terms):
        warnings += _term_labels(term, f"{at}.{_REQUIRED}.nodeSelectorTerms[{i}]")
    for i, weighted in enumerate(affinity.get(_PREFERRED) or ()):
        warnings += _term_labels(
            weighted.get("preference") or {}, f"{at}.{_PREFERRED}[{i}].preference"
        )
    return warnings


def _term_labels(term: Obj, path: str) -> list[str]:
    return [
        f"{path}.matchExpressions[{i}].key: {e['key']} is {_NODE_LABELS[e['key']]}"
        for i, e in enumerate(term.get("matchExpressions") or ())
        if e.get("key") in _NODE_LABELS
    ]


def _spread(constraints: Iterable[Obj], path: str) -> list[str]:
    warnings = []
    for i, constraint in enumerate(constraints):
        at, key = f"{path}.topologySpreadConstraints[{i}]", constraint.get("topologyKey")
        if key in _NODE_LABELS:
            warnings.append(f"{at}.topologyKey: {key} is {_NODE_LABELS[key]}")
        if constraint.get("labelSelector") is None:
            warnings.append(f"{at}.labelSelector: {_NULL_SELECTOR}")
    return warnings


def _annotations(annotations: Obj, path: str) -> list[str]:
    return [
        f"{path}[{key}]: {message}" for key, message in _ANNOTATIONS.items() if key in annotations
    ]


def _duplicates(spec: Obj, path: str) -> list[str]:
    warnings = []
    for field, key, what in (("hostAliases", "ip", "ip"), ("imagePullSecrets", "name", "name")):
        seen: set[str] = set()
        for i, item in enumerate(spec.get(field) or ()):
            value = item.get(key) or ""
            if value in seen:
                warnings.append(f'{path}.{field}[{i}].{key}: duplicate {what} "{value}"')
            seen.add(value)
    for i, item in enumerate(spec.get("imagePullSecrets") or ()):
        if not item.get("name"):
            warnings.append(f'{path}.imagePullSecrets[{i}].name: invalid empty name ""')
    return warnings


def _fractions(resources: Obj, path: str) -> list[str]:
    warnings = []
    for name in _WHOLE_BYTES:
        if name in resources and parse_quantity(resources[name]).milli_value() % 1000:
            warnings.append(
                f'{path}[{name}]: fractional byte value "{resources[name]}" is invalid, must be '
                "an integer"
            )
    return warnings


def _old_profiles(spec: Obj, annotations: Obj, path: str) -> list[str]:
    at = child(path, "metadata.annotations")
    message = 'non-functional in v1.27+; use the "seccompProfile" field instead'
    warnings = []
    context = spec.get("securityContext") or {}
    if SECCOMP_POD in annotations and context.get("seccompProfile") is None:
        warnings.append(f"{at}[{SECCOMP_POD}]: {message}")
    for container, _ in visit_containers(spec):
        own, name = container.get("securityContext") or {}, container.get("name") or ""
        key = SECCOMP_CONTAINER_PREFIX + name
        if key in annotations and own.get("seccompProfile") is None:
            warnings.append(f"{at}[{key}]: {message}")
        key = APP_ARMOR_PREFIX + name
        # For pods the annotation becomes a field (applyAppArmorVersionSkew), with its own warning.
        if path and key in annotations and own.get("appArmorProfile") is None:
            profile = app_armor_profile_of(annotations[key])
            if context.get("appArmorProfile") is None or context["appArmorProfile"] != profile:
                warnings.append(
                    f'{at}[{key}]: deprecated since v1.30; use the "appArmorProfile" field instead'
                )
    return warnings


def app_armor_profile_of(annotation: str) -> Obj | None:
    """ApparmorFieldForAnnotation."""
    if annotation == "unconfined":
        return {"type": "Unconfined"}
    if annotation == "runtime/default":
        return {"type": "RuntimeDefault"}
    local = annotation.removeprefix("localhost/")
    if local != annotation and local:
        return {"type": "Localhost", "localhostProfile": local}
    return None


def _container(container: Obj, path: str) -> list[str]:
    warnings = []
    resources = container.get("resources")
    if resources:
        for kind in ("limits", "requests"):
            if resources.get(kind):
                warnings += _fractions(resources[kind], f"{path}.resources.{kind}")
    variables = container.get("env") or ()
    if len(variables) > 1:
        seen: set[str] = set()
        for i, variable in enumerate(variables):
            name, value = variable.get("name") or "", variable.get("value") or ""
            reference = f"$({name})"
            if name in seen and (
                variable.get("valueFrom") is not None
                or value == reference
                or reference not in value
            ):
                warnings.append(
                    f'{path}.env[{i}]: hides previous definition of "{name}", which may be '
                    "dropped when using apply"
                )
            seen.add(name)
    return warnings


def _ports(spec: Obj, path: str) -> list[str]:
    warnings: list[str] = []
    by_number: dict[tuple[int, str], list[tuple[str, Obj]]] = {}
    by_name: dict[str, str] = {}
    names: list[str] = []
    for container, container_at in visit_containers(spec, path):
        for i, port in enumerate(container.get("ports") or ()):
            at = f"{container_at}.ports[{i}]"
            if port.get("hostIP") and not port.get("hostPort"):
                warnings.append(f"{at}: hostIP set without hostPort: {_go_port(port)}")
            key = (port.get("containerPort") or 0, port.get("protocol") or "")
            others = by_number.setdefault(key, [])
            for other_at, other in others:
                warnings += _port_overlap(at, port, other_at, other)
            others.append((at, port))
            name = port.get("name")
            if name and name in by_name:
                names.append(
                    f'{at}: duplicate port name "{name}" with {by_name[name]}, services and probes '
                    f"that select ports by name will use {by_name[name]}"
                )
            elif name:
                by_name[name] = at
    return warnings + names


def _port_overlap(at: str, port: Obj, other_at: str, other: Obj) -> list[str]:
    ip, other_ip = port.get("hostIP") or "", other.get("hostIP") or ""
    host, other_host = port.get("hostPort") or 0, other.get("hostPort") or 0
    if ip == other_ip and host == other_host:
        return [f"{at}: duplicate port definition with {other_at}"]
    if not host or not other_host:
        return [f"{at}: overlapping port definition with {other_at}"]
    if host == other_host and bool(ip) != bool(other_ip):
        return [f"{at}: dangerously ambiguous port definition with {other_at}"]
    return []


def _go_port(port: Obj) -> str:
    return (
        f"{{Name:{port.get('name') or ''} HostPort:0 "
        f"ContainerPort:{port.get('containerPort') or 0} Protocol:{port.get('protocol') or ''} "
        f"HostIP:{port.get('hostIP') or ''}}}"
    )


def _null_selectors(affinity: Obj, path: str) -> list[str]:
    warnings = []
    for field in ("podAffinity", "podAntiAffinity"):
        terms = affinity.get(field) or {}
        for i, term in enumerate(terms.get(_REQUIRED) or ()):
            if term.get("labelSelector") is None:
                warnings.append(f"{path}.{field}.{_REQUIRED}[{i}].labelSelector: {_NULL_SELECTOR}")
        for i, weighted in enumerate(terms.get(_PREFERRED) or ()):
            if (weighted.get("podAffinityTerm") or {}).get("labelSelector") is None:
                at = f"{path}.{field}.{_PREFERRED}[{i}].podAffinityTerm.labelSelector"
                warnings.append(f"{at}: {_NULL_SELECTOR}")
    return warnings
