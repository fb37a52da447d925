"""Completion indexes of Indexed Jobs: ``0-3,7`` as text, and what pods say of theirs. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from pilothouse.apimachinery.object import Obj, copy_object, get_nested, meta
from pilothouse.controllermanager.pods import active_order

COMPLETION_INDEX = "batch.kubernetes.io/job-completion-index"
INDEX_FAILURE_COUNT = "batch.kubernetes.io/job-index-failure-count"
INDEX_IGNORED_FAILURE_COUNT = "batch.kubernetes.io/job-index-ignored-failure-count"
ENV_NAME = "JOB_COMPLETION_INDEX"
MAX_GENERATED_NAME = 58


def parse(text: str, completions: int) -> set[int]:
    """The indexes below ``completions``; what is no interval is left out."""
    found: set[int] = set()
    for interval in text.split(",") if text else ():
        first, _, last = interval.partition("-")
        try:
            start, end = int(first), int(last or first)
        except ValueError:
            continue
        found.update(range(start, min(end, completions - 1) + 1))
    return found


def format_indexes(indexes: Iterable[int]) -> str:
    """Runs of three and more as an interval, two neighbours as two numbers."""
    parts: list[str] = []
    run: list[int] = []
    for index in sorted(indexes):
        if run and index == run[-1] + 1:
            run.append(index)
            continue
        parts += _run(run)
        run = [index]
    return ",".join(parts + _run(run))


def _run(run: list[int]) -> list[str]:
    if len(run) > 2:
        return [f"{run[0]}-{run[-1]}"]
    return [str(index) for index in run]


def index_of(pod: Obj) -> int | None:
    """The pod's completion index; None when it has none that counts."""
    text = (meta(pod).get("annotations") or {}).get(COMPLETION_INDEX, "")
    return int(text) if text.isascii() and text.isdigit() else None


def failure_count(pod: Obj, *, ignored: bool = False) -> int:
    """How often the pod's index had failed before it (``ignored``: those failures too)."""
    annotations = meta(pod).get("annotations") or {}
    names = [INDEX_FAILURE_COUNT] + ([INDEX_IGNORED_FAILURE_COUNT] if ignored else [])
    return sum(int(annotations.get(name, 0)) for name in names)


def indexed_template(template: Obj, job_name: str, index: int) -> Obj:
    """The job's template for one index: annotation, label, host name and environment."""
    new: Obj = copy_object(template)
    metadata = new.setdefault("metadata", {})
    for field in ("annotations", "labels"):
        metadata[field] = {**(metadata.get(field) or {}), COMPLETION_INDEX: str(index)}
    spec = new["spec"]
    spec["hostname"] = f"{job_name}-{index}"
    for kind in ("initContainers", "containers"):
        for container in spec.get(kind) or ():
            environment = container.setdefault("env", [])
            if not any(entry.get("name") == ENV_NAME for entry in environment):
                field_path = f"metadata.labels['{COMPLETION_INDEX}']"
                environment.append(
                    {"name": ENV_NAME, "valueFrom": {"fieldRef": {"fieldPath": field_path}}}
                )
    return new


def generate_name(job_name: str, index: int) -> str:
    suffix = f"-{index}-"
    return job_name[: MAX_GENERATED_NAME - len(suffix)] + suffix


def first_pending(completions: int, taken: Iterable[int], count: int) -> list[int]:
    """The lowest ``count`` indexes that nobody has."""
    busy = set(taken)
    pending: list[int] = []
    for index in range(completions):
        if len(pending) >= count:
            break
        if index not in busy:
            pending.append(index)
    return pending


def is_indexed(job: Obj) -> bool:
    return bool(get_nested(job, "spec", "completionMode") == "Indexed")


def for_removal(pods: Sequence[Obj], at_least: int, completions: int | None) -> list[Obj]:
    """Active pods to delete: those that are one too many for their index, then the least useful
    ones. ``completions`` is None for jobs without indexes."""
    doomed: list[Obj] = []
    left = list(pods)
    if completions is not None:
        by_index: dict[int | None, list[Obj]] = {}
        for pod in pods:
            index = index_of(pod)
            valid = index is not None and index < completions
            by_index.setdefault(index if valid else None, []).append(pod)
        doomed += by_index.pop(None, [])
        left = []
        for same in by_index.values():
            ordered = active_order(same)
            doomed += ordered[:-1]
            left.append(ordered[-1])
    if len(doomed) < at_least:
        doomed += active_order(left)[: at_least - len(doomed)]
    return doomed
