"""What claims, classes, slices and taint rules say about devices: taints, tolerations, constraints,
opaque configuration, attributes and capacities."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from pilothouse.apimachinery import names
from pilothouse.apis.meta import validation as check
from pilothouse.apis.meta.errors import (
    CASELESS_SUBDOMAIN,
    add_all,
    invalid,
    not_supported,
    required,
    too_long,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pilothouse.apimachinery.fieldpath import ErrorList
    from pilothouse.apimachinery.object import Obj

_EFFECTS = ("NoExecute", "NoSchedule", "None")
_OPERATORS = ("Equal", "Exists")
_POOL_LENGTH = 253
_ID_LENGTH = 32
_VALUE_LENGTH = 64
_VALUES = ("int", "bool", "string", "version", "ints", "bools", "strings", "versions")
_LISTED_VALUES = ", ".join(f"`{name}`" for name in _VALUES)
_SEMVER = re.compile(
    r"(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)"
    r"(-(0|[1-9]\d*|\d*[a-zA-Z-][0-9a-zA-Z-]*)(\.(0|[1-9]\d*|\d*[a-zA-Z-][0-9a-zA-Z-]*))*)?"
    r"(\+[0-9a-zA-Z-]+(\.[0-9a-zA-Z-]+)*)?"
)
_NO_REQUEST = (
    "must be the name of a request in the claim or the name of a request and a subrequest "
    "separated by '/'"
)
_ONE_ATTRIBUTE = (
    'exactly one of "matchAttribute" or "distinctAttribute" is required, but multiple fields are '
    "set"
)


def driver_name(errors: ErrorList, name: str, path: str) -> None:
    """``name`` is a DNS subdomain of at most 63 bytes."""
    if not name:
        errors.append(required(path))
        return
    if len(name) > 63:
        errors.append(too_long(path, 63))
    check.dns_subdomain(errors, name, path)


def _caseless_driver(errors: ErrorList, name: str, path: str) -> None:
    if not name:
        errors.append(required(path))
    elif names.is_dns1123_subdomain(name.lower()):
        errors.append(invalid(path, name, CASELESS_SUBDOMAIN))
    if len(name) > 63:
        errors.append(too_long(path, 63))


def pool_name(errors: ErrorList, name: str, path: str) -> None:
    if not name:
        errors.append(required(path))
        return
    if len(name) > _POOL_LENGTH:
        errors.append(too_long(path, _POOL_LENGTH))
    for part in name.split("/"):
        check.dns_subdomain(errors, part, path)


def taint_rule_errors(rule: Obj, old: Obj | None = None) -> ErrorList:
    """A DeviceTaintRule."""
    errors: ErrorList = []
    spec = rule.get("spec") or {}
    selector = spec.get("deviceSelector") or {}
    if selector.get("driver") is not None:
        driver_name(errors, selector["driver"], "spec.deviceSelector.driver")
    if selector.get("pool") is not None:
        pool_name(errors, selector["pool"], "spec.deviceSelector.pool")
    if selector.get("device") is not None:
        check.dns_label(errors, selector["device"], "spec.deviceSelector.device")
    before = None if old is None else ((old.get("spec") or {}).get("taint") or {})
    taint(errors, spec.get("taint") or {}, "spec.taint", before)
    return errors


def taint(errors: ErrorList, value: Obj, path: str, old: Obj | None = None) -> None:
    check.qualified_name(errors, value.get("key") or "", f"{path}.key")
    if value.get("value"):
        add_all(errors, f"{path}.value", value["value"], names.is_valid_label_value(value["value"]))
    effect = value.get("effect") or ""
    if old is None or (old.get("effect") or "") != effect:
        if not effect:
            errors.append(required(f"{path}.effect"))
        elif effect not in _EFFECTS:
            errors.append(not_supported(f"{path}.effect", effect, _EFFECTS))


def tolerations(errors: ErrorList, values: Sequence[Obj], path: str) -> None:
    for i, toleration in enumerate(values):
        at = f"{path}[{i}]"
        if toleration.get("key"):
            check.qualified_name(errors, toleration["key"], f"{at}.key")
        operator, value = toleration.get("operator") or "", toleration.get("value") or ""
        if operator == "Exists":
            if value:
                message = "must be empty for operator `Exists`"
                errors.append(invalid(f"{at}.value", value, message))
        elif operator == "Equal":
            add_all(errors, f"{at}.value", value, names.is_valid_label_value(value))
        elif not operator:
            errors.append(required(f"{at}.operator"))
        else:
            errors.append(not_supported(f"{at}.operator", operator, _OPERATORS))
        effect = toleration.get("effect")
        if effect and effect not in _EFFECTS:
            errors.append(not_supported(f"{at}.effect", effect, _EFFECTS))


def request_names(requests: Iterable[Obj]) -> set[str]:
    """Of requests and, after a slash, of their alternatives."""
    found: set[str] = set()
    for request in requests:
        name = request.get("name") or ""
        found.add(name)
        for choice in request.get("firstAvailable") or ():
            found.add(f"{name}/{choice.get('name') or ''}")
    return found


def _references(errors: ErrorList, value: Obj, path: str, known: set[str]) -> None:
    for i, name in enumerate(value.get("requests") or ()):
        request_reference(errors, name, f"{path}.requests[{i}]", known)


def request_reference(errors: ErrorList, name: str, path: str, known: set[str]) -> None:
    """``name`` is one of ``known``: a request, or one of its alternatives after a slash."""
    segments = name.split("/")
    if len(segments) <= 2:
        for segment in segments:
            check.dns_label(errors, segment, path)
    if name not in known:
        errors.append(invalid(path, name, _NO_REQUEST))


def constraints(errors: ErrorList, values: Sequence[Obj], path: str, known: set[str]) -> None:
    for i, constraint in enumerate(values):
        at = f"{path}[{i}]"
        _references(errors, constraint, at, known)
        given = [
            f for f in ("matchAttribute", "distinctAttribute") if constraint.get(f) is not None
        ]
        for field in given:
            _fully_qualified(errors, constraint[field], f"{at}.{field}")
        if not given:
            errors.append(required(at, _ONE_ATTRIBUTE))


def configurations(
    errors: ErrorList, values: Sequence[Obj], path: str, known: set[str] | None = None
) -> None:
    """Of a claim (``known``: its requests' names) or of a class."""
    for i, config in enumerate(values):
        at = f"{path}[{i}]"
        if known is not None:
            _references(errors, config, at, known)
        opaque = config.get("opaque")
        if opaque is None:
            errors.append(required(f"{at}.opaque"))
            continue
        _caseless_driver(errors, opaque.get("driver") or "", f"{at}.opaque.driver")
        parameters = opaque.get("parameters")
        if parameters is None:
            errors.append(required(f"{at}.opaque.parameters"))
        elif not isinstance(parameters, dict):
            message = "must be a valid JSON object"
            errors.append(invalid(f"{at}.opaque.parameters", "<value omitted>", message))


def _c_identifier(errors: ErrorList, name: str, path: str) -> None:
    if len(name) > _ID_LENGTH:
        errors.append(too_long(path, _ID_LENGTH))
    add_all(errors, path, name, names.is_c_identifier(name))


def _qualified(errors: ErrorList, name: str, path: str) -> None:
    parts = name.split("/")
    if len(parts) > 2:
        return
    if len(parts) == 2 and not parts[0]:
        errors.append(invalid(path, "", "the domain must not be empty"))
    elif len(parts) == 2:
        _caseless_driver(errors, parts[0], path)
    if len(parts) == 2 and not parts[1]:
        errors.append(invalid(path, "", "the name must not be empty"))
    else:
        _c_identifier(errors, parts[-1], path)


def _fully_qualified(errors: ErrorList, name: str, path: str) -> None:
    _qualified(errors, name, path)
    if "/" not in name:
        message = "a fully qualified name must be a domain and a name separated by a slash"
        errors.append(invalid(path, name, message))


def device(errors: ErrorList, value: Obj, path: str) -> None:
    """One device of a ResourceSlice, beyond its name."""
    for name in value.get("attributes") or ():
        _qualified(errors, name, f"{path}.attributes")
        _attribute(errors, value["attributes"][name], f"{path}.attributes[{name}]")
    for name in value.get("capacity") or ():
        _qualified(errors, name, f"{path}.capacity")
    for i, item in enumerate(value.get("taints") or ()):
        taint(errors, item, f"{path}.taints[{i}]")


def _attribute(errors: ErrorList, value: Any, path: str) -> None:
    present = [name for name in _VALUES if value.get(name) is not None]
    if not present:
        errors.append(invalid(path, "", f"must specify one of: {_LISTED_VALUES}"))
    elif len(present) > 1:
        shown = "{" + ", ".join(present) + "}"
        errors.append(invalid(path, shown, f"must specify exactly one of: {_LISTED_VALUES}"))
    for name in ("string", "version"):
        listed = value.get(f"{name}s") or ()
        texts = [(value.get(name), f"{path}.{name}")]
        texts += [(text, f"{path}.{name}s[{i}]") for i, text in enumerate(listed)]
        for text, at in texts:
            if text is not None:
                _text(errors, text, at, version=name == "version")


def _text(errors: ErrorList, text: str, path: str, *, version: bool) -> None:
    if version and not _SEMVER.fullmatch(text):
        errors.append(invalid(path, text, "must be a string compatible with semver.org spec 2.0.0"))
    if len(text) > _VALUE_LENGTH:
        errors.append(too_long(path, _VALUE_LENGTH))
