"""Runs the compiled expressions of a policy for one request (admission/plugin/cel); pure.

Expressions draw on a cost budget; the variables of a policy are evaluated when they are first
used, once per request, and their cost counts for the expression that needed them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from time import perf_counter
from typing import TYPE_CHECKING, Any, NamedTuple

from pilothouse.cel.interfaces import Budget, CostLimitExceeded, EvaluationError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from pilothouse.apimachinery.object import Obj
    from pilothouse.apis.admissionregistration.expressions import Expression
    from pilothouse.cel.interfaces import AuthorizerLike, Program

PER_CALL_LIMIT = 1_000_000
"""What one expression may cost."""
BUDGET = 10_000_000
"""What all expressions of a policy may cost for one binding and param."""
MATCH_CONDITIONS_BUDGET = BUDGET // 4
_OUT_OF_BUDGET = (
    "validation failed due to running out of cost budget, no further validation rules will be run"
)


class OutOfBudgetError(Exception):
    """The rest of the expressions is not evaluated."""


class Evaluation(NamedTuple):
    """A value, or why there is none."""

    value: Any
    error: str = ""
    seconds: float = 0.0


@dataclass(slots=True)
class Inputs:
    """What expressions see. Nothing of it may change while they run."""

    object: Obj | None
    old_object: Obj | None
    request: Obj
    namespace: Obj | None = None
    params: Obj | None = None
    authorizer: AuthorizerLike | None = None
    resource_check: Any = None
    """``authorizer.requestResource``."""

    def for_conditions(self, request: Obj) -> Inputs:
        """The same for match conditions, which have no namespaceObject."""
        return replace(self, request=request, namespace=None)

    def without_authorizer(self) -> Inputs:
        """What messageExpressions and auditAnnotations see, though variables are theirs, too."""
        return replace(self, authorizer=None)

    def activation(self) -> dict[str, Any]:
        values: dict[str, Any] = {
            "object": self.object,
            "oldObject": self.old_object,
            "request": self.request,
            "namespaceObject": self.namespace,
            "params": self.params,
        }
        if self.authorizer is not None:
            values["authorizer"] = self.authorizer
            values["authorizer.requestResource"] = self.resource_check
        return values


class Variables(dict[str, Any]):
    """The value of ``variables``: a map whose members come into being when they are read."""

    __slots__ = ("_activation", "_expressions", "spent")

    def __init__(self, expressions: Mapping[str, Expression], activation: dict[str, Any]) -> None:
        super().__init__()
        self._expressions = expressions
        self._activation = activation
        self.spent = 0
        """Cost since somebody last reset it."""

    def __missing__(self, name: str) -> Any:
        """:raises EvaluationError: the variable has no value."""
        expression = self._expressions.get(name)
        if expression is None:
            raise EvaluationError(f"no such key: {name}")
        if expression.program is None:
            raise EvaluationError(
                f'composited variable "{name}" fails to compile: {expression.problem}'
            )
        value, error, cost = evaluated(expression.program, self._activation)
        self.spent += cost
        if error:
            raise EvaluationError(f'composited variable "{name}" fails to evaluate: {error}')
        self[name] = value
        return value

    def __contains__(self, name: object) -> bool:
        return name in self._expressions

    def get(self, name: str, default: Any = None) -> Any:
        return self[name] if name in self._expressions else default


def evaluated(program: Program, activation: Mapping[str, Any]) -> tuple[Any, str, int]:
    """(value, error, cost) of one expression."""
    budget = Budget(PER_CALL_LIMIT)
    value, error = None, ""
    try:
        value = program.evaluate(activation, budget)
    except CostLimitExceeded as exceeded:
        return None, str(exceeded), PER_CALL_LIMIT + 1
    except EvaluationError as failed:
        error = str(failed)
    return value, error, PER_CALL_LIMIT - budget.remaining


class Scope:
    """One policy's expressions over one set of inputs."""

    def __init__(self, inputs: Inputs, variables: Mapping[str, Expression]) -> None:
        self._activation = inputs.activation()
        self._variables: Variables | None = None
        if variables:
            self._variables = Variables(variables, self._activation)
            self._activation["variables"] = self._variables

    def run(
        self, expressions: Iterable[Expression | None], budget: int
    ) -> tuple[list[Evaluation | None], int]:
        """An evaluation for each (None for None), and what is left of the budget.

        :raises OutOfBudgetError: the budget did not suffice.
        """
        results: list[Evaluation | None] = []
        for expression in expressions:
            if expression is None:
                results.append(None)
                continue
            result, cost = self.evaluate(expression)
            budget -= cost
            if budget < 0:
                raise OutOfBudgetError(_OUT_OF_BUDGET)
            results.append(result)
        return results, budget

    def evaluate(self, expression: Expression) -> tuple[Evaluation, int]:
        """The evaluation and its cost."""
        if expression.program is None:
            return Evaluation(None, f"compilation error: {expression.problem}"), 0
        variables = self._variables
        if variables is not None:
            variables.spent = 0
        start = perf_counter()
        value, error, cost = evaluated(expression.program, self._activation)
        seconds = perf_counter() - start
        if error:
            error = f"expression '{expression.text}' resulted in error: {error}"
            result = Evaluation(None, error, seconds)
        else:
            result = Evaluation(value, "", seconds)
        return result, cost if variables is None else cost + variables.spent


class MatchConditions:
    """All must be true for a policy to apply; they know no namespaceObject."""

    def __init__(self, conditions: Iterable[Expression], *, ignore_failures: bool) -> None:
        self._conditions = tuple(conditions)
        self._ignore_failures = ignore_failures

    def match(self, scope: Scope) -> tuple[bool, str]:
        """(does it match, why it cannot be said)."""
        try:
            results, _ = scope.run(self._conditions, MATCH_CONDITIONS_BUDGET)
        except OutOfBudgetError as error:
            return False, "" if self._ignore_failures else str(error)
        errors: list[str] = []
        for result in results:
            assert result is not None
            if result.error:
                errors.append(result.error)
            elif result.value is False:
                return False, ""
        if not errors:
            return True, ""
        return False, "" if self._ignore_failures else aggregate(errors)


def aggregate(errors: Iterable[str]) -> str:
    """Several errors as utilerrors.Aggregate shows them."""
    different = list(dict.fromkeys(errors))
    return different[0] if len(different) == 1 else f"[{', '.join(different)}]"
