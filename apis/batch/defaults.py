"""Defaults of Jobs and CronJobs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pilothouse.apis.core.defaults_pod import set_template_defaults

if TYPE_CHECKING:
    from pilothouse.apimachinery.object import Obj


def _absent(obj: Obj, field: str, value: object) -> None:
    if obj.get(field) is None:
        obj[field] = value


def set_job_defaults(job: Obj) -> None:
    spec = job.setdefault("spec", {})
    template = spec.setdefault("template", {})
    set_template_defaults(template)
    labels = (template.get("metadata") or {}).get("labels")
    if labels:
        metadata = job.setdefault("metadata", {})
        if not metadata.get("labels"):
            metadata["labels"] = dict(labels)
    if spec.get("completions") is None and spec.get("parallelism") is None:
        spec["completions"] = 1
    _absent(spec, "parallelism", 1)
    _absent(spec, "backoffLimit", 2147483647 if spec.get("backoffLimitPerIndex") is not None else 6)
    _absent(spec, "completionMode", "NonIndexed")
    _absent(spec, "suspend", False)
    policy = spec.get("podFailurePolicy")
    _absent(spec, "podReplacementPolicy", "TerminatingOrFailed" if policy is None else "Failed")
    _absent(spec, "manualSelector", False)
    _failure_policy(policy)


def _failure_policy(policy: Obj | None) -> None:
    for rule in (policy or {}).get("rules") or ():
        for pattern in rule.get("onPodConditions") or ():
            if not pattern.get("status"):
                pattern["status"] = "True"


def set_cron_job_defaults(cron_job: Obj) -> None:
    spec = cron_job.setdefault("spec", {})
    job_spec = spec.setdefault("jobTemplate", {}).setdefault("spec", {})
    set_template_defaults(job_spec.setdefault("template", {}))
    _failure_policy(job_spec.get("podFailurePolicy"))
    if not spec.get("concurrencyPolicy"):
        spec["concurrencyPolicy"] = "Allow"
    _absent(spec, "suspend", False)
    _absent(spec, "successfulJobsHistoryLimit", 3)
    _absent(spec, "failedJobsHistoryLimit", 1)
