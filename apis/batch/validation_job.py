"""Jobs: the spec, and what an update may change."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pilothouse.apimachinery import names
from pilothouse.apimachinery.labels import selector_from_label_selector
from pilothouse.apimachinery.object import copy_object
from pilothouse.apis.batch.validation_policies import failure_policy, success_policy
from pilothouse.apis.core.validation_template import (
    SELECTOR_MISMATCH,
    template_options,
    validate_pod_template_spec,
)
from pilothouse.apis.meta import validation as check
from pilothouse.apis.meta.errors import invalid, not_supported, required, too_long

if TYPE_CHECKING:
    from pilothouse.apimachinery.fieldpath import ErrorList
    from pilothouse.apimachinery.object import Obj

UID_LABELS = ("controller-uid", "batch.kubernetes.io/controller-uid")
NAME_LABELS = ("job-name", "batch.kubernetes.io/job-name")
_MAX_INDEXED, _SOFT_LIMIT, _HIGH_LIMIT = 100_000, 100_000, 10_000
_NUMBERS = (
    "parallelism",
    "completions",
    "activeDeadlineSeconds",
    "backoffLimit",
    "ttlSecondsAfterFinished",
    "backoffLimitPerIndex",
    "maxFailedIndexes",
)


def validate_job(job: Obj, old: Obj | None = None) -> ErrorList:
    errors: ErrorList = []
    spec, metadata = job.get("spec") or {}, job.get("metadata") or {}
    if old is None:
        _generated_selector(errors, spec, metadata)
    old_template = None if old is None else (old.get("spec") or {}).get("template") or {}
    validate_job_spec(errors, spec, "spec", old_template)
    _selector(errors, spec)
    if _is_indexed(spec) and (spec.get("completions") or 0) > 0:
        name = metadata.get("name") or ""
        last = f"{name}-{spec['completions'] - 1}"
        if names.is_dns1123_label(last):
            message = f"will not able to create pod with invalid DNS label: {last}"
            errors.append(invalid("metadata.name", name, message))
    return errors


def _is_indexed(spec: Obj) -> bool:
    return spec.get("completionMode") == "Indexed"


def _generated_selector(errors: ErrorList, spec: Obj, metadata: Obj) -> None:
    if spec.get("manualSelector") or spec.get("selector") is None:
        return
    uid, name = metadata.get("uid") or "", metadata.get("name") or ""
    if not uid:
        errors.append(required("metadata.uid"))
    labels = ((spec.get("template") or {}).get("metadata") or {}).get("labels") or {}
    expected = {**dict.fromkeys(UID_LABELS, uid), **dict.fromkeys(NAME_LABELS, name)}
    for label, value in expected.items():
        path = f"spec.template.metadata.labels[{label}]"
        if label not in labels:
            errors.append(required(path, f"must be '{value}'"))
        elif labels[label] != value:
            errors.append(invalid(path, labels, f"must be '{value}'"))
    try:
        matches = selector_from_label_selector(spec["selector"]).matches(expected)
    except ValueError:
        return
    if not matches:
        message = "`selector` not auto-generated"
        errors.append(invalid("spec.selector", spec["selector"], message))


def _selector(errors: ErrorList, spec: Obj) -> None:
    selector = spec.get("selector")
    if selector is None:
        errors.append(required("spec.selector"))
    else:
        check.label_selector(errors, selector, "spec.selector")
    labels = ((spec.get("template") or {}).get("metadata") or {}).get("labels") or {}
    try:
        matches = selector_from_label_selector(selector).matches(labels)
    except ValueError:
        return
    if not matches:
        errors.append(invalid("spec.template.metadata.labels", labels, SELECTOR_MISMATCH))


def validate_job_spec(
    errors: ErrorList, spec: Obj, path: str, old_template: Obj | None = None
) -> None:
    """validateJobSpec: of a Job and of a CronJob's template."""
    for field in _NUMBERS:
        check.nonnegative(errors, spec, field, path)
    per_index, failed = spec.get("backoffLimitPerIndex"), spec.get("maxFailedIndexes")
    if failed is not None and per_index is None:
        message = "when maxFailedIndexes is specified"
        errors.append(required(f"{path}.backoffLimitPerIndex", message))
    if spec.get("managedBy") is not None:
        domain_prefixed_path(errors, spec["managedBy"], f"{path}.managedBy")
        if len(spec["managedBy"]) > 63:
            errors.append(too_long(f"{path}.managedBy", 63))
    mode = spec.get("completionMode")
    if mode is not None and mode not in ("NonIndexed", "Indexed"):
        errors.append(not_supported(f"{path}.completionMode", mode, ("NonIndexed", "Indexed")))
    if mode == "Indexed":
        _indexed(errors, spec, path)
    elif mode in (None, "NonIndexed"):
        for field in ("backoffLimitPerIndex", "maxFailedIndexes"):
            if spec.get(field) is not None:
                message = "requires indexed completion mode"
                errors.append(invalid(f"{path}.{field}", spec[field], message))
    if spec.get("podFailurePolicy") is not None:
        failure_policy(errors, spec, f"{path}.podFailurePolicy")
    if spec.get("successPolicy") is not None:
        if mode != "Indexed":
            message = "requires indexed completion mode"
            errors.append(invalid(f"{path}.successPolicy", spec["successPolicy"], message))
        else:
            success_policy(errors, spec, f"{path}.successPolicy")
    _replacement_policy(errors, spec, f"{path}.podReplacementPolicy")
    template = spec.get("template") or {}
    validate_pod_template_spec(errors, template, f"{path}.template", template_options(old_template))
    _restart_policy(errors, spec, template, f"{path}.template.spec.restartPolicy")


