"""Do a policy's expressions fit the types of what it matches? Pure (validating/typechecking.go).

A policy may be written for kinds that do not exist yet, so what is found here are warnings.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from pilothouse.apimachinery.schema import GroupVersionKind, GroupVersionResource
from pilothouse.cel import kubernetes, types
from pilothouse.cel.interfaces import CompileError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pilothouse.apimachinery.object import Obj
    from pilothouse.cel.environment import Environment
    from pilothouse.cel.types import Type

MAX_TYPES = 10
"""So many types of one rule are checked."""


class Kind(NamedTuple):
    gvk: GroupVersionKind
    type: Type


class Resources(NamedTuple):
    """What a rule names, one by one."""

    rule: int
    resource: GroupVersionResource


def named_resources(spec: Obj) -> list[Resources]:
    """The resources that the policy's rules name; rules with wildcards say nothing of types."""
    found: list[Resources] = []
    rules = (spec.get("matchConstraints") or {}).get("resourceRules") or ()
    for i, rule in enumerate(rules):
        groups, versions = rule.get("apiGroups") or (), rule.get("apiVersions") or ()
        if any("*" in text for text in (*groups, *versions)):
            continue
        names = [n for n in rule.get("resources") or () if "*" not in n and "/" not in n]
        found += [
            Resources(i, GroupVersionResource(group, version, name))
            for group in sorted(groups)
            for version in sorted(versions)
            for name in sorted(names)
        ]
    return found


def check(spec: Obj, kinds: Sequence[Kind], params: Type | None) -> list[Obj]:
    """``status.typeChecking.expressionWarnings``; ``params`` is None when their type is unknown."""
    environments = [(kind.gvk, _environment(spec, kind.type, params)) for kind in kinds]
    warnings: list[Obj] = []
    for path, expression in _expressions(spec):
        problems = [
            f"{gvk}: {problem}\n"
            for gvk, environment in environments
            if (problem := _problem(environment, expression))
        ]
        if problems:
            warnings.append({"fieldRef": path, "warning": "\n".join(problems)})
    return warnings


def _expressions(spec: Obj) -> Iterable[tuple[str, str]]:
    for i, validation in enumerate(spec.get("validations") or ()):
        for field in ("expression", "messageExpression"):
            text = validation.get(field)
            if text:
                yield f"spec.validations[{i}].{field}", text


def _environment(spec: Obj, object_type: Type, params: Type | None) -> Environment:
    variables: dict[str, Type] = {}

    def make() -> Environment:
        return kubernetes.admission_policy(
            has_params=spec.get("paramKind") is not None,
            variables=dict(variables),
            object_type=object_type,
            params_type=types.DYN if params is None else params,
        )

    for variable in spec.get("variables") or ():
        try:
            variables[variable["name"]] = make().compile(variable["expression"]).output_type
        except CompileError:
            variables[variable["name"]] = types.DYN
    return make()


def _problem(environment: Environment, expression: str) -> str:
    try:
        environment.compile(expression)
    except CompileError as error:
        return str(error)
    return ""
