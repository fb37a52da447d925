"""A compiled MutatingAdmissionPolicy (mutating/compilation.go); pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pilothouse.apis.admissionregistration.expressions import PolicyCompiler
from pilothouse.apiserver.admission.policy.evaluation import BUDGET, MatchConditions, Scope
from pilothouse.apiserver.admission.policy.patches import (
    MutationError,
    apply_configuration,
    apply_json_patch,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pilothouse.apimachinery.object import Obj
    from pilothouse.apimachinery.typeschema import TypeSchema
    from pilothouse.apis.admissionregistration.expressions import Expression
    from pilothouse.apiserver.admission.policy.evaluation import Inputs


class Mutation:
    """One item of ``spec.mutations``."""

    __slots__ = ("_expression", "strict")

    def __init__(self, expression: Expression, *, json_patch: bool) -> None:
        self._expression = expression
        self.strict = json_patch
        """JSON patches must not make fields that a built-in type does not have."""

    def apply(
        self,
        inputs: Inputs,
        variables: Mapping[str, Expression],
        schema: TypeSchema,
        budget: int = BUDGET,
    ) -> Obj:
        """The changed object, or ``inputs.object`` itself. :raises MutationError:"""
        expression = self._expression
        if expression.program is None:
            raise MutationError(expression.problem)
        result, cost = Scope(inputs, variables).evaluate(expression)
        if cost > budget:
            raise MutationError(
                "validation failed due to running out of cost budget, no further validation rules "
                "will be run"
            )
        if result.error:
            raise MutationError(result.error)
        assert inputs.object is not None
        if self.strict:
            return apply_json_patch(inputs.object, result.value)
        return apply_configuration(inputs.object, result.value, schema)


class Mutator:
    def __init__(self, spec: Obj) -> None:
        compiler = PolicyCompiler(has_params=spec.get("paramKind") is not None)
        for variable in spec.get("variables") or ():
            compiler.add_variable(variable["name"], variable["expression"])
        self.variables = compiler.variables
        self.conditions: MatchConditions | None = None
        if spec.get("matchConditions"):
            self.conditions = MatchConditions(
                [compiler.condition(c["expression"]) for c in spec["matchConditions"]],
                ignore_failures=spec.get("failurePolicy") == "Ignore",
            )
        self.mutations: list[Mutation] = []
        for mutation in spec.get("mutations") or ():
            if mutation.get("patchType") == "JSONPatch":
                text = (mutation.get("jsonPatch") or {}).get("expression") or ""
                self.mutations.append(Mutation(compiler.json_patch(text), json_patch=True))
            else:
                text = (mutation.get("applyConfiguration") or {}).get("expression") or ""
                expression = compiler.apply_configuration(text)
                self.mutations.append(Mutation(expression, json_patch=False))
