"""ValidatingAdmissionPolicies against one request (validating/dispatcher.go).

Which policies and bindings match, their params, and what becomes of what they say: the request
is refused, the client warned, or the audit log told.
"""

from __future__ import annotations

import json
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from pilothouse.apimachinery.errors import StatusError
from pilothouse.apiserver.admission.plugin import refuse
from pilothouse.apiserver.admission.policy.inputs import RequestInputs
from pilothouse.apiserver.admission.policy.params import (
    ConfigurationError,
    collect,
    unknown_kind,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pilothouse.apimachinery.object import Obj
    from pilothouse.apiserver.admission.interfaces import Attributes
    from pilothouse.apiserver.admission.policy.matching import Match, Question
    from pilothouse.apiserver.admission.policy.metrics import ValidatingMetrics
    from pilothouse.apiserver.admission.policy.served import ServedView
    from pilothouse.apiserver.admission.policy.source import Binding, Hook, Policy
    from pilothouse.apiserver.admission.policy.validator import Decision, Result, Validator
    from pilothouse.apiserver.authorization.interfaces import Authorizer

NAME = "ValidatingAdmissionPolicy"
FAILURE_KEY = "validation.policy.admission.k8s.io/validation_failure"
_MAX_FAILURES = 50
_MAX_ANNOTATION = 10 * 1024
_CODES = {"Forbidden": 403, "Unauthorized": 401, "RequestEntityTooLarge": 413}


class Denial(NamedTuple):
    policy: str
    binding: str
    """Empty: the policy itself cannot be used."""
    message: str
    reason: str = ""

    def text(self) -> str:
        by = f" with binding '{self.binding}'" if self.binding else ""
        return f"{NAME} '{self.policy}'{by} denied request: {self.message}"


class Dispatch:
    """All policies for one request."""

    def __init__(
        self,
        attributes: Attributes,
        view: ServedView,
        authorizer: Authorizer | None,
        metrics: ValidatingMetrics,
    ) -> None:
        self._metrics = metrics
        self._attributes = attributes
        self._view = view
        self._inputs = RequestInputs(attributes, view, authorizer)
        self._denials: list[Denial] = []
        self._failures: list[Obj] = []

    async def run(self, hooks: Iterable[Hook[Validator]]) -> None:
        """:raises StatusError: refused."""
        question = await self._view.question(self._attributes)
        for hook in hooks:
            await self._hook(hook, question)
        if self._failures:
            self._attributes.audit_annotations[FAILURE_KEY] = _as_go_json(
                self._failures[:_MAX_FAILURES]
            )
        if self._denials:
            raise self._refusal(self._denials[0])

    async def _hook(self, hook: Hook[Validator], question: Question) -> None:
        policy = hook.policy
        try:
            match = policy.criteria.match(question)
        except StatusError as error:
            return self._misconfigured(policy, "", error.message)
        if match is None:
            return None
        kind = policy.param_kind
        if kind is not None and self._view.params_of(kind) is None:
            return self._misconfigured(policy, "", str(unknown_kind(kind)))
        annotations: dict[str, list[str]] = {}
        for binding in hook.bindings:
            await self._binding(policy, binding, match, question, annotations)
        for key, values in annotations.items():
            self._attributes.audit_annotations[f"{policy.name}/{key}"] = ", ".join(values)
        return None

    async def _binding(
        self,
        policy: Policy[Validator],
        binding: Binding,
        match: Match,
        question: Question,
        annotations: dict[str, list[str]],
    ) -> None:
        try:
            if binding.criteria is not None and binding.criteria.match(question) is None:
                return
            params = await collect(
                policy.param_kind, binding.param_ref, self._attributes.namespace, self._view
            )
        except ConfigurationError as error:
            return self._misconfigured(policy, binding.name, str(error))
        except StatusError as error:
            return self._misconfigured(policy, binding.name, error.message)
        await self._inputs.namespace()
        results: list[Result] = []
        for param in params:
            try:
                inputs, matching = await self._inputs.make(match, param)
            except StatusError as error:
                problem = f"failed to convert object version: {error.message}"
                return self._misconfigured(policy, binding.name, problem)
            validate = partial(policy.evaluator.validate, inputs, matching)
            results.append(await self._inputs.evaluate(validate))
        for result in results:
            for i, decision in enumerate(result.decisions):
                if decision.denied:
                    self._denied(policy, binding, i, decision)
                elif decision.message:  # failed, and failures are ignored
                    self._metrics.observe(policy.name, binding.name, decision, "allow")
            self._annotate(policy, binding, result, annotations)
        return None

    def _misconfigured(self, policy: Policy[Validator], binding: str, problem: str) -> None:
        if not policy.ignore_failures:
            what = "binding" if binding else "policy"
            message = f"failed to configure {what}: {problem}"
            self._denials.append(Denial(policy.name, binding, message))

    def _denied(
        self, policy: Policy[Validator], binding: Binding, index: int, decision: Decision
    ) -> None:
        for action in binding.actions:
            self._metrics.observe(policy.name, binding.name, decision, action.lower())
            if action == "Deny":
                denial = Denial(policy.name, binding.name, decision.message, decision.reason)
                self._denials.append(denial)
            elif action == "Audit":
                failure: dict[str, Any] = {
                    "message": decision.message,
                    "policy": policy.name,
                    "binding": binding.name,
                    "expressionIndex": index,
                    "validationActions": list(binding.actions),
                }
                self._failures.append(failure)
            elif action == "Warn":
                warning = (
                    f"Validation failed for {NAME} '{policy.name}' with binding "
                    f"'{binding.name}': {decision.message}"
                )
                if warning not in self._attributes.warnings:
                    self._attributes.warnings.append(warning)

    def _annotate(
        self,
        policy: Policy[Validator],
        binding: Binding,
        result: Result,
        annotations: dict[str, list[str]],
    ) -> None:
        for annotation in result.annotations:
            if annotation.action == "publish":
                value = annotation.message.encode()[:_MAX_ANNOTATION].decode("utf-8", "ignore")
                values = annotations.setdefault(annotation.key, [])
                if value not in values:
                    values.append(value)
            elif annotation.action == "error":
                self._denials.append(Denial(policy.name, binding.name, annotation.message))
                self._metrics.observe(policy.name, binding.name, annotation, "deny")

    def _refusal(self, denial: Denial) -> StatusError:
        message = denial.text()
        error = refuse(self._attributes, message)
        error.reason = denial.reason or "Invalid"
        error.code = _CODES.get(error.reason, 422)
        error.details = {**(error.details or {}), "causes": [{"message": message}]}
        return error


def _as_go_json(value: Any) -> str:
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=False)
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text
