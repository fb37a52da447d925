"""Jobs and CronJobs."""

from __future__ import annotations

from typing import Any

import pytest

from pilothouse.apis.batch.cron import schedule_error
from pilothouse.apis.batch.defaults import set_cron_job_defaults, set_job_defaults
from pilothouse.apis.batch.validation_cronjob import validate_cron_job
from pilothouse.apis.batch.validation_job import validate_job_update
from pilothouse.apis.batch.validation_job_status import validate_job_status_update
from pilothouse.apiserver.registry.batch.job import STRATEGY

Obj = dict[str, Any]


def job(**spec: Any) -> Obj:
    template = {"spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "x"}]}}
    metadata = {"name": "pi", "namespace": "d", "uid": "u1"}
    found: Obj = {"metadata": metadata, "spec": {"template": template, **spec}}
    set_job_defaults(found)
    STRATEGY.prepare_for_create(None, found)  # type: ignore[arg-type]
    return found


def texts(errors: list[Any]) -> list[str]:
    return [str(error) for error in errors]


def test_the_server_makes_selector_and_labels() -> None:
    spec = job()["spec"]
    assert spec["selector"] == {"matchLabels": {"batch.kubernetes.io/controller-uid": "u1"}}
    assert spec["template"]["metadata"]["labels"] == {
        "batch.kubernetes.io/controller-uid": "u1",
        "batch.kubernetes.io/job-name": "pi",
        "controller-uid": "u1",
        "job-name": "pi",
    }
    assert (spec["parallelism"], spec["completions"], spec["backoffLimit"]) == (1, 1, 6)
    assert (spec["completionMode"], spec["suspend"]) == ("NonIndexed", False)


JOBS: list[tuple[Obj, str]] = [
    (
        {"parallelism": -1},
        "spec.parallelism: Invalid value: -1: must be greater than or equal to 0",
    ),
    (
        {"completionMode": "Indexed", "parallelism": 1},
        "spec.completions: Required value: when completion mode is Indexed",
    ),
    (
        {"completionMode": "Other"},
        'spec.completionMode: Unsupported value: "Other": supported values: "NonIndexed", '
        '"Indexed"',
    ),
    (
        {"backoffLimitPerIndex": 1},
        "spec.backoffLimitPerIndex: Invalid value: 1: requires indexed completion mode",
    ),
]


@pytest.mark.parametrize(("spec", "expected"), JOBS)
def test_jobs(spec: Obj, expected: str) -> None:
    errors = texts(STRATEGY.check_create(job(**spec)))
    assert any(error.startswith(expected) for error in errors), errors


def test_a_valid_job() -> None:
    assert texts(STRATEGY.check_create(job())) == []


def test_completions_may_not_change() -> None:
    old, new = job(), job()
    new["spec"]["completions"] = 3
    assert texts(validate_job_update(new, old)) == [
        "spec.completions: Invalid value: 3: field is immutable"
    ]


def test_a_job_is_not_complete_and_failed() -> None:
    old, new = job(), job()
    new["status"]["startTime"] = "2026-01-01T00:00:00Z"
    new["status"]["conditions"] = [
        {"type": kind, "status": "True"} for kind in ("Complete", "Failed")
    ]
    errors = texts(validate_job_status_update(new, old))
    assert any("cannot set Complete=True and Failed=true conditions" in e for e in errors), errors


@pytest.mark.parametrize(
    ("schedule", "good"),
    [
        ("* * * * *", True),
        ("*/15 0 1,15 * 1-5", True),
        ("@hourly", True),
        ("@every 1h", True),
        ("0 0 * jan sun", True),
        ("60 * * * *", False),
        ("* * * *", False),
        ("a * * * *", False),
        ("5-1 * * * *", False),
    ],
)
def test_schedules(schedule: str, good: bool) -> None:
    assert (schedule_error(schedule) == "") is good


def test_cron_jobs() -> None:
    spec = {
        "schedule": "* * * * *",
        "jobTemplate": {"spec": {"template": job()["spec"]["template"]}},
    }
    found: Obj = {"metadata": {"name": "a"}, "spec": spec}
    set_cron_job_defaults(found)
    assert texts(validate_cron_job(found)) == []
    assert (found["spec"]["concurrencyPolicy"], found["spec"]["successfulJobsHistoryLimit"]) == (
        "Allow",
        3,
    )
    found["spec"]["timeZone"] = "Mars/Olympus"
    assert texts(validate_cron_job(found)) == [
        'spec.timeZone: Invalid value: "Mars/Olympus": unknown time zone Mars/Olympus'
    ]
    found["spec"].update(timeZone="Europe/Berlin", concurrencyPolicy="Maybe")
    assert texts(validate_cron_job(found)) == [
        'spec.concurrencyPolicy: Unsupported value: "Maybe": supported values: "Allow", "Forbid", '
        '"Replace"'
    ]


def test_a_long_cron_job_name_leaves_no_room_for_jobs() -> None:
    spec = {
        "schedule": "* * * * *",
        "jobTemplate": {"spec": {"template": job()["spec"]["template"]}},
    }
    found: Obj = {"metadata": {"name": "a" * 53}, "spec": spec}
    set_cron_job_defaults(found)
    assert texts(validate_cron_job(found)) == [
        f'metadata.name: Invalid value: "{"a" * 53}": must be no more than 52 characters'
    ]
