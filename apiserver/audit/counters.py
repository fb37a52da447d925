"""What auditing counts (apiserver pkg/audit/metrics.go)."""

from __future__ import annotations

from typing import NamedTuple

from pilothouse.componentbase.metrics import Counter


class AuditCounters(NamedTuple):
    events: Counter
    errors: Counter
    levels: Counter
    rejected: Counter


def audit_counters() -> AuditCounters:
    """The two without labels begin at nought: scrapers see them without an audit log, too."""
    name = "apiserver_audit_"
    made = AuditCounters(
        Counter(
            f"{name}event_total",
            "[ALPHA] Counter of audit events generated and sent to the audit backend.",
        ),
        Counter(
            f"{name}error_total",
            "[ALPHA] Counter of audit events that failed to be audited properly. Plugin "
            "identifies the plugin affected by the error.",
            ("plugin",),
        ),
        Counter(
            f"{name}level_total",
            "[ALPHA] Counter of policy levels for audit events (1 per request).",
            ("level",),
        ),
        Counter(
            f"{name}requests_rejected_total",
            "[ALPHA] Counter of apiserver requests rejected due to an error in audit logging "
            "backend.",
        ),
    )
    for each in (made.events, made.rejected):
        each.values[()] = 0.0
    return made
