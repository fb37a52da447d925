"""matchConditions of a webhook: CEL that is asked after the rules and selectors have matched.

Any condition that is false spares the webhook. Errors count only when none is false; then the
failure policy decides.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pilothouse.apimachinery.object import Obj
    from pilothouse.cel.interfaces import Program

COST_LIMIT = 2_500_000
"""Of all conditions of one webhook together (RuntimeCELCostBudgetMatchConditions)."""
_OUT_OF_BUDGET = (
    "validation failed due to running out of cost budget, no further validation rules will be run"
)


class ConditionError(Exception):
    """Conditions could not be evaluated and none was false; the text joins what went wrong."""


class Conditions:
    """Compiled when the first request gets that far."""

    def __init__(self, conditions: Sequence[Obj]) -> None:
        self._conditions = [(c.get("name") or "", c.get("expression") or "") for c in conditions]

    @cached_property
    def _programs(self) -> list[tuple[str, Program | str]]:
        return [(text, compile_condition(text)) for _, text in self._conditions]

    def hold(self, activation: Mapping[str, Any]) -> bool:
        """Whether the webhook is to be called. :raises ConditionError: that is not known."""
        from pilothouse.cel.interfaces import Budget, CostLimitExceeded, EvaluationError

        budget = Budget(COST_LIMIT)
        errors: list[str] = []
        for text, program in self._programs:
            if isinstance(program, str):
                errors.append(f"compilation error: {program}")
                continue
            try:
                value = program.evaluate(activation, budget)
            except CostLimitExceeded as error:
                raise ConditionError(_OUT_OF_BUDGET) from error
            except EvaluationError as error:
                errors.append(f"expression '{text}' resulted in error: {error}")
                continue
            if value is False:
                return False
        if errors:
            raise ConditionError(errors[0] if len(errors) == 1 else f"[{', '.join(errors)}]")
        return True


def compile_condition(expression: str) -> Program | str:
    """The program, or why there is none."""
    from pilothouse.cel.interfaces import CompileError
    from pilothouse.cel.kubernetes import match_conditions
    from pilothouse.cel.types import BOOL

    try:
        program: Program = match_conditions().compile(expression)
    except CompileError as error:
        return f"compilation failed: {error}"
    if program.output_type != BOOL:
        return f"must evaluate to bool but got {program.output_type}"
    return program
