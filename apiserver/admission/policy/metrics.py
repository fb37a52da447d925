"""What admission policies decide and cost (admission/plugin/policy/*/metrics).

As upstream, an expression that simply says yes is not counted for validating policies.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pilothouse.componentbase.metrics import Counter, Histogram

if TYPE_CHECKING:
    from pilothouse.apiserver.admission.policy.validator import Annotation, Decision
    from pilothouse.componentbase.metrics import Registry

_BUCKETS = (0.0000005, 0.001, 0.01, 0.1, 1.0)
_LABELS = ("policy", "policy_binding", "error_type")
NO_ERROR = "no_error"


def error_type(message: str) -> str:
    """What kind of failure a decision's message tells of. Upstream goes by the text, and calls a
    plain refusal an invalid_error, too."""
    if message.startswith("compilation"):
        return "compile_error"
    if message.startswith("validation failed due to running out of cost budget"):
        return "out_of_budget"
    return "invalid_error"


class ValidatingMetrics:
    def __init__(self, registry: Registry | None) -> None:
        prefix = "apiserver_validating_admission_policy_check"
        labels = (*_LABELS, "enforcement_action")
        self.checks = Counter(
            f"{prefix}_total",
            "[BETA] Validation admission policy check total, labeled by policy and further "
            "identified by binding and enforcement action taken.",
            labels,
        )
        self.seconds = Histogram(
            f"{prefix}_duration_seconds",
            "[BETA] Validation admission latency for individual validation expressions in "
            "seconds, labeled by policy and further including binding and enforcement action "
            "taken.",
            _BUCKETS,
            labels,
        )
        if registry is not None:
            registry.add(self.checks, self.seconds)

    def observe(
        self, policy: str, binding: str, decided: Decision | Annotation, action: str
    ) -> None:
        """:param action: allow, deny, audit or warn."""
        labels = (policy, binding, error_type(decided.message), action)
        self.checks.inc(*labels)
        self.seconds.observe(decided.seconds, *labels)


class MutatingMetrics:
    def __init__(self, registry: Registry | None) -> None:
        prefix = "apiserver_mutating_admission_policy_check"
        self.checks = Counter(
            f"{prefix}_total",
            "[ALPHA] Mutation admission policy check total, labeled by policy and further "
            "identified by binding.",
            _LABELS,
        )
        self.seconds = Histogram(
            f"{prefix}_duration_seconds",
            "[ALPHA] Mutation admission latency for individual mutation expressions in seconds, "
            "labeled by policy and binding.",
            _BUCKETS,
            _LABELS,
        )
        if registry is not None:
            registry.add(self.checks, self.seconds)

    def observe(self, policy: str, binding: str, seconds: float, problem: str | None) -> None:
        """:param problem: why the mutation failed; None: it did not."""
        labels = (policy, binding, NO_ERROR if problem is None else error_type(problem))
        self.checks.inc(*labels)
        self.seconds.observe(seconds, *labels)
