"""MutatingAdmissionPolicies against one request (mutating/dispatcher.go).

First it is found out which policies, bindings and params there are for the request as it came;
then each changes the object in turn and sees what those before it did. When an object changed,
the mutating plugins run once more, and policies that want it (``reinvocationPolicy``) with them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from time import perf_counter
from typing import TYPE_CHECKING, NamedTuple

from pilothouse.apimachinery.errors import (
    StatusError,
    new_internal_error,
    new_service_unavailable,
)
from pilothouse.apimachinery.object import copy_object
from pilothouse.apimachinery.schema import gvk_of
from pilothouse.apiserver.admission.plugin import refuse
from pilothouse.apiserver.admission.policy.evaluation import Scope
from pilothouse.apiserver.admission.policy.inputs import RequestInputs
from pilothouse.apiserver.admission.policy.params import (
    ConfigurationError,
    collect,
    unknown_kind,
)
from pilothouse.apiserver.admission.policy.patches import MutationError
from pilothouse.apiserver.codec.coercion import CustomType
from pilothouse.apiserver.codec.decode import coerce
from pilothouse.apiserver.codec.defaulting import apply_defaults

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pilothouse.apimachinery.object import Obj
    from pilothouse.apimachinery.typeschema import TypeSchema
    from pilothouse.apiserver.admission.interfaces import Attributes, Reinvocation
    from pilothouse.apiserver.admission.policy.evaluation import MatchConditions
    from pilothouse.apiserver.admission.policy.matching import Match, Question
    from pilothouse.apiserver.admission.policy.metrics import MutatingMetrics
    from pilothouse.apiserver.admission.policy.mutator import Mutation, Mutator
    from pilothouse.apiserver.admission.policy.served import ServedView
    from pilothouse.apiserver.admission.policy.source import Binding, Hook, Policy
    from pilothouse.apiserver.authorization.interfaces import Authorizer

NAME = "MutatingAdmissionPolicy"
Key = tuple[str, str, str, str]


@dataclass(slots=True)
class Memory:
    """What is remembered between the two rounds of a request (policyReinvokeContext)."""

    output: Obj | None = None
    """The object as the policies left it."""
    invoked: set[Key] = field(default_factory=set)
    """Invocations that run again when something changes after them."""
    again: set[Key] = field(default_factory=set)

    def require(self) -> None:
        self.again |= self.invoked
        self.invoked = set()


class Invocation(NamedTuple):
    policy: Policy[Mutator]
    binding: Binding
    match: Match
    params: Obj | None

    @property
    def key(self) -> Key:
        metadata = (self.params or {}).get("metadata") or {}
        home, name = metadata.get("namespace") or "", metadata.get("name") or ""
        return self.policy.name, self.binding.name, home, name


class Failure(NamedTuple):
    policy: Policy[Mutator]
    binding: str
    message: str
    reason: str = ""

    def text(self) -> str:
        if self.binding:
            return (
                f"policy '{self.policy.name}' with binding '{self.binding}' denied request: "
                f"{self.message}"
            )
        return f'policy "{self.policy.name}" denied request: {self.message}'


class Dispatch:
    """All policies for one request."""

    def __init__(
        self,
        attributes: Attributes,
        view: ServedView,
        authorizer: Authorizer | None,
        metrics: MutatingMetrics,
    ) -> None:
        self._metrics = metrics
        self._attributes = attributes
        self._view = view
        self._inputs = RequestInputs(attributes, view, authorizer)
        self._failures: list[Failure] = []
        self._patched = False

    async def run(self, hooks: Iterable[Hook[Mutator]]) -> None:
        """:raises StatusError: refused."""
        question = await self._view.question(self._attributes)
        invocations: list[Invocation] = []
        for hook in hooks:
            invocations += await self._hook(hook, question)
        if invocations:
            await self._invoke_all(invocations)
        counting = [f for f in self._failures if not f.policy.ignore_failures]
        if counting:
            raise self._refusal(counting)

    # which

    async def _hook(self, hook: Hook[Mutator], question: Question) -> list[Invocation]:
        policy = hook.policy
        try:
            match = policy.criteria.match(question)
        except StatusError as error:
            return self._misconfigured(policy, "", error.message)
        if match is None:
            return []
        kind = policy.param_kind
        if kind is not None and self._view.params_of(kind) is None:
            return self._misconfigured(policy, "", str(unknown_kind(kind)))
        found: list[Invocation] = []
        for binding in hook.bindings:
            found += await self._binding(policy, binding, match, question)
        return found

    async def _binding(
        self, policy: Policy[Mutator], binding: Binding, match: Match, question: Question
    ) -> list[Invocation]:
        try:
            if binding.criteria is not None and binding.criteria.match(question) is None:
                return []
            params = await collect(
                policy.param_kind, binding.param_ref, self._attributes.namespace, self._view
            )
        except ConfigurationError as error:
            return self._misconfigured(policy, binding.name, str(error))
        except StatusError as error:
            return self._misconfigured(policy, binding.name, error.message)
        return [Invocation(policy, binding, match, param) for param in params]

    def _misconfigured(
        self, policy: Policy[Mutator], binding: str, problem: str
    ) -> list[Invocation]:
        what = "binding" if binding else "policy"
        message = f"failed to configure {what}: {problem}"
        self._failures.append(Failure(policy, binding, message))
        return []

    # what

    async def _invoke_all(self, invocations: list[Invocation]) -> None:
        attributes = self._attributes
        reinvocation = attributes.reinvocable()
        memory: Memory = reinvocation.values.setdefault(NAME, Memory())
        if reinvocation.running and memory.output != attributes.obj:
            memory.require()
        await self._inputs.namespace()
        try:
            for invocation in invocations:
                await self._invoke(invocation, memory, reinvocation)
            if self._patched:
                memory.require()
                reinvocation.again = True
        finally:
            obj = attributes.obj
            memory.output = None if obj is None else copy_object(obj)

    async def _invoke(
        self, invocation: Invocation, memory: Memory, reinvocation: Reinvocation
    ) -> None:
        """:raises StatusError: refused outright."""
        mutator = invocation.policy.evaluator
        if mutator.conditions is not None and not await self._applies(
            invocation, mutator, mutator.conditions
        ):
            return
        if reinvocation.running and invocation.key not in memory.again:
            return
        changed = False
        for mutation in mutator.mutations:
            if self._attributes.obj is None:
                break
            start, problem = perf_counter(), None
            try:
                changed = await self._mutate(invocation, mutator, mutation) or changed
            except MutationError as error:
                problem = str(error)
                self._failed(invocation, problem)
            except StatusError as error:
                problem = error.message
                raise
            finally:
                names = invocation.policy.name, invocation.binding.name
                self._metrics.observe(*names, perf_counter() - start, problem)
        if changed:
            memory.require()
            reinvocation.again = True
        if invocation.policy.spec.get("reinvocationPolicy") == "IfNeeded":
            memory.invoked.add(invocation.key)

    async def _applies(
        self, invocation: Invocation, mutator: Mutator, conditions: MatchConditions
    ) -> bool:
        _, matching = await self._inputs.make(invocation.match, invocation.params)
        matches, problem = await self._inputs.evaluate(
            lambda: conditions.match(Scope(matching, mutator.variables))
        )
        if problem:
            self._failed(invocation, problem)
        return matches

    def _failed(self, invocation: Invocation, problem: str) -> None:
        failure = Failure(invocation.policy, invocation.binding.name, problem, "Invalid")
        self._failures.append(failure)

    async def _mutate(self, invocation: Invocation, mutator: Mutator, mutation: Mutation) -> bool:
        kind = invocation.match.kind
        schema = self._view.schema_of(kind)
        if schema is None:
            raise new_service_unavailable(
                f"Resource kind {kind} not found. There can be a delay between when "
                "CustomResourceDefinitions are created and when they are available."
            )
        inputs, _ = await self._inputs.make(invocation.match, invocation.params)
        assert inputs.object is not None
        patched = await self._inputs.evaluate(
            partial(mutation.apply, inputs, mutator.variables, schema)
        )
        if patched is inputs.object:
            return False
        patched = copy_object(patched)
        if mutation.strict and not isinstance(schema.extra, CustomType):
            patched = _decoded(patched, schema)
        return await self._put(patched)

    async def _put(self, patched: Obj) -> bool:
        """Makes ``patched`` the object of the request, in the version in which that is."""
        attributes = self._attributes
        current = attributes.obj
        assert current is not None
        patched = await self._view.convert(patched, gvk_of(current))
        try:
            if attributes.redecode is not None:
                patched = attributes.redecode(patched)
            else:
                own = self._view.schema_of(gvk_of(current))
                if own is not None:
                    patched = coerce(patched, own)
                    apply_defaults(patched, own)
        except StatusError as error:
            raise MutationError(error.message) from error
        self._patched = True
        if patched == current:
            return False
        attributes.obj = patched
        return True

    def _refusal(self, failures: list[Failure]) -> StatusError:
        texts = [failure.text() for failure in failures]
        error = refuse(self._attributes, "admission request denied by policy")
        error.message = texts[0]
        error.reason = failures[0].reason or error.reason
        error.details = {
            **(error.details or {}),
            "causes": [{"message": text} for text in texts],
        }
        return error


def _decoded(patched: Obj, schema: TypeSchema) -> Obj:
    """What a JSON patch made, decoded strictly. :raises StatusError: 500."""
    problems: list[str] = []
    try:
        decoded = coerce(patched, schema, problems)
    except StatusError as error:
        raise new_internal_error(error.message) from error
    if problems:
        raise new_internal_error(f"strict decoding error: {', '.join(problems)}")
    return decoded