def _indexed(errors: ErrorList, spec: Obj, path: str) -> None:
    completions, parallelism = spec.get("completions"), spec.get("parallelism") or 0
    failed = spec.get("maxFailedIndexes")
    if completions is None:
        message = "when completion mode is Indexed"
        errors.append(required(f"{path}.completions", message))
    if parallelism > _MAX_INDEXED:
        message = f"must be less than or equal to {_MAX_INDEXED} when completion mode is Indexed"
        errors.append(invalid(f"{path}.parallelism", parallelism, message))
    if failed is not None:
        if completions is not None and failed > completions:
            message = "must be less than or equal to completions"
            errors.append(invalid(f"{path}.maxFailedIndexes", failed, message))
        if failed > _MAX_INDEXED:
            message = f"must be less than or equal to {_MAX_INDEXED}"
            errors.append(invalid(f"{path}.maxFailedIndexes", failed, message))
    if (completions or 0) <= _SOFT_LIMIT or spec.get("backoffLimitPerIndex") is None:
        return
    if failed is None:
        message = f"must be specified when completions is above {_SOFT_LIMIT}"
        errors.append(required(f"{path}.maxFailedIndexes", message))
    message = (
        f"must be less than or equal to {_HIGH_LIMIT} when completions are above {_SOFT_LIMIT} "
        "and used with backoff limit per index"
    )
    for field, value in (("parallelism", parallelism), ("maxFailedIndexes", failed or 0)):
        if value > _HIGH_LIMIT:
            errors.append(invalid(f"{path}.{field}", value, message))


def _replacement_policy(errors: ErrorList, spec: Obj, path: str) -> None:
    policy = spec.get("podReplacementPolicy")
    if policy is None:
        return
    with_failure = spec.get("podFailurePolicy") is not None
    valid = ("Failed",) if with_failure else ("Failed", "TerminatingOrFailed")
    if policy not in valid:
        errors.append(not_supported(path, policy, valid))


def _restart_policy(errors: ErrorList, spec: Obj, template: Obj, path: str) -> None:
    policy = (template.get("spec") or {}).get("restartPolicy") or ""
    if policy in ("", "Always"):
        errors.append(required(path, 'valid values: "OnFailure", "Never"'))
    elif policy not in ("OnFailure", "Never"):
        errors.append(not_supported(path, policy, ("OnFailure", "Never")))
    elif spec.get("podFailurePolicy") is not None and policy != "Never":
        message = 'only "Never" is supported when podFailurePolicy is specified'
        errors.append(invalid(path, policy, message))


def domain_prefixed_path(errors: ErrorList, value: str, path: str) -> None:
    """IsDomainPrefixedPath: ``acme.io/foo``."""
    if not value:
        errors.append(required(path))
        return
    host, slash, rest = value.partition("/")
    if not slash or not host or not rest:
        message = 'must be a domain-prefixed path (such as "acme.io/foo")'
        errors.append(invalid(path, value, message))
        return
    check.dns_subdomain(errors, host, path)
    if not names.is_http_path(rest):
        return
    messages = names.is_http_path(rest)
    errors.extend(invalid(path, rest, f"Invalid path: {m}") for m in messages)


def validate_job_update(job: Obj, old: Obj) -> ErrorList:
    errors = validate_job(job, old)
    spec, before = job.get("spec") or {}, old.get("spec") or {}
    _completions(errors, spec, before)
    check.immutable(errors, spec.get("selector"), before.get("selector"), "spec.selector")
    _template(errors, spec, before, old)
    for field in (
        "completionMode",
        "podFailurePolicy",
        "backoffLimitPerIndex",
        "managedBy",
        "successPolicy",
    ):
        check.immutable(errors, spec.get(field), before.get(field), f"spec.{field}")
    return errors


def _completions(errors: ErrorList, spec: Obj, before: Obj) -> None:
    new, old = spec.get("completions"), before.get("completions")
    if new == old:
        return
    if not _is_indexed(spec):
        errors.append(invalid("spec.completions", new, "field is immutable"))
    elif new is not None and new != spec.get("parallelism"):
        message = "can only be modified in tandem with spec.parallelism"
        errors.append(invalid("spec.completions", new, message))


_DIRECTIVES = ("nodeSelector", "tolerations", "schedulingGates")


def _template(errors: ErrorList, spec: Obj, before: Obj, old: Obj) -> None:
    """A suspended Job that has no pods may change where and with what its pods will run."""
    template, old_template = spec.get("template") or {}, copy_object(before.get("template") or {})
    status = old.get("status") or {}
    suspended = bool(before.get("suspend"))
    condition = any(
        c.get("type") == "Suspended" and c.get("status") == "True"
        for c in status.get("conditions") or ()
    )
    mutable = suspended and (not status.get("startTime") or condition)
    if not mutable or status.get("active"):
        check.immutable(errors, template, old_template, "spec.template")
        return
    pod, old_pod = template.get("spec") or {}, old_template.setdefault("spec", {})
    for field in _DIRECTIVES:
        _take(old_pod, pod, field)
    affinity = dict(old_pod.get("affinity") or {})
    _take(affinity, pod.get("affinity") or {}, "nodeAffinity")
    old_pod["affinity"] = affinity
    for field in ("containers", "initContainers"):
        new_list, old_list = pod.get(field) or (), old_pod.get(field) or ()
        if len(new_list) == len(old_list):
            for new, had in zip(new_list, old_list, strict=True):
                if new.get("name") == had.get("name"):
                    _take(had, new, "resources")
    check.immutable(errors, pod, old_pod, "spec.template.spec")


def _take(target: Obj, source: Obj, field: str) -> None:
    if source.get(field) is None:
        target.pop(field, None)
    else:
        target[field] = source[field]
