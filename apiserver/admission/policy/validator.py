"""What one ValidatingAdmissionPolicy says to one request and one param (validator.go); pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

from pilothouse.apis.admissionregistration.expressions import PolicyCompiler
from pilothouse.apiserver.admission.policy.evaluation import (
    BUDGET,
    Evaluation,
    MatchConditions,
    OutOfBudgetError,
    Scope,
)

if TYPE_CHECKING:
    from pilothouse.apimachinery.object import Obj
    from pilothouse.apiserver.admission.policy.evaluation import Inputs

MAX_MESSAGE = 5 * 1024
"""Bytes of an evaluated messageExpression; a longer one does not count."""


class Decision(NamedTuple):
    """About one validation."""

    denied: bool
    message: str = ""
    reason: str = ""
    """Empty for errors: the response then says Invalid."""
    seconds: float = 0.0
    """What evaluating the validation took."""


class Annotation(NamedTuple):
    key: str
    action: Literal["publish", "error", "exclude"]
    message: str = ""
    """What is published, or the error."""
    seconds: float = 0.0


class Result(NamedTuple):
    decisions: tuple[Decision, ...] = ()
    annotations: tuple[Annotation, ...] = ()


class Validator:
    """A compiled policy. Expressions that do not compile fail when they are evaluated."""

    def __init__(self, spec: Obj) -> None:
        self._ignore_failures = spec.get("failurePolicy") == "Ignore"
        self._validations = spec.get("validations") or ()
        self._audit_annotations = spec.get("auditAnnotations") or ()
        compiler = PolicyCompiler(has_params=spec.get("paramKind") is not None)
        for variable in spec.get("variables") or ():
            compiler.add_variable(variable["name"], variable["expression"])
        self._variables = compiler.variables
        self._conditions: MatchConditions | None = None
        if spec.get("matchConditions"):
            self._conditions = MatchConditions(
                [compiler.condition(c["expression"]) for c in spec["matchConditions"]],
                ignore_failures=self._ignore_failures,
            )
        self._expressions = [compiler.condition(v["expression"]) for v in self._validations]
        self._messages = [
            compiler.message(v["messageExpression"]) if v.get("messageExpression") else None
            for v in self._validations
        ]
        self._annotations = [
            compiler.audit_annotation(a["valueExpression"]) for a in self._audit_annotations
        ]

    def validate(self, inputs: Inputs, matching: Inputs, budget: int = BUDGET) -> Result:
        """``matching`` is what the match conditions see."""
        if self._conditions is not None:
            matches, problem = self._conditions.match(Scope(matching, self._variables))
            if problem:
                return self._failed(problem)
            if not matches:
                return Result()
        scope = Scope(inputs, self._variables)
        try:
            results, remaining = scope.run(self._expressions, budget)
        except OutOfBudgetError as error:
            return self._failed(str(error))
        scope = Scope(inputs.without_authorizer(), self._variables)
        decisions = self._decide(scope, results, remaining)
        try:
            values, _ = scope.run(self._annotations, budget)
        except OutOfBudgetError as error:
            return self._failed(str(error))
        annotations = tuple(
            self._annotation(annotation, value)
            for annotation, value in zip(self._audit_annotations, values, strict=True)
            if value is not None
        )
        return Result(decisions, annotations)

    def _failed(self, message: str) -> Result:
        return Result((Decision(not self._ignore_failures, message),))

    def _decide(
        self, scope: Scope, results: list[Evaluation | None], remaining: int
    ) -> tuple[Decision, ...]:
        verdicts = [result for result in results if result is not None]
        if all(verdict.value is True for verdict in verdicts):
            return tuple(Decision(False) for _ in verdicts)
        problem = ""
        messages: list[Evaluation | None] = [None] * len(verdicts)
        try:
            messages, _ = scope.run(self._messages, remaining)
        except OutOfBudgetError as error:
            problem = f"failed messageExpression: {error}"
        decisions: list[Decision] = []
        for validation, verdict, message in zip(self._validations, verdicts, messages, strict=True):
            if verdict.error or problem:
                text = verdict.error or problem
                decision = Decision(not self._ignore_failures, text, "", verdict.seconds)
            elif verdict.value is True:
                decision = Decision(False)
            else:
                reason = validation.get("reason") or "Invalid"
                text = _message(validation, message)
                decision = Decision(True, text, reason, verdict.seconds)
            decisions.append(decision)
        return tuple(decisions)

    def _annotation(self, annotation: Obj, result: Evaluation) -> Annotation:
        key, value = annotation["key"], result.value
        if result.error:
            if self._ignore_failures:
                return Annotation(key, "exclude")
            return Annotation(key, "error", result.error, result.seconds)
        text = value.strip() if isinstance(value, str) else ""
        return Annotation(key, "publish", text) if text else Annotation(key, "exclude")


def _message(validation: Obj, result: Evaluation | None) -> str:
    message = ""
    if result is not None and isinstance(result.value, str):
        message = result.value.strip()
        if len(message.encode()) > MAX_MESSAGE or "\n" in message:
            message = ""
    if not message:
        message = (validation.get("message") or "").strip()
    return message or f"failed expression: {validation['expression'].strip()}"
