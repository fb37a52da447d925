"""Compiles the expressions of admission policies, each in its environment.

Validation asks what is wrong with an expression, admission runs what comes of it. Both see a
policy's variables with the types that their own expressions have (cel/composition.go).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pilothouse.cel import kubernetes, types
from pilothouse.cel.environment import Environment
from pilothouse.cel.interfaces import CompileError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pilothouse.cel.interfaces import Program
    from pilothouse.cel.types import Type


@dataclass(frozen=True, slots=True)
class Expression:
    """``program`` is None when there is a ``problem`` (without a path in front)."""

    text: str
    program: Program | None
    problem: str = ""


_OBJECT = types.object_of("Object", {})
_JSON_PATCHES = types.list_of(types.object_of("JSONPatch", {}))


class PolicyCompiler:
    """The expressions of one policy. Variables are added in order; each sees those before it.

    Without ``composition`` there is nothing called ``variables``.
    """

    def __init__(self, *, has_params: bool, composition: bool = True) -> None:
        self._has_params = has_params
        self._composition = composition
        self.variables: dict[str, Expression] = {}
        self._types: dict[str, Type] = {}
        self._environments: dict[tuple[bool, bool], Environment] = {}

    def add_variable(self, name: str, text: str) -> Expression:
        expression = self._compile(text, ())
        program = expression.program
        self.variables[name] = expression
        self._types[name] = types.DYN if program is None else program.output_type
        self._environments.clear()
        return expression

    def condition(self, text: str) -> Expression:
        """A validation or a match condition."""
        return self._compile(text, (types.BOOL,))

    def message(self, text: str) -> Expression:
        return self._compile(text, (types.STRING,), authorizer=False)

    def audit_annotation(self, text: str) -> Expression:
        return self._compile(text, (types.STRING, types.NULL))

    def apply_configuration(self, text: str) -> Expression:
        return self._compile(text, (_OBJECT,), patches=True)

    def json_patch(self, text: str) -> Expression:
        return self._compile(text, (_JSON_PATCHES,), patches=True)

    def _environment(self, authorizer: bool, patches: bool) -> Environment:
        key = (authorizer, patches)
        found = self._environments.get(key)
        if found is None:
            found = self._environments[key] = self._make(authorizer, patches)
        return found

    def _make(self, authorizer: bool, patches: bool) -> Environment:
        if patches:
            return kubernetes.mutating_policy(
                has_params=self._has_params, variables=dict(self._types)
            )
        made = kubernetes.admission_policy(
            has_params=self._has_params,
            variables=dict(self._types),
            has_authorizer=authorizer,
        )
        if self._composition:
            return made
        return Environment({k: v for k, v in made.variables.items() if k != "variables"})

    def _compile(
        self,
        text: str,
        returns: Sequence[Type],
        *,
        authorizer: bool = True,
        patches: bool = False,
    ) -> Expression:
        try:
            program = self._environment(authorizer, patches).compile(text)
        except CompileError as error:
            return Expression(text, None, f"compilation failed: {error}")
        output = program.output_type
        if returns and output not in returns:
            wanted = " ".join(map(_name, returns))
            if len(returns) > 1:
                wanted = f"one of [{wanted}]"
            return Expression(text, None, f"must evaluate to {wanted} but got {_name(output)}")
        return Expression(text, program)


def _name(type_: Type) -> str:
    """As Go prints a type: by its declared name."""
    params = ", ".join(map(_name, type_.params))
    return f"{type_.name}({params})" if params else type_.name
