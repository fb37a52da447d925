"""APIServices."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pilothouse.apimachinery import names
from pilothouse.apis.meta.errors import add_all, invalid, not_supported, required

if TYPE_CHECKING:
    from pilothouse.apimachinery.fieldpath import ErrorList
    from pilothouse.apimachinery.object import Obj

_STATUSES = ("True", "False", "Unknown")


def validate_api_service(api_service: Obj) -> ErrorList:
    errors: ErrorList = []
    spec = api_service.get("spec") or {}
    group, version = spec.get("group") or "", spec.get("version") or ""
    name, wanted = (api_service.get("metadata") or {}).get("name") or "", f"{version}.{group}"
    # Of a name that is none at all the rules for all names speak.
    if name and name != wanted and not names.is_path_segment_name(name, prefix=False):
        message = f'must be `spec.version+"."+spec.group`: "{wanted}"'
        errors.append(invalid("metadata.name", name, message))
    prefix = (api_service.get("metadata") or {}).get("generateName") or ""
    if prefix and prefix != wanted:
        message = f'must be `spec.version+"."+spec.group`: "{wanted}"'
        errors.append(invalid("metadata.generateName", prefix, message))
    if not group and version != "v1":
        message = "only v1 may have an empty group and it better be legacy kube"
        errors.append(required("spec.group", message))
    if group:
        add_all(errors, "spec.group", group, names.is_dns1123_subdomain(group))
    add_all(errors, "spec.version", version, names.is_dns1035_label(version))
    for field, limit in (("groupPriorityMinimum", 20000), ("versionPriority", 1000)):
        priority = spec.get(field) or 0
        if not 0 < priority <= limit:
            message = f"must be positive and less than {limit}"
            errors.append(invalid(f"spec.{field}", priority, message))
    if spec.get("service") is None:
        _local(errors, spec)
    else:
        _remote(errors, spec, spec["service"])
    return errors


def _local(errors: ErrorList, spec: Obj) -> None:
    if spec.get("caBundle"):
        size = len(spec["caBundle"]) * 3 // 4
        message = "local APIServices may not have a caBundle"
        errors.append(invalid("spec.caBundle", f"{size} bytes", message))
    if spec.get("insecureSkipTLSVerify"):
        message = "local APIServices may not have insecureSkipTLSVerify"
        errors.append(invalid("spec.insecureSkipTLSVerify", True, message))


def _remote(errors: ErrorList, spec: Obj, service: Obj) -> None:
    for field in ("namespace", "name"):
        if not service.get(field):
            errors.append(required(f"spec.service.{field}"))
    port = service.get("port") or 0
    messages = names.is_valid_port_num(port)
    if messages:
        message = "port is not valid: " + ", ".join(messages)
        errors.append(invalid("spec.service.port", port, message))
    if spec.get("insecureSkipTLSVerify") and spec.get("caBundle"):
        message = "may not be true if caBundle is present"
        errors.append(invalid("spec.insecureSkipTLSVerify", True, message))


def validate_api_service_status_update(api_service: Obj) -> ErrorList:
    errors: ErrorList = []
    for i, condition in enumerate((api_service.get("status") or {}).get("conditions") or ()):
        if condition.get("status") not in _STATUSES:
            at = f"status.conditions[{i}].status"
            errors.append(not_supported(at, condition.get("status") or "", _STATUSES))
    return errors
