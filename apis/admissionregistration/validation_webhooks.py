"""ValidatingWebhookConfigurations and MutatingWebhookConfigurations."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pilothouse.apimachinery import names
from pilothouse.apis.admissionregistration.validation_rules import (
    FAILURE_POLICIES,
    MATCH_POLICIES,
    validate_client_config,
    validate_match_conditions,
    validate_rule_with_operations,
)
from pilothouse.apis.meta import validation as check
from pilothouse.apis.meta.errors import add_all, duplicate, invalid, not_supported, required

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pilothouse.apimachinery.fieldpath import ErrorList
    from pilothouse.apimachinery.object import Obj

_REVIEW_VERSIONS = ("v1", "v1beta1")
_NO_SIDE_EFFECTS = ("None", "NoneOnDryRun")
_ALL_SIDE_EFFECTS = ("None", "NoneOnDryRun", "Some", "Unknown")
_REINVOCATION = ("IfNeeded", "Never")


def validate_webhooks(configuration: Obj, old: Obj | None = None) -> ErrorList:
    """Both kinds. What an old object already broke stays allowed in an update."""
    errors: ErrorList = []
    before = (old or {}).get("webhooks") or ()
    strict_effects = all(w.get("sideEffects") in _NO_SIDE_EFFECTS for w in before)
    strict_versions = all(_recognized(w.get("admissionReviewVersions") or ()) for w in before)
    known = [w.get("name") for w in before]
    unique = len(known) == len(set(known))
    seen: set[str] = set()
    for i, webhook in enumerate(configuration.get("webhooks") or ()):
        path, name = f"webhooks[{i}]", webhook.get("name") or ""
        _webhook(errors, webhook, path, strict_effects)
        versions = webhook.get("admissionReviewVersions") or ()
        _review_versions(errors, versions, f"{path}.admissionReviewVersions", strict_versions)
        if unique and name:
            if name in seen:
                errors.append(duplicate(f"{path}.name", name))
            seen.add(name)
    return errors


def _recognized(versions: Sequence[str]) -> bool:
    return not versions or any(version in _REVIEW_VERSIONS for version in versions)


def _review_versions(
    errors: ErrorList, versions: Sequence[str], path: str, recognized: bool
) -> None:
    if not versions:
        errors.append(required(path, f"must specify one of {', '.join(_REVIEW_VERSIONS)}"))
        return
    seen: set[str] = set()
    for i, version in enumerate(versions):
        if version in seen:
            errors.append(invalid(f"{path}[{i}]", version, "duplicate version"))
            continue
        seen.add(version)
        add_all(errors, f"{path}[{i}]", version, names.is_dns1035_label(version))
    if recognized and not _recognized(versions):
        message = f"must include at least one of {', '.join(_REVIEW_VERSIONS)}"
        errors.append(invalid(path, versions, message))


def _webhook(errors: ErrorList, webhook: Obj, path: str, strict_effects: bool) -> None:
    fully_qualified_name(errors, webhook.get("name") or "", f"{path}.name")
    for i, rule in enumerate(webhook.get("rules") or ()):
        validate_rule_with_operations(errors, rule, f"{path}.rules[{i}]")
    for field, valid in (("failurePolicy", FAILURE_POLICIES), ("matchPolicy", MATCH_POLICIES)):
        value = webhook.get(field)
        if value is not None and value not in valid:
            errors.append(not_supported(f"{path}.{field}", value, valid))
    allowed = _NO_SIDE_EFFECTS if strict_effects else _ALL_SIDE_EFFECTS
    effects = webhook.get("sideEffects")
    if effects is None:
        message = f"must specify one of {', '.join(allowed)}"
        errors.append(required(f"{path}.sideEffects", message))
    elif effects not in allowed:
        errors.append(not_supported(f"{path}.sideEffects", effects, allowed))
    timeout = webhook.get("timeoutSeconds")
    if timeout is not None and not 1 <= timeout <= 30:
        message = "the timeout value must be between 1 and 30 seconds"
        errors.append(invalid(f"{path}.timeoutSeconds", timeout, message))
    for field in ("namespaceSelector", "objectSelector"):
        check.label_selector(errors, webhook.get(field), f"{path}.{field}")
    policy = webhook.get("reinvocationPolicy")
    if policy is not None and policy not in _REINVOCATION:
        errors.append(not_supported(f"{path}.reinvocationPolicy", policy, _REINVOCATION))
    validate_client_config(errors, webhook.get("clientConfig") or {}, f"{path}.clientConfig")
    conditions = webhook.get("matchConditions") or ()
    validate_match_conditions(errors, conditions, f"{path}.matchConditions")


def fully_qualified_name(errors: ErrorList, name: str, path: str) -> None:
    if not name:
        errors.append(required(path))
        return
    messages = names.is_dns1123_subdomain(name)
    if messages:
        errors.append(invalid(path, name, ",".join(messages)))
    elif name.count(".") < 2:
        message = "should be a domain with at least three segments separated by dots"
        errors.append(invalid(path, name, message))
