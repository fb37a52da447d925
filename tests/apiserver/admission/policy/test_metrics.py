"""What policies count about themselves."""

from __future__ import annotations

from typing import Any

from pilothouse.apiserver.admission.policy.metrics import error_type

VALIDATING = "apiserver_validating_admission_policy_check"
MUTATING = "apiserver_mutating_admission_policy_check"


def counted(policies: Any, prefix: str) -> dict[tuple[str, ...], float]:
    metric = policies.server.metrics.get(f"{prefix}_total")
    return {} if metric is None else dict(metric.values)


async def test_validating(policies: Any) -> None:
    await policies.validating("yes", "true", actions=("Deny", "Audit"))
    await policies.config_map("a")
    assert counted(policies, VALIDATING) == {}
    await policies.validating("loud", "false", actions=("Audit", "Warn"))
    await policies.validating("broken", "object.gone == 1", failurePolicy="Ignore")
    await policies.config_map("b")
    await policies.validating("no", "false")
    await policies.refused("c")
    assert counted(policies, VALIDATING) == {
        ("loud", "loud-b", "invalid_error", "audit"): 2,
        ("loud", "loud-b", "invalid_error", "warn"): 2,
        ("broken", "broken-b", "invalid_error", "allow"): 2,
        ("no", "no-b", "invalid_error", "deny"): 1,
    }
    text = policies.server.metrics.text()
    labels = (
        'policy="no",policy_binding="no-b",error_type="invalid_error",enforcement_action="deny"'
    )
    assert f"{VALIDATING}_duration_seconds_count{{{labels}}} 1" in text


async def test_mutating(policies: Any) -> None:
    await policies.mutating("m", "Object{data: {'x': 'y'}}")
    await policies.mutating("n", "Object{data: {'x': object.gone}}")
    await policies.refused("a")
    assert counted(policies, MUTATING) == {
        ("m", "m-b", "no_error"): 1,
        ("n", "n-b", "invalid_error"): 1,
    }
    seconds = policies.server.metrics.get(f"{MUTATING}_duration_seconds")
    assert {labels: sum(series.counts) for labels, series in seconds.series()} == {
        ("m", "m-b", "no_error"): 1,
        ("n", "n-b", "invalid_error"): 1,
    }


def test_error_types() -> None:
    assert error_type("compilation error: compilation failed: x") == "compile_error"
    text = "validation failed due to running out of cost budget, no further"
    assert error_type(text) == "out_of_budget"
    assert error_type("expression 'x' resulted in error: y") == "invalid_error"
