"""What webhooks and admission policies share: rules, match conditions, where a webhook is."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from pilothouse.apimachinery import names
from pilothouse.apis.meta import validation as check
from pilothouse.apis.meta.errors import add_all, duplicate, invalid, not_supported, required
from pilothouse.apis.meta.errors import too_many as too_many_error

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from pilothouse.apimachinery.fieldpath import ErrorList
    from pilothouse.apimachinery.object import Obj
    from pilothouse.apis.admissionregistration.expressions import Expression

OPERATIONS = ("*", "CONNECT", "CREATE", "DELETE", "UPDATE")
FAILURE_POLICIES = ("Fail", "Ignore")
MATCH_POLICIES = ("Equivalent", "Exact")
_SCOPES = ("*", "Cluster", "Namespaced")
_MAX_CONDITIONS = 64
_STATIC_SUFFIX = ".static.k8s.io"
_STATIC = (
    f'names ending with "{_STATIC_SUFFIX}" are reserved for static manifest-based configurations '
    "and cannot be managed via the API"
)
_FORM = "; desired format: https://host[/path]"


def validate_rule_with_operations(errors: ErrorList, rule: Obj, path: str) -> None:
    operations = rule.get("operations") or ()
    if not operations:
        errors.append(required(f"{path}.operations"))
    if len(operations) > 1 and "*" in operations:
        message = "if '*' is present, must not specify other operations"
        errors.append(invalid(f"{path}.operations", operations, message))
    for i, operation in enumerate(operations):
        if operation not in OPERATIONS:
            errors.append(not_supported(f"{path}.operations[{i}]", operation, OPERATIONS))
    for field, what in (("apiGroups", "API groups"), ("apiVersions", "API versions")):
        values = rule.get(field) or ()
        if not values:
            errors.append(required(f"{path}.{field}"))
        if len(values) > 1 and "*" in values:
            message = f"if '*' is present, must not specify other {what}"
            errors.append(invalid(f"{path}.{field}", values, message))
    for i, version in enumerate(rule.get("apiVersions") or ()):
        if not version:
            errors.append(required(f"{path}.apiVersions[{i}]"))
    _resources(errors, rule.get("resources") or (), f"{path}.resources")
    scope = rule.get("scope")
    if scope is not None and scope not in _SCOPES:
        errors.append(not_supported(f"{path}.scope", scope, _SCOPES))


def _resources(errors: ErrorList, resources: Sequence[str], path: str) -> None:
    if not resources:
        errors.append(required(path))
    all_of: set[str] = set()
    of_all: set[str] = set()
    plain = False
    for i, resource in enumerate(resources):
        at = f"{path}[{i}]"
        if not resource:
            errors.append(required(at))
            continue
        name, slash, sub = resource.partition("/")
        if not slash:
            plain = resource != "*"
            continue
        if name in all_of:
            message = f"if '{name}/*' is present, must not specify {resource}"
            errors.append(invalid(at, resource, message))
        if sub in of_all:
            message = f"if '*/{sub}' is present, must not specify {resource}"
            errors.append(invalid(at, resource, message))
        if sub == "*":
            all_of.add(name)
        if name == "*":
            of_all.add(sub)
    if len(resources) > 1 and "*/*" in resources:
        message = "if '*/*' is present, must not specify other resources"
        errors.append(invalid(path, resources, message))
    if "*" in resources and plain:
        message = "if '*' is present, must not specify other resources without subresources"
        errors.append(invalid(path, resources, message))


def validate_match_conditions(
    errors: ErrorList,
    conditions: Sequence[Obj],
    path: str,
    compile_condition: Callable[[str], Expression] | None = None,
) -> None:
    """``compile_condition`` finds what is wrong with an expression."""
    if len(conditions) > _MAX_CONDITIONS:
        errors.append(too_many_error(path, len(conditions), _MAX_CONDITIONS))
    seen: set[str] = set()
    for i, condition in enumerate(conditions):
        at, name = f"{path}[{i}]", condition.get("name") or ""
        text = (condition.get("expression") or "").strip()
        if not text:
            errors.append(required(f"{at}.expression"))
        elif compile_condition is not None:
            problem = compile_condition(text).problem
            if problem:
                errors.append(invalid(f"{at}.expression", text, problem))
        if not name:
            errors.append(required(f"{at}.name"))
            continue
        check.qualified_name(errors, name, f"{at}.name")
        if name in seen:
            errors.append(duplicate(f"{at}.name", name))
        seen.add(name)


def validate_match_resources(errors: ErrorList, resources: Obj, path: str) -> None:
    policy = resources.get("matchPolicy")
    if policy is None:
        errors.append(required(f"{path}.matchPolicy"))
    elif policy not in MATCH_POLICIES:
        errors.append(not_supported(f"{path}.matchPolicy", policy, MATCH_POLICIES))
    for field in ("namespaceSelector", "objectSelector"):
        if resources.get(field) is None:
            errors.append(required(f"{path}.{field}"))
        else:
            check.label_selector(errors, resources[field], f"{path}.{field}")
    for field in ("resourceRules", "excludeResourceRules"):
        for i, rule in enumerate(resources.get(field) or ()):
            at = f"{path}.{field}[{i}]"
            _resource_names(errors, rule.get("resourceNames") or (), f"{at}.resourceNames")
            validate_rule_with_operations(errors, rule, at)


def _resource_names(errors: ErrorList, found: Iterable[str], path: str) -> None:
    seen: set[str] = set()
    for i, name in enumerate(found):
        add_all(errors, f"{path}[{i}]", name, names.is_path_segment_name(name))
        if name in seen:
            errors.append(duplicate(f"{path}[{i}]", name))
        seen.add(name)


def validate_client_config(errors: ErrorList, config: Obj, path: str) -> None:
    url, service = config.get("url"), config.get("service")
    if (url is None) == (service is None):
        errors.append(required(path, "exactly one of url or service is required"))
    elif url is not None:
        validate_webhook_url(errors, url, f"{path}.url")
    else:
        assert service is not None
        validate_webhook_service(errors, service, f"{path}.service")


def validate_webhook_url(errors: ErrorList, url: str, path: str) -> None:
    try:
        parts = urlsplit(url)
    except ValueError as error:
        errors.append(required(path, f"url must be a valid URL: {error}{_FORM}"))
        return
    if parts.scheme != "https":
        message = f"'https' is the only allowed URL scheme{_FORM}"
        errors.append(invalid(path, parts.scheme, message))
    user, at, host = parts.netloc.rpartition("@")
    if not host:
        errors.append(invalid(path, host, f"host must be specified{_FORM}"))
    if at:
        errors.append(invalid(path, user, "user information is not permitted in the URL"))
    if parts.fragment:
        message = "fragments are not permitted in the URL"
        errors.append(invalid(path, parts.fragment, message))
    if parts.query:
        message = "query parameters are not permitted in the URL"
        errors.append(invalid(path, parts.query, message))


def validate_webhook_service(errors: ErrorList, service: Obj, path: str) -> None:
    for field in ("name", "namespace"):
        if not service.get(field):
            errors.append(required(f"{path}.{field}"))
    port = service.get("port") or 0
    messages = names.is_valid_port_num(port)
    if messages:
        errors.append(invalid(f"{path}.port", port, "port is not valid: " + ", ".join(messages)))
    if service.get("path") not in (None, "", "/"):
        _service_path(errors, service["path"], f"{path}.path")


def _service_path(errors: ErrorList, value: str, path: str) -> None:
    if value == "//":
        errors.append(invalid(path, value, "segment[0] may not be empty"))
        return
    if not value.startswith("/"):
        errors.append(invalid(path, value, "must start with a '/'"))
    for i, step in enumerate(value[1:].removesuffix("/").split("/")):
        if not step:
            errors.append(invalid(path, value, f"segment[{i}] may not be empty"))
            continue
        for message in names.is_dns1123_subdomain(step):
            errors.append(invalid(path, value, f"segment[{i}]: {message}"))


def static_suffix_errors(obj: Obj) -> ErrorList:
    """Of a new object: some names are kept for configuration that does not come by the API."""
    name = (obj.get("metadata") or {}).get("name") or ""
    return [invalid("metadata.name", name, _STATIC)] if name.endswith(_STATIC_SUFFIX) else []


def static_suffix_warnings(obj: Obj) -> list[str]:
    name = (obj.get("metadata") or {}).get("name") or ""
    return [f"metadata.name: {_STATIC}"] if name.endswith(_STATIC_SUFFIX) else []
