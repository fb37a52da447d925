"""Containers of a pod: regular, init and ephemeral."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pilothouse.apimachinery import names
from pilothouse.apis.core.resource_requests import is_restartable_init_container
from pilothouse.apis.core.validation_env import validate_env, validate_env_from
from pilothouse.apis.core.validation_mounts import validate_devices, validate_mounts
from pilothouse.apis.core.validation_probe import validate_lifecycle, validate_probes
from pilothouse.apis.core.validation_resources import container_requirements
from pilothouse.apis.core.validation_security import validate_security_context
from pilothouse.apis.meta.errors import (
    add_all,
    duplicate,
    forbidden,
    invalid,
    not_found,
    not_supported,
    required,
    too_many,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pilothouse.apimachinery.fieldpath import ErrorList
    from pilothouse.apimachinery.object import Obj

PULL_POLICIES = ("Always", "IfNotPresent", "Never")
_MESSAGE_POLICIES = ("File", "FallbackToLogsOnError")
_PROTOCOLS = ("SCTP", "TCP", "UDP")
_NOT_FOR_EPHEMERAL = {
    "ports": "ports",
    "resources": "resources",
    "resizePolicy": "resizePolicy",
    "restartPolicy": "restartPolicy",
    "restartPolicyRules": "restartPolicyRules",
    "livenessProbe": "livenessProbe",
    "readinessProbe": "readinessProbe",
    "startupProbe": "startupProbe",
    "lifecycle": "lifecycle",
}
_NOT_FOR_PLAIN_INIT = ("lifecycle", "livenessProbe", "readinessProbe", "startupProbe")


@dataclass(frozen=True, slots=True)
class PodParts:
    """What the checks of one container need to know of its pod."""

    volumes: dict[str, Obj]
    claim_names: frozenset[str]
    grace_period: int | None
    restart_policy: str
    host_users: bool
    os: Obj | None
    allow_sys_admin: bool = False
    allow_restart_container_for_init: bool = False


def validate_containers(
    errors: ErrorList, containers: Sequence[Obj], pod: PodParts, path: str
) -> None:
    if not containers:
        errors.append(required(path))
        return
    seen: set[str] = set()
    for i, container in enumerate(containers):
        at = f"{path}[{i}]"
        _common(errors, container, pod, at)
        name = container.get("name") or ""
        if name in seen:
            errors.append(duplicate(f"{at}.name", name))
        seen.add(name)
        if container.get("lifecycle") is not None:
            validate_lifecycle(
                errors, container["lifecycle"], pod.grace_period, f"{at}.lifecycle", pod.os
            )
        validate_probes(errors, container, pod.grace_period, at)
        restart_policy(errors, container, at)
    host_port_conflicts(errors, containers, path)


def validate_init_containers(
    errors: ErrorList,
    containers: Sequence[Obj],
    regular: Sequence[Obj],
    pod: PodParts,
    path: str,
) -> None:
    seen = {c.get("name") for c in regular}
    for i, container in enumerate(containers):
        at = f"{path}[{i}]"
        _common(errors, container, pod, at)
        restart_policy(errors, container, at)
        name = container.get("name") or ""
        if name in seen:
            errors.append(duplicate(f"{at}.name", name))
        elif name:
            seen.add(name)
        host_port_conflicts(errors, (container,), path)
        if is_restartable_init_container(container):
            if container.get("lifecycle") is not None:
                validate_lifecycle(
                    errors, container["lifecycle"], pod.grace_period, f"{at}.lifecycle", pod.os
                )
            validate_probes(errors, container, pod.grace_period, at)
        else:
            _plain_init_container(errors, container, pod, at)


def _plain_init_container(errors: ErrorList, container: Obj, pod: PodParts, path: str) -> None:
    for field in _NOT_FOR_PLAIN_INIT:
        if container.get(field) is not None:
            message = "may not be set for init containers without restartPolicy=Always"
            errors.append(forbidden(f"{path}.{field}", message))
    if pod.allow_restart_container_for_init:
        return
    for i, policy in enumerate(container.get("resizePolicy") or ()):
        if policy.get("restartPolicy") == "RestartContainer":
            message = "must not be set to 'RestartContainer' for non-sidecar initContainers"
            at = f"{path}.resizePolicy[{i}].restartPolicy"
            errors.append(invalid(at, "RestartContainer", message))


def validate_ephemeral_containers(
    errors: ErrorList,
    containers: Sequence[Obj],
    others: Sequence[Obj],
    pod: PodParts,
    path: str,
) -> None:
    other_names = {c.get("name") or "" for c in others}
    seen = set(other_names)
    message = "cannot be set for an Ephemeral Container"
    for i, container in enumerate(containers):
        at = f"{path}[{i}]"
        _common(errors, container, pod, at)
        image_whitespace(errors, container, at)
        name = container.get("name") or ""
        if name in seen:
            errors.append(duplicate(f"{at}.name", name))
        seen.add(name)
        target = container.get("targetContainerName")
        if target and target not in other_names:
            errors.append(not_found(f"{at}.targetContainerName", target))
        for field in _NOT_FOR_EPHEMERAL:
            if container.get(field):
                errors.append(forbidden(f"{at}.{field}", message))
        for j, mount in enumerate(container.get("volumeMounts") or ()):
            for field in ("subPath", "subPathExpr"):
                if mount.get(field):
                    errors.append(forbidden(f"{at}.volumeMounts[{j}].{field}", message))


def _common(errors: ErrorList, container: Obj, pod: PodParts, path: str) -> None:
    """validateContainerCommon."""
    get = container.get
    name = get("name") or ""
    if not name:
        errors.append(required(f"{path}.name"))
    else:
        messages = names.is_dns1123_label(name)
        if messages:
            add_all(errors, f"{path}.name", name, messages)
    if not get("image"):
        errors.append(required(f"{path}.image"))
    if get("terminationMessagePolicy") not in _MESSAGE_POLICIES:
        _required_enum(errors, container, "terminationMessagePolicy", _MESSAGE_POLICIES, path)
    ports = get("ports")
    if ports:
        validate_container_ports(errors, ports, f"{path}.ports")
    env = get("env")
    if env:
        validate_env(errors, env, f"{path}.env")
    env_from = get("envFrom")
    if env_from:
        validate_env_from(errors, env_from, f"{path}.envFrom")
    mounts, devices = get("volumeMounts"), get("volumeDevices")
    if mounts:
        validate_mounts(errors, container, mounts, devices or (), pod.volumes, path)
    if devices:
        validate_devices(errors, devices, mounts or (), pod.volumes, path)
    if get("imagePullPolicy") not in PULL_POLICIES:
        _required_enum(errors, container, "imagePullPolicy", PULL_POLICIES, path)
    resources = get("resources")
    if resources:
        container_requirements(errors, resources, pod.claim_names, f"{path}.resources")
    resize = get("resizePolicy")
    if resize:
        _resize_policy(errors, resize, pod.restart_policy, f"{path}.resizePolicy")
    context = get("securityContext")
    if context:
        validate_security_context(
            errors,
            context,
            f"{path}.securityContext",
            host_users=pod.host_users,
            allow_sys_admin=pod.allow_sys_admin,
        )


def _required_enum(
    errors: ErrorList, obj: Obj, field: str, valid: tuple[str, ...], path: str
) -> None:
    value = obj.get(field)
    if not value:
        errors.append(required(f"{path}.{field}"))
    elif value not in valid:
        errors.append(not_supported(f"{path}.{field}", value, valid))


def validate_container_ports(errors: ErrorList, ports: Sequence[Obj], path: str) -> None:
    seen: set[str] = set()
    for i, port in enumerate(ports):
        name = port.get("name")
        if name:
            messages = names.is_valid_port_name(name)
            if messages:
                add_all(errors, f"{path}[{i}].name", name, messages)
            elif name in seen:
                errors.append(duplicate(f"{path}[{i}].name", name))
            else:
                seen.add(name)
        number = port.get("containerPort") or 0
        if number == 0:
            errors.append(required(f"{path}[{i}].containerPort"))
        else:
            _port(errors, number, f"{path}[{i}].containerPort")
        host_port = port.get("hostPort")
        if host_port:
            _port(errors, host_port, f"{path}[{i}].hostPort")
        protocol = port.get("protocol") or ""
        if protocol not in _PROTOCOLS:
            if not protocol:
                errors.append(required(f"{path}[{i}].protocol"))
            else:
                errors.append(not_supported(f"{path}[{i}].protocol", protocol, _PROTOCOLS))


def _port(errors: ErrorList, number: Any, path: str) -> None:
    if not 1 <= number <= 65535:
        add_all(errors, path, number, names.is_valid_port_num(number))


def host_port_conflicts(errors: ErrorList, containers: Sequence[Obj], path: str) -> None:
    seen: set[str] = set()
    for i, container in enumerate(containers):
        for j, port in enumerate(container.get("ports") or ()):
            if not port.get("hostPort"):
                continue
            key = f"{port.get('protocol') or ''}/{port.get('hostIP') or ''}/{port['hostPort']}"
            if key in seen:
                errors.append(duplicate(f"{path}[{i}].ports[{j}].hostPort", key))
            seen.add(key)


def _resize_policy(
    errors: ErrorList, policies: Sequence[Obj], pod_restart_policy: str, path: str
) -> None:
    seen: set[str] = set()
    for i, policy in enumerate(policies):
        resource, restart = policy.get("resourceName") or "", policy.get("restartPolicy") or ""
        if resource in seen:
            errors.append(duplicate(f"{path}[{i}]", resource))
        seen.add(resource)
        for value, valid in (
            (resource, ("cpu", "memory")),
            (restart, ("NotRequired", "RestartContainer")),
        ):
            if not value:
                errors.append(required(path))
            elif value not in valid:
                errors.append(not_supported(path, value, valid))
        if pod_restart_policy == "Never" and restart != "NotRequired":
            message = "must be 'NotRequired' when pod `restartPolicy` is 'Never'"
            errors.append(invalid(path, restart, message))


def restart_policy(errors: ErrorList, container: Obj, path: str) -> None:
    """validateContainerRestartPolicy: a container's own policy and its rules."""
    policy, rules = container.get("restartPolicy"), container.get("restartPolicyRules") or ()
    if policy is None:
        if not rules:
            return
        message = "must specify restartPolicy when restart rules are used"
        errors.append(required(f"{path}.restartPolicy", message))
    else:
        valid = ("Always", "Never", "OnFailure")
        if policy not in valid:
            errors.append(not_supported(f"{path}.restartPolicy", policy, valid))
    if len(rules) > 20:
        errors.append(too_many(f"{path}.restartPolicyRules", len(rules), 20))
    for i, rule in enumerate(rules):
        _restart_rule(errors, rule, f"{path}.restartPolicyRules[{i}]")


def _restart_rule(errors: ErrorList, rule: Obj, path: str) -> None:
    actions = ("Restart", "RestartAllContainers")
    if rule.get("action") not in actions:
        errors.append(not_supported(f"{path}.action", rule.get("action") or "", actions))
    codes = rule.get("exitCodes")
    if codes is None:
        errors.append(required(f"{path}.exitCodes", "must be specified"))
        return
    operator = codes.get("operator") or ""
    if operator not in ("In", "NotIn"):
        errors.append(not_supported(f"{path}.exitCodes.operator", operator, ("In", "NotIn")))
    values = codes.get("values") or ()
    if len(values) > 255:
        errors.append(too_many(f"{path}.exitCodes.values", len(values), 255))


def image_whitespace(errors: ErrorList, container: Obj, path: str) -> None:
    image = container.get("image") or ""
    if image and (image[0].isspace() or image[-1].isspace()):
        message = "must not have leading or trailing whitespace"
        errors.append(invalid(f"{path}.image", image, message))
