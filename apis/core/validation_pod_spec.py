"""The spec of a pod, alone or in a template (ValidatePodSpec)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pilothouse.apimachinery import names
from pilothouse.apis.core.pod_helpers import MIRROR_ANNOTATION, visit_containers
from pilothouse.apis.core.validation_container import (
    PodParts,
    validate_containers,
    validate_ephemeral_containers,
    validate_init_containers,
)
from pilothouse.apis.core.validation_resources import container_requirements, pod_level_resources
from pilothouse.apis.core.validation_scheduling import (
    validate_affinity,
    validate_tolerations,
    validate_topology_spread,
)
from pilothouse.apis.core.validation_security import (
    validate_os,
    validate_pod_security_context,
    windows_host_process,
)
from pilothouse.apis.core.validation_volume import validate_volumes
from pilothouse.apis.meta import validation as check
from pilothouse.apis.meta.errors import (
    add_all,
    duplicate,
    forbidden,
    inclusive_range,
    invalid,
    not_found,
    not_supported,
    required,
    too_long,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pilothouse.apimachinery.fieldpath import ErrorList
    from pilothouse.apimachinery.object import Obj

RESTART_POLICIES = ("Always", "OnFailure", "Never")
DNS_POLICIES = ("ClusterFirstWithHostNet", "ClusterFirst", "Default", "None")
_NO_CLAIMS: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class PodOptions:
    """What is let pass because the stored object already has it (PodValidationOptions)."""

    is_pod: bool = False
    allow_invalid_deletion_cost: bool = False
    allow_invalid_selector_values: bool = False
    allow_invalid_spread_selector: bool = False
    allow_non_local_token_path: bool = False
    allow_host_sysctls: bool = False
    allow_sys_admin: bool = False
    allow_restart_container_for_init: bool = False


NEW_POD = PodOptions(is_pod=True)
NEW_TEMPLATE = PodOptions()


def validate_pod_spec(
    errors: ErrorList,
    spec: Obj,
    path: str,
    *,
    metadata: Obj | None = None,
    options: PodOptions = NEW_TEMPLATE,
) -> None:
    """``metadata`` is a pod's; a template's is not looked at."""
    get = spec.get
    grace = get("terminationGracePeriodSeconds")
    if grace is None:
        errors.append(required(f"{path}.terminationGracePeriodSeconds"))
    volumes: dict[str, Obj] = {}
    if get("volumes"):
        volumes = validate_volumes(
            errors,
            spec["volumes"],
            f"{path}.volumes",
            pod_name=(metadata or {}).get("name"),
            allow_non_local_token_path=options.allow_non_local_token_path,
        )
    claims = get("resourceClaims")
    if claims:
        _resource_claims(errors, claims, metadata, f"{path}.resourceClaims")
    parts = PodParts(
        volumes=volumes,
        claim_names=frozenset(c["name"] for c in claims if c.get("name")) if claims else _NO_CLAIMS,
        grace_period=grace,
        restart_policy=get("restartPolicy") or "",
        host_users=get("hostUsers") is not False,
        os=get("os"),
        allow_sys_admin=options.allow_sys_admin,
        allow_restart_container_for_init=options.allow_restart_container_for_init,
    )
    _containers(errors, spec, parts, path)
    _runtime(errors, spec, parts, path, options)
    _network(errors, spec, path, options)
    _placement(errors, spec, path, options)
    _names(errors, spec, path)
    _rest(errors, spec, path)


def _containers(errors: ErrorList, spec: Obj, parts: PodParts, path: str) -> None:
    regular = spec.get("containers") or ()
    validate_containers(errors, regular, parts, f"{path}.containers")
    init = spec.get("initContainers") or ()
    if init:
        validate_init_containers(errors, init, regular, parts, f"{path}.initContainers")
    ephemeral = spec.get("ephemeralContainers")
    if ephemeral:
        validate_ephemeral_containers(
            errors, ephemeral, [*regular, *init], parts, f"{path}.ephemeralContainers"
        )


def _runtime(errors: ErrorList, spec: Obj, parts: PodParts, path: str, options: PodOptions) -> None:
    get = spec.get
    if get("resources") is not None:
        pod_level_resources(errors, spec, parts.claim_names, path)
    if get("hostNetwork"):
        _host_network_ports(errors, spec, path, options.is_pod)
    if get("restartPolicy") not in RESTART_POLICIES:
        check.one_of(errors, get("restartPolicy"), RESTART_POLICIES, f"{path}.restartPolicy")
    context = get("securityContext")
    if context:
        validate_pod_security_context(
            errors,
            context,
            spec,
            f"{path}.securityContext",
            allow_host_sysctls=options.allow_host_sysctls,
        )
    if get("shareProcessNamespace") and get("hostPID"):
        message = "ShareProcessNamespace and HostPID cannot both be enabled"
        errors.append(invalid(f"{path}.shareProcessNamespace", True, message))
    windows_host_process(errors, spec, path)
    if get("hostUsers") is False:
        _host_users(errors, spec, path)
    deadline = get("activeDeadlineSeconds")
    if deadline is not None and not 1 <= deadline <= 2147483647:
        message = inclusive_range(1, 2147483647)
        errors.append(invalid(f"{path}.activeDeadlineSeconds", deadline, message))
    overhead = get("overhead")
    if overhead is not None:
        container_requirements(errors, {"limits": overhead}, _NO_CLAIMS, f"{path}.overhead")
    if get("os") is not None:
        validate_os(errors, spec, path)


def _network(errors: ErrorList, spec: Obj, path: str, options: PodOptions) -> None:
    get = spec.get
    policy = get("dnsPolicy")
    if policy not in DNS_POLICIES:
        check.one_of(errors, policy, DNS_POLICIES, f"{path}.dnsPolicy")
    if get("dnsConfig") is not None or policy == "None":
        _dns_config(errors, get("dnsConfig"), policy or "", f"{path}.dnsConfig")
    if get("hostnameOverride") is not None:
        _hostname_override(errors, spec, path)
    if get("hostname"):
        check.dns_label(errors, spec["hostname"], f"{path}.hostname")
    if get("subdomain"):
        check.dns_label(errors, spec["subdomain"], f"{path}.subdomain")
    for i, alias in enumerate(get("hostAliases") or ()):
        at = f"{path}.hostAliases[{i}]"
        check.ip_for_legacy_field(errors, alias.get("ip") or "", f"{at}.ip")
        for j, hostname in enumerate(alias.get("hostnames") or ()):
            check.dns_subdomain(errors, hostname, f"{at}.hostnames[{j}]")


def _placement(errors: ErrorList, spec: Obj, path: str, options: PodOptions) -> None:
    get = spec.get
    if get("nodeSelector"):
        check.labels(errors, spec["nodeSelector"], f"{path}.nodeSelector")
    if get("affinity"):
        validate_affinity(
            errors,
            spec["affinity"],
            f"{path}.affinity",
            allow_invalid_values=options.allow_invalid_selector_values,
        )
    for i, gate in enumerate(get("readinessGates") or ()):
        at = f"{path}.readinessGates[{i}].conditionType"
        check.qualified_name(errors, gate.get("conditionType") or "", at)
    gates = get("schedulingGates")
    if gates:
        _scheduling_gates(errors, gates, f"{path}.schedulingGates")
    spread = get("topologySpreadConstraints")
    if spread:
        validate_topology_spread(
            errors,
            spread,
            f"{path}.topologySpreadConstraints",
            allow_invalid_selector=options.allow_invalid_spread_selector,
        )
    if get("tolerations"):
        validate_tolerations(errors, spec["tolerations"], f"{path}.tolerations")


def _names(errors: ErrorList, spec: Obj, path: str) -> None:
    get = spec.get
    account = get("serviceAccountName") or ""
    for field in ("serviceAccountName", "nodeName", "priorityClassName", "runtimeClassName"):
        name = get(field)
        if name or (name == "" and field == "runtimeClassName"):
            messages = names.is_dns1123_subdomain(name)
            if messages:
                add_all(errors, f"{path}.{field}", name, messages)
    deprecated = get("serviceAccount")
    if deprecated is not None and deprecated != account:
        message = f'must be the same as serviceAccountName: "{account}"'
        errors.append(invalid(f"{path}.deprecatedServiceAccount", deprecated, message))


def _rest(errors: ErrorList, spec: Obj, path: str) -> None:
    get = spec.get
    preemption = get("preemptionPolicy")
    if preemption is not None:
        valid = ("PreemptLowerPriority", "Never")
        check.one_of(errors, preemption, valid, f"{path}.preemptionPolicy")
    group = get("schedulingGroup")
    if group is not None:
        _scheduling_group(errors, spec, group, f"{path}.schedulingGroup")
    _file_key_volumes(errors, spec, path)


def _resource_claims(
    errors: ErrorList, claims: Sequence[Obj], metadata: Obj | None, path: str
) -> None:
    if metadata is not None and MIRROR_ANNOTATION in (metadata.get("annotations") or {}):
        errors.append(forbidden("", "static pods do not support resource claims"))
        return
    seen: set[str] = set()
    for i, claim in enumerate(claims):
        at, name = f"{path}[{i}]", claim.get("name") or ""
        if not name:
            errors.append(required(f"{at}.name"))
        elif name in seen:
            errors.append(duplicate(f"{at}.name", name))
        else:
            check.dns_label(errors, name, f"{at}.name")
            seen.add(name)
        own, template = claim.get("resourceClaimName"), claim.get("resourceClaimTemplateName")
        if own is not None and template is not None:
            message = (
                "at most one of `resourceClaimName` or `resourceClaimTemplateName` may be specified"
            )
            errors.append(invalid(at, claim, message))
        if own is None and template is None:
            message = "must specify one of: `resourceClaimName`, `resourceClaimTemplateName`"
            errors.append(invalid(at, claim, message))
        if own is not None:
            check.dns_subdomain(errors, own, f"{at}.resourceClaimName")
        if template is not None:
            check.dns_subdomain(errors, template, f"{at}.resourceClaimTemplateName")


def _host_network_ports(errors: ErrorList, spec: Obj, path: str, is_pod: bool) -> None:
    message = "must match `containerPort` when `hostNetwork` is true"
    for i, container in enumerate(spec.get("containers") or ()):
        for j, port in enumerate(container.get("ports") or ()):
            host_port = port.get("hostPort") or 0
            if (is_pod or host_port) and host_port != (port.get("containerPort") or 0):
                at = f"{path}.containers[{i}].ports[{j}].hostPort"
                errors.append(invalid(at, host_port, message))


def _host_users(errors: ErrorList, spec: Obj, path: str) -> None:
    message = "when `hostUsers` is false"
    if spec.get("hostNetwork"):
        errors.append(forbidden(f"{path}.hostNetwork", message))
    for field, shown in (("hostPID", "HostPID"), ("hostIPC", "HostIPC")):
        if spec.get(field):
            errors.append(forbidden(f"{path}.{shown}", message))
    for container, at in visit_containers(spec, path):
        if container.get("volumeDevices"):
            errors.append(forbidden(f"{at}.volumeDevices", message))


def _hostname_override(errors: ErrorList, spec: Obj, path: str) -> None:
    at, name = f"{path}.hostnameOverride", spec["hostnameOverride"]
    if spec.get("setHostnameAsFQDN"):
        errors.append(forbidden(at, "may not be specified when setHostnameAsFQDN is true"))
    if spec.get("hostNetwork"):
        errors.append(forbidden(at, "may not be specified when hostNetwork is true"))
    if len(name) > 64:
        errors.append(too_long(at, 64))
    check.dns_subdomain(errors, name, at)


def _dns_config(errors: ErrorList, config: Obj | None, policy: str, path: str) -> None:
    servers = (config or {}).get("nameservers") or ()
    if policy == "None":
        if config is None:
            message = "must provide `dnsConfig` when `dnsPolicy` is None"
            errors.append(required(path, message))
            return
        if not servers:
            message = "must provide at least one DNS nameserver when `dnsPolicy` is None"
            errors.append(required(f"{path}.nameservers", message))
            return
    if config is None:
        return
    if len(servers) > 3:
        message = "must not have more than 3 nameservers"
        errors.append(invalid(f"{path}.nameservers", servers, message))
    for i, server in enumerate(servers):
        check.ip_for_legacy_field(errors, server, f"{path}.nameservers[{i}]")
    searches = config.get("searches") or ()
    if len(searches) > 32:
        message = "must not have more than 32 search paths"
        errors.append(invalid(f"{path}.searches", searches, message))
    if len(" ".join(searches)) > 2048:
        message = "must not have more than 2048 characters (including spaces) in the search list"
        errors.append(invalid(f"{path}.searches", searches, message))
    for i, search in enumerate(searches):
        if search != ".":
            search = search.removesuffix(".")
            messages = names.is_dns1123_subdomain_with_underscore(search)
            if messages:
                add_all(errors, f"{path}.searches[{i}]", search, messages)
    for i, option in enumerate(config.get("options") or ()):
        if not option.get("name"):
            errors.append(required(f"{path}.options[{i}]", "must not be empty"))


def _scheduling_gates(errors: ErrorList, gates: Sequence[Obj], path: str) -> None:
    seen: set[str] = set()
    for i, gate in enumerate(gates):
        name = gate.get("name") or ""
        check.qualified_name(errors, name, f"{path}[{i}]")
        if name in seen:
            errors.append(duplicate(f"{path}[{i}]", name))
        seen.add(name)


def _scheduling_group(errors: ErrorList, spec: Obj, group: Obj, path: str) -> None:
    name = group.get("podGroupName")
    if name is None:
        message = "must specify one of: `podGroupName`"
        errors.append(invalid(f"{path}.podGroupName", None, message))
    else:
        check.dns_subdomain(errors, name, f"{path}.podGroupName")
    if spec.get("evictionResponders"):
        errors.append(forbidden(path, "may not be set when evictionResponders is set"))


def _file_key_volumes(errors: ErrorList, spec: Obj, path: str) -> None:
    volumes: dict[str, Obj] | None = None
    for field in ("initContainers", "containers", "ephemeralContainers"):
        for i, container in enumerate(spec.get(field) or ()):
            for j, variable in enumerate(container.get("env") or ()):
                source = variable.get("valueFrom")
                reference = source.get("fileKeyRef") if source else None
                if reference is None:
                    continue
                if volumes is None:
                    volumes = {v.get("name") or "": v for v in spec.get("volumes") or ()}
                name = reference.get("volumeName") or ""
                at = f"{path}.{field}[{i}].env[{j}].valueFrom.fileKeyRef.volumeName"
                if name not in volumes:
                    errors.append(not_found(at, name))
                elif volumes[name].get("emptyDir") is None:
                    message = "referenced volume must be of type emptyDir"
                    errors.append(invalid(at, name, message))


def only_restart_always(errors: ErrorList, template: Obj, path: str, kind: str) -> None:
    """What templates of controllers that keep pods running must not have."""
    spec = template.get("spec") or {}
    if spec.get("restartPolicy") != "Always":
        at = f"{path}.spec.restartPolicy"
        errors.append(not_supported(at, spec.get("restartPolicy") or "", ("Always",)))
    if spec.get("activeDeadlineSeconds") is not None:
        message = f"activeDeadlineSeconds in {kind} is not Supported"
        errors.append(forbidden(f"{path}.spec.activeDeadlineSeconds", message))
