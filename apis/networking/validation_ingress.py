"""Ingresses and IngressClasses."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pilothouse.apimachinery import names
from pilothouse.apis.meta import validation as check
from pilothouse.apis.meta.errors import (
    add_all,
    forbidden,
    invalid,
    not_supported,
    required,
    too_long,
)

if TYPE_CHECKING:
    from pilothouse.apimachinery.fieldpath import ErrorList
    from pilothouse.apimachinery.object import Obj

CLASS_ANNOTATION = "kubernetes.io/ingress.class"
_PATH_TYPES = ("Exact", "ImplementationSpecific", "Prefix")
_BAD_PARTS = ("//", "/./", "/../", "%2f", "%2F")
_BAD_ENDS = ("/..", "/.")
_SCOPES = ("Cluster", "Namespace")
_MAX_CONTROLLER = 250
_NOT_AN_IP = "must be a DNS name, not an IP address"


def validate_ingress(ingress: Obj) -> ErrorList:
    errors: ErrorList = []
    spec = ingress.get("spec") or {}
    _spec(errors, spec, {})
    annotation = ((ingress.get("metadata") or {}).get("annotations") or {}).get(CLASS_ANNOTATION)
    name = spec.get("ingressClassName")
    if annotation is not None and name is not None and annotation != name:
        message = "must match `ingressClassName` when both are specified"
        errors.append(invalid(f"annotations.{CLASS_ANNOTATION}", annotation, message))
    return errors


def validate_ingress_update(ingress: Obj, old: Obj) -> ErrorList:
    errors: ErrorList = []
    _spec(errors, ingress.get("spec") or {}, old.get("spec") or {})
    return errors


def _spec(errors: ErrorList, spec: Obj, before: Obj) -> None:
    """``before`` is the old spec: what was let through then stays allowed."""
    rules, backend = spec.get("rules") or (), spec.get("defaultBackend")
    if not rules and backend is None:
        message = "either `defaultBackend` or `rules` must be specified"
        errors.append(invalid("spec", spec.get("rules"), message))
    if backend is not None:
        _backend(errors, backend, "spec.defaultBackend")
    lenient = _has_invalid_wildcard_rule(before)
    for i, rule in enumerate(rules):
        _rule(errors, rule, f"spec.rules[{i}]", lenient)
    _tls(errors, spec, before)
    name = spec.get("ingressClassName")
    if name is not None:
        check.dns_subdomain(errors, name, "spec.ingressClassName")


def _tls(errors: ErrorList, spec: Obj, before: Obj) -> None:
    allow_names = any(_secret_messages(tls) for tls in before.get("tls") or ())
    for i, tls in enumerate(spec.get("tls") or ()):
        for j, host in enumerate(tls.get("hosts") or ()):
            add_all(errors, f"spec.tls[{i}].hosts[{j}]", host, _host_messages(host))
        if not allow_names:
            path = f"spec.tls[{i}].secretName"
            add_all(errors, path, tls.get("secretName"), _secret_messages(tls))


def _secret_messages(tls: Obj) -> list[str]:
    name = tls.get("secretName") or ""
    return names.is_dns1123_subdomain(name) if name else []


def _host_messages(host: str) -> list[str]:
    if "*" in host:
        return names.is_wildcard_dns1123_subdomain(host)
    return names.is_dns1123_subdomain(host)


def _rule(errors: ErrorList, rule: Obj, path: str, lenient: bool) -> None:
    host = rule.get("host") or ""
    if host:
        if check.parse_ip_sloppy(host) is not None:
            errors.append(invalid(f"{path}.host", host, _NOT_AN_IP))
        add_all(errors, f"{path}.host", host, _host_messages(host))
    if "*" not in host or not lenient:
        _http(errors, rule, path)


def _http(errors: ErrorList, rule: Obj, path: str) -> None:
    http = rule.get("http")
    if http is None:
        return
    paths = http.get("paths") or ()
    if not paths:
        errors.append(required(f"{path}.http.paths"))
    for i, item in enumerate(paths):
        _path(errors, item, f"{path}.http.paths[{i}]")


def _path(errors: ErrorList, item: Obj, path: str) -> None:
    kind, value = item.get("pathType"), item.get("path") or ""
    if kind is None:
        errors.append(required(f"{path}.pathType", "pathType must be specified"))
        return
    at = f"{path}.path"
    if kind not in _PATH_TYPES:
        errors.append(not_supported(f"{path}.pathType", kind, _PATH_TYPES))
    elif not value.startswith("/") and (value or kind != "ImplementationSpecific"):
        errors.append(invalid(at, value, "must be an absolute path"))
    if kind in ("Exact", "Prefix"):
        for part in _BAD_PARTS:
            if part in value:
                errors.append(invalid(at, value, f"must not contain '{part}'"))
        for end in _BAD_ENDS:
            if value.endswith(end):
                errors.append(invalid(at, value, f"cannot end with '{end}'"))
    _backend(errors, item.get("backend") or {}, f"{path}.backend")


def _backend(errors: ErrorList, backend: Obj, path: str) -> None:
    resource, service = backend.get("resource"), backend.get("service")
    if resource is not None and service is not None:
        errors.append(invalid(path, "", "cannot set both resource and service backends"))
    elif resource is not None:
        _reference(errors, resource, f"{path}.resource")
    elif service is not None:
        _service(errors, service, path)
    else:
        errors.append(invalid(path, "", "resource or service backend is required"))


def _service(errors: ErrorList, service: Obj, path: str) -> None:
    name, port = service.get("name") or "", service.get("port") or {}
    if not name:
        errors.append(required(f"{path}.service.name"))
    else:
        check.dns_label(errors, name, f"{path}.service.name")
    port_name, number = port.get("name"), port.get("number")
    if port_name and number:
        errors.append(invalid(path, "", "cannot set both port name & port number"))
    elif port_name:
        messages_of_name = names.is_valid_port_name(port_name)
        add_all(errors, f"{path}.service.port.name", port_name, messages_of_name)
    elif number:
        check.port_number(errors, number, f"{path}.service.port.number")
    else:
        errors.append(required(path, "port name or number is required"))


def _reference(errors: ErrorList, reference: Obj, path: str) -> None:
    if reference.get("apiGroup") is not None:
        check.dns_subdomain(errors, reference["apiGroup"], f"{path}.apiGroup")
    for field in ("kind", "name"):
        value = reference.get(field) or ""
        if not value:
            errors.append(required(f"{path}.{field}"))
        else:
            add_all(errors, f"{path}.{field}", value, names.is_path_segment_name(value))


def _has_invalid_wildcard_rule(spec: Obj) -> bool:
    errors: ErrorList = []
    for rule in spec.get("rules") or ():
        if "*" in (rule.get("host") or ""):
            _http(errors, rule, "")
    return bool(errors)


def validate_ingress_status_update(ingress: Obj, old: Obj) -> ErrorList:
    errors: ErrorList = []
    known = [p["ip"] for p in _points(old) if p.get("ip")]
    for i, point in enumerate(_points(ingress)):
        path = f"status.loadBalancer.ingress[{i}]"
        if point.get("ip"):
            check.ip_for_legacy_field(errors, point["ip"], f"{path}.ip", known)
        host = point.get("hostname") or ""
        if host:
            check.dns_subdomain(errors, host, f"{path}.hostname")
            if check.parse_ip_sloppy(host) is not None:
                errors.append(invalid(f"{path}.hostname", host, _NOT_AN_IP))
    return errors


def _points(ingress: Obj) -> list[Obj]:
    balancer = (ingress.get("status") or {}).get("loadBalancer") or {}
    points: list[Obj] = balancer.get("ingress") or []
    return points


def ingress_warnings(ingress: Obj) -> list[str]:
    annotations = (ingress.get("metadata") or {}).get("annotations") or {}
    if CLASS_ANNOTATION not in annotations:
        return []
    return [
        f"annotation \"{CLASS_ANNOTATION}\" is deprecated, please use 'spec.ingressClassName' "
        "instead"
    ]


def ingress_status_warnings(ingress: Obj) -> list[str]:
    warnings = []
    for i, point in enumerate(_points(ingress)):
        if point.get("ip"):
            warnings += check.ip_warnings(f"status.loadBalancer.ingress[{i}]", point["ip"])
    return warnings


def validate_ingress_class(ingress_class: Obj, old: Obj | None = None) -> ErrorList:
    errors: ErrorList = []
    spec = ingress_class.get("spec") or {}
    controller = spec.get("controller") or ""
    if old is not None:
        before = (old.get("spec") or {}).get("controller") or ""
        check.immutable(errors, controller, before, "spec.controller")
    if len(controller) > _MAX_CONTROLLER:
        errors.append(too_long("spec.controller", _MAX_CONTROLLER))
    _domain_prefixed_path(errors, controller, "spec.controller")
    if spec.get("parameters") is not None:
        _parameters(errors, spec["parameters"], "spec.parameters")
    return errors


def _domain_prefixed_path(errors: ErrorList, value: str, path: str) -> None:
    if not value:
        errors.append(required(path))
        return
    domain, slash, rest = value.partition("/")
    if not slash or not domain or not rest:
        message = 'must be a domain-prefixed path (such as "acme.io/foo")'
        errors.append(invalid(path, value, message))
        return
    add_all(errors, path, domain, names.is_dns1123_subdomain(domain))
    add_all(errors, path, rest, names.is_http_path(rest))


def _parameters(errors: ErrorList, parameters: Obj, path: str) -> None:
    _reference(errors, parameters, path)
    scope, namespace = parameters.get("scope"), parameters.get("namespace")
    if scope is None:
        errors.append(required(f"{path}.scope"))
    elif scope not in _SCOPES:
        errors.append(not_supported(f"{path}.scope", scope, _SCOPES))
    elif scope == "Namespace":
        if namespace is None:
            message = "`parameters.scope` is set to 'Namespace'"
            errors.append(required(f"{path}.namespace", message))
        else:
            check.dns_label(errors, namespace, f"{path}.namespace")
    elif namespace is not None:
        errors.append(forbidden(f"{path}.namespace", "`parameters.scope` is set to 'Cluster'"))
