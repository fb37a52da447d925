"""Resource names, amounts and requirements of containers and pods."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

from pilothouse.apimachinery.names import is_qualified_name
from pilothouse.apis.core import resource_names as names
from pilothouse.apis.core.resource_names import parse_quantity
from pilothouse.apis.core.resource_requests import (
    aggregate_container_limits,
    aggregate_container_requests,
    parse_list,
)
from pilothouse.apis.meta import validation as check
from pilothouse.apis.meta.errors import (
    NOT_NEGATIVE,
    add_all,
    duplicate,
    forbidden,
    invalid,
    not_found,
    not_supported,
    required,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from pilothouse.apimachinery.fieldpath import ErrorList
    from pilothouse.apimachinery.object import Obj
    from pilothouse.apimachinery.quantity import Quantity

_QUANTITY_PATTERN = (
    "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"
)
NameMessages = tuple[str, ...]


@lru_cache(maxsize=4096)
def resource_name_messages(name: str) -> NameMessages:
    """validateResourceName."""
    messages = tuple(is_qualified_name(name))
    if not messages and "/" not in name and not names.is_standard(name):
        return ("must be a standard resource type or fully qualified",)
    return messages


@lru_cache(maxsize=4096)
def container_resource_name_messages(name: str) -> NameMessages:
    """ValidateContainerResourceName."""
    messages = resource_name_messages(name)
    if "/" not in name:
        if not names.is_standard_container(name):
            return (*messages, "must be a standard resource for containers")
    elif not names.is_native(name) and not names.is_extended(name):
        return (*messages, "doesn't follow extended resource name standard")
    return messages


@lru_cache(maxsize=4096)
def quota_resource_name_messages(name: str) -> NameMessages:
    messages = resource_name_messages(name)
    if "/" not in name and not names.is_standard_quota(name):
        return (*messages, "must be a standard resource for quota")
    return messages


def _pod_resource_name(errors: ErrorList, name: str, path: str) -> None:
    messages = resource_name_messages(name)
    if messages:
        add_all(errors, path, name, messages)
    elif not names.is_pod_level(name):
        errors.append(not_supported(path, name, ("cpu", "hugepages-", "memory")))


def _container_resource_name(errors: ErrorList, name: str, path: str) -> None:
    messages = container_resource_name_messages(name)
    if messages:
        add_all(errors, path, name, messages)


def quantity_value(errors: ErrorList, name: str, text: Any, path: str) -> Quantity | None:
    """ValidateResourceQuantityValue; None when ``text`` is no quantity."""
    try:
        quantity = parse_quantity(text)
    except (ValueError, TypeError):
        errors.append(invalid(path, text, _QUANTITY_PATTERN))
        return None
    if quantity < parse_quantity("0"):
        errors.append(invalid(path, str(quantity), NOT_NEGATIVE))
    if names.is_integer(name) and quantity.milli_value() % 1000:
        errors.append(invalid(path, str(quantity), "must be an integer"))
    return quantity


def container_requirements(
    errors: ErrorList, resources: Obj, claim_names: frozenset[str], path: str
) -> None:
    _requirements(errors, resources, claim_names, path, _container_resource_name)


def _requirements(
    errors: ErrorList,
    resources: Obj,
    claim_names: frozenset[str],
    path: str,
    check_name: Callable[[ErrorList, str, str], None],
) -> None:
    limits, requests = resources.get("limits") or {}, resources.get("requests") or {}
    parsed: dict[str, Quantity] = {}
    for name, text in limits.items():
        item = f"{path}.limits[{name}]"
        check_name(errors, name, item)
        quantity = quantity_value(errors, name, text, item)
        if quantity is not None:
            parsed[name] = quantity
            _huge_page(errors, name, quantity, item)
    for name, text in requests.items():
        item = f"{path}.requests[{name}]"
        check_name(errors, name, item)
        quantity = quantity_value(errors, name, text, item)
        if quantity is not None:
            _request_against_limit(errors, name, quantity, parsed.get(name), path)
            _huge_page(errors, name, quantity, item)
    both = (*limits, *requests)
    if any(names.is_huge_page(n) for n in both) and "cpu" not in both and "memory" not in both:
        errors.append(forbidden(path, "HugePages require cpu or memory"))
    claims = resources.get("claims")
    if claims:
        _claim_names(errors, claims, claim_names, f"{path}.claims")


def _request_against_limit(
    errors: ErrorList, name: str, request: Quantity, limit: Quantity | None, path: str
) -> None:
    overcommit = names.is_overcommit_allowed(name)
    if limit is None:
        if not overcommit:
            message = "Limit must be set for non overcommitable resources"
            errors.append(required(f"{path}.limits", message))
    elif request != limit and not overcommit:
        message = f"must be equal to {name} limit of {limit}"
        errors.append(invalid(f"{path}.requests", str(request), message))
    elif limit < request:
        message = f"must be less than or equal to {name} limit of {limit}"
        errors.append(invalid(f"{path}.requests", str(request), message))


def _huge_page(errors: ErrorList, name: str, quantity: Quantity, path: str) -> None:
    if names.is_huge_page(name) and not names.huge_page_divides(name, quantity):
        message = f"{quantity} is not positive integer multiple of {name}"
        errors.append(invalid(path, str(quantity), message))


def _claim_names(
    errors: ErrorList, claims: Iterable[Obj], claim_names: frozenset[str], path: str
) -> None:
    seen: set[str] = set()
    for i, claim in enumerate(claims):
        name, request = claim.get("name") or "", claim.get("request") or ""
        if not name:
            errors.append(required(f"{path}[{i}]"))
            continue
        if name in seen:
            errors.append(duplicate(f"{path}[{i}]", name))
        else:
            key = f"{name}/{request}" if request else name
            if request:
                check.dns_label(errors, request, f"{path}[{i}].request")
            if key in seen:
                errors.append(duplicate(f"{path}[{i}]", key))
            elif not request:
                same = [k for k in seen if k.partition("/")[0] == name and "/" in k]
                errors.extend(duplicate(f"{path}[{i}]", name) for _ in same)
            seen.add(key)
        if name not in claim_names:
            detail = "must be one of the names in pod.spec.resourceClaims"
            listed = ": " + ", ".join(sorted(claim_names)) if claim_names else " which is empty"
            errors.append(not_found(f"{path}[{i}]", name, detail + listed))


def pod_level_resources(
    errors: ErrorList, spec: Obj, claim_names: frozenset[str], path: str
) -> None:
    """``spec.resources``: names, amounts, and that the containers fit into them."""
    resources = spec.get("resources")
    if resources is None:
        return
    path = f"{path}.resources"
    if (spec.get("os") or {}).get("name") == "windows":
        errors.append(forbidden(path, "may not be set for a windows pod"))
        return
    if resources.get("claims"):
        message = "claims may not be set for Resources at pod-level"
        errors.append(forbidden(f"{path}.claims", message))
    before = len(errors)
    _requirements(errors, resources, claim_names, path, _pod_resource_name)
    if len(errors) == before:
        _pod_level_consistency(errors, spec, resources, path)


def _pod_level_consistency(errors: ErrorList, spec: Obj, resources: Obj, path: str) -> None:
    pod = {"spec": spec}
    try:
        requests = aggregate_container_requests(pod)
        limits = aggregate_container_limits(pod)
        pod_requests, pod_limits = (
            parse_list(resources.get("requests")),
            parse_list(resources.get("limits")),
        )
    except (ValueError, TypeError):
        return  # the container's own check has said so
    for name, total in requests.items():
        if name in pod_requests and pod_requests[name] < total:
            message = f"must be greater than or equal to aggregate container requests of {total}"
            errors.append(invalid(f"{path}.requests[{name}]", str(pod_requests[name]), message))
    for name, total in limits.items():
        if names.is_huge_page(name) and name in pod_limits and pod_limits[name] < total:
            message = f"must be greater than or equal to aggregate container limits of {total}"
            errors.append(invalid(f"{path}.limits[{name}]", str(pod_limits[name]), message))
    for i, container in enumerate(spec.get("containers") or ()):
        own = parse_list((container.get("resources") or {}).get("limits"))
        for name, limit in own.items():
            if name in pod_limits and pod_limits[name] < limit:
                message = f"must be less than or equal to pod limits of {pod_limits[name]}"
                item = f"{path}.containers[{i}][{name}].limits"
                errors.append(invalid(item, str(limit), message))


def resource_list(
    errors: ErrorList,
    resources: Mapping[str, Any] | None,
    path: str,
    messages_of: Callable[[str], NameMessages],
) -> None:
    """Names by ``messages_of`` and amounts, with ``[name]`` paths."""
    for name, text in (resources or {}).items():
        messages = messages_of(name)
        if messages:
            add_all(errors, f"{path}[{name}]", name, messages)
        quantity_value(errors, name, text, f"{path}[{name}]")
