"""What PodSecurity decides (pod-security-admission metrics)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pilothouse.apiserver.admission.plugin import NAMESPACES, PODS
from pilothouse.componentbase.metrics import Counter

if TYPE_CHECKING:
    from pilothouse.apiserver.admission.interfaces import Attributes

_REQUEST = ("request_operation", "resource", "subresource")


class PodSecurityMetrics:
    def __init__(self) -> None:
        self.evaluations = Counter(
            "pod_security_evaluations_total",
            "[ALPHA] Number of policy evaluations that occurred, not counting ignored or exempt "
            "requests.",
            ("decision", "policy_level", "policy_version", "mode", *_REQUEST),
        )
        self.errors = Counter(
            "pod_security_errors_total",
            "[ALPHA] Number of errors preventing normal evaluation. Non-fatal errors may result in "
            "the latest restricted profile being used for evaluation.",
            ("fatal", *_REQUEST),
        )

    def evaluated(
        self, attributes: Attributes, mode: str, level: str, version: str, *, allowed: bool
    ) -> None:
        decision = "allow" if allowed else "deny"
        self.evaluations.inc(decision, level, version, mode, *_request(attributes))

    def failed(self, attributes: Attributes, *, fatal: bool) -> None:
        self.errors.inc("true" if fatal else "false", *_request(attributes))


def _request(attributes: Attributes) -> tuple[str, str, str]:
    resource = attributes.resource.group_resource
    kind = {PODS: "pod", NAMESPACES: "namespace"}.get(resource, "controller")
    return attributes.operation.lower(), kind, attributes.subresource
