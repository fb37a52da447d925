"""Rules of a schema's node, compiled and estimated: for their CRD's validation and for objects.

A rule is compiled in the environment of its node's type, which is made of the schema.
"""

from __future__ import annotations

import re
from time import perf_counter
from typing import TYPE_CHECKING, Any

from pilothouse.apiserver.apiextensions.cel_timings import COMPILATION

if TYPE_CHECKING:
    from pilothouse.cel.environment import CompiledProgram, Environment
    from pilothouse.cel.schema_types import Declared

RULES = "x-kubernetes-validations"
_Schema = dict[str, Any]
_STEP = re.compile(r"\.(?P<name>[^.\[\]]*)|\['(?P<quoted>(?:\\.|[^'\\])*)'\]")
_OLD_SELF = re.compile(r"\boldSelf\b")
_STRINGS = re.compile(r"'(?:\\.|[^'\\])*'|\"(?:\\.|[^\"\\])*\"", re.DOTALL)


class CompiledRule:
    """``program`` is None when ``error`` says why, or the rule is empty."""

    __slots__ = (
        "cost",
        "detail",
        "error",
        "message",
        "message_cost",
        "message_error",
        "optional",
        "path",
        "program",
        "reason",
        "shown",
        "transition",
    )

    def __init__(self, rule: dict[str, Any], schema: _Schema) -> None:
        text = rule.get("rule") or ""
        message = (rule.get("message") or "").strip()
        self.optional = bool(rule.get("optionalOldSelf"))
        self.transition = False
        self.shown = message or text.strip()
        self.detail = message or f"failed rule: {text.strip()}"
        self.reason = rule.get("reason") or "FieldValueInvalid"
        self.path = _field_path(rule.get("fieldPath") or "", schema)
        self.program: CompiledProgram | None = None
        self.error = ""
        self.cost = 0
        self.message: CompiledProgram | None = None
        self.message_error = ""
        self.message_cost = 0


def compile_node(
    schema: _Schema, *, root: bool, declared: Declared | None = None, costs: bool = False
) -> tuple[list[CompiledRule], Declared | None]:
    """The rules of a node and the type of its values. ``costs``: estimate them, too."""
    from pilothouse.cel import schema_types

    start = perf_counter()
    if declared is None:
        declared = schema_types.declared(schema, root=root)
    rules: list[CompiledRule] = []
    environments: dict[bool, Environment] = {}
    for rule in schema.get(RULES) or ():
        compiled = CompiledRule(rule, schema)
        rules.append(compiled)
        if declared is None:
            compiled.error = "failed to convert to declType for CEL validation rules"
        elif (rule.get("rule") or "").strip():
            environment = environments.get(compiled.optional)
            if environment is None:
                environment = _environment(declared, compiled.optional)
                environments[compiled.optional] = environment
            _compile(rule, compiled, environment, declared if costs else None)
    COMPILATION.observe(perf_counter() - start)
    return rules, declared


def _environment(declared: Declared, optional: bool) -> Environment:
    from pilothouse.cel.kubernetes import custom_resource_rule

    return custom_resource_rule(declared.type, optional_old_self=optional)


def _compile(
    rule: dict[str, Any],
    compiled: CompiledRule,
    environment: Environment,
    sized: Declared | None,
) -> None:
    from pilothouse.cel.estimates import estimate
    from pilothouse.cel.interfaces import CompileError, InstantiationError
    from pilothouse.cel.types import BOOL, STRING

    try:
        program = environment.compile(rule["rule"])
    except InstantiationError as error:
        compiled.error = f"program instantiation failed: {error}"
        return
    except CompileError as error:
        compiled.error = f"compilation failed: {error}"
        return
    if program.output_type != BOOL:
        compiled.error = "cel expression must evaluate to a bool"
        return
    # What objects are validated with is kept as long as their CRD; no types, then.
    compiled.program = program.lean()
    compiled.transition = program.uses("oldSelf")
    if sized is not None:
        compiled.cost = estimate(program.tree, sized).high
    expression = rule.get("messageExpression") or ""
    if not expression:
        return
    try:
        message = environment.compile(expression)
    except CompileError as error:
        compiled.message_error = f"messageExpression compilation failed: {error}"
        return
    if message.output_type != STRING:
        compiled.message_error = "messageExpression must evaluate to a string"
        return
    compiled.message = message.lean()
    if sized is not None:
        compiled.message_cost = estimate(message.tree, sized).high


def _field_path(text: str, schema: _Schema) -> str:
    """``.a['b']`` as paths in errors are written."""
    out = ""
    current: Any = schema
    for match in _STEP.finditer(text):
        name = match["name"]
        if name is None:
            name = re.sub(r"\\(.)", r"\1", match["quoted"])
        properties = (current or {}).get("properties")
        if properties is not None:
            out += f".{name}" if out else name
            current = properties.get(name)
        else:
            out += f"[{name}]"
            current = (current or {}).get("additionalProperties")
        if not isinstance(current, dict):
            current = None
    return out


def uses_old_self(expression: str) -> bool:
    """Whether an expression that may not even compile speaks of ``oldSelf``."""
    return _OLD_SELF.search(_STRINGS.sub("''", expression)) is not None


def syntax_error(expression: str) -> str | None:
    """Why ``expression`` is CEL in no environment; None when it may be."""
    from pilothouse.cel.environment import MACROS
    from pilothouse.cel.interfaces import CompileError
    from pilothouse.cel.parser import parse
    from pilothouse.cel.source import Source

    try:
        parse(Source(expression), MACROS)
    except CompileError as error:
        return str(error)
    return None
