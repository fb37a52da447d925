"""Defaults of admissionregistration.k8s.io/v1."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pilothouse.apimachinery.object import Obj

_SERVICE_PORT = 443


def set_webhook_defaults(configuration: Obj, *, mutating: bool) -> None:
    for webhook in configuration.get("webhooks") or ():
        _fill(webhook, "failurePolicy", "Fail")
        _match_defaults(webhook)
        _fill(webhook, "timeoutSeconds", 10)
        if mutating:
            _fill(webhook, "reinvocationPolicy", "Never")
        service = (webhook.get("clientConfig") or {}).get("service")
        if service is not None:
            _fill(service, "port", _SERVICE_PORT)
        _rule_defaults(webhook.get("rules") or ())


def set_policy_defaults(policy: Obj) -> None:
    """A ValidatingAdmissionPolicy or a MutatingAdmissionPolicy."""
    spec = policy.setdefault("spec", {})
    _fill(spec, "failurePolicy", "Fail")
    if spec.get("matchConstraints") is not None:
        _match_resources_defaults(spec["matchConstraints"])


def set_binding_defaults(binding: Obj) -> None:
    resources = (binding.get("spec") or {}).get("matchResources")
    if resources is not None:
        _match_resources_defaults(resources)


def _match_resources_defaults(resources: Obj) -> None:
    _match_defaults(resources)
    for field in ("resourceRules", "excludeResourceRules"):
        _rule_defaults(resources.get(field) or ())


def _match_defaults(obj: Obj) -> None:
    _fill(obj, "matchPolicy", "Equivalent")
    _fill(obj, "namespaceSelector", {})
    _fill(obj, "objectSelector", {})


def _rule_defaults(rules: Iterable[Obj]) -> None:
    for rule in rules:
        _fill(rule, "scope", "*")


def _fill(obj: Obj, key: str, value: Any) -> None:
    if obj.get(key) is None:
        obj[key] = value
