"""What upstream's rule validator (apiextensions-apiserver v0.37.2, cel-go 0.29.2) did with a few
hundred expressions: verdict, value, error text, cost and estimate. Measured, not thought up."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pilothouse.cel.estimates import estimate
from pilothouse.cel.interfaces import CompileError, EvaluationError, InstantiationError
from pilothouse.cel.kubernetes import custom_resource_rule
from pilothouse.cel.schema_types import declared
from pilothouse.cel.types import BOOL

_DATA = json.loads((Path(__file__).parents[1] / "testdata/cel/facts.json").read_text())
_FACTS: list[dict[str, Any]] = _DATA["facts"]
_TYPE = declared(_DATA["base"]["schema"])
assert _TYPE is not None
assert _TYPE.convert is not None
_ENVIRONMENT = custom_resource_rule(_TYPE.type)
_ACTIVATION = {name: _TYPE.convert(_DATA["base"][name]) for name in ("self", "oldSelf")}


def measure(rule: str) -> dict[str, Any]:
    assert _TYPE is not None
    try:
        program = _ENVIRONMENT.compile(rule)
    except InstantiationError as error:
        return {"compile": f"program instantiation failed: {error}"}
    except CompileError as error:
        return {"compile": f"compilation failed: {error}"}
    if program.output_type != BOOL:
        return {"compile": "cel expression must evaluate to a bool"}
    found: dict[str, Any] = {
        "cost": program.cost(_ACTIVATION),
        "estimate": estimate(program.tree, _TYPE).high,
    }
    try:
        found["value"] = program.evaluate(_ACTIVATION)
    except EvaluationError as error:
        found["error"] = str(error)
        # Upstream counts a little of what follows an error, too.
        del found["cost"]
    return found


@pytest.mark.parametrize("fact", _FACTS, ids=[fact["rule"][:60] for fact in _FACTS])
def test_as_measured(fact: dict[str, Any]) -> None:
    expected = {key: value for key, value in fact.items() if key not in ("group", "rule")}
    if "error" in expected:
        del expected["cost"]
    assert measure(fact["rule"]) == expected


def test_there_are_enough() -> None:
    groups = [fact["group"] for fact in _FACTS]
    assert all(groups.count(group) > 50 for group in ("syntax", "types", "values", "libraries"))
