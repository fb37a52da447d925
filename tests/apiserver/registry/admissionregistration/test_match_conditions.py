"""matchConditions that are no CEL are refused; what is stored already is not looked at."""

from __future__ import annotations

import pytest

from pilothouse.apiserver.registry.admissionregistration.match_conditions import expression_errors


def configuration(expression):
    return {"webhooks": [{"matchConditions": [{"name": "c", "expression": expression}]}]}


def test_bad_expression():
    (error,) = expression_errors(configuration("... [] bad expression"))
    assert str(error).startswith(
        'webhooks[0].matchConditions[0].expression: Invalid value: "... [] bad expression": '
        "compilation failed: ERROR: <input>:1:2: Syntax error"
    )


@pytest.mark.parametrize("expression", ["object.metadata.name != 'x'", "", "  "])
def test_fine_or_checked_elsewhere(expression):
    assert expression_errors(configuration(expression)) == []


def test_stored_expressions_stay():
    bad = configuration("... [] bad expression")
    assert expression_errors(bad, bad) == []
