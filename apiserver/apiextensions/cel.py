"""x-kubernetes-validations: rules of a schema, evaluated after everything else has passed.

A :class:`RuleNode` stands for a node of the schema that has rules at or below it. Rules are
compiled (``rule_compilation.py``) when the first object gets to them, from the schema as it is
read again then: nodes don't keep it. All rules for one object draw on one budget.
"""

from __future__ import annotations

from time import perf_counter
from typing import TYPE_CHECKING, Any

import orjson

from pilothouse.apimachinery.fieldpath import (
    BAD_VALUE_OMITTED,
    FieldError,
    Path,
    duplicate,
    forbidden,
    invalid,
    required,
)
from pilothouse.apiserver.apiextensions.cel_timings import EVALUATION
from pilothouse.apiserver.apiextensions.rule_compilation import RULES, compile_node, syntax_error

if TYPE_CHECKING:
    from collections.abc import Callable

    from pilothouse.apimachinery.fieldpath import ErrorList
    from pilothouse.apiserver.apiextensions.rule_compilation import CompiledRule
    from pilothouse.cel.interfaces import Budget, Program
    from pilothouse.cel.schema_values import Convert

__all__ = ["RULES", "RuleNode", "compile_rules", "syntax_error"]

_Schema = dict[str, Any]
_MAX_MESSAGE = 5 * 1024
_NOTHING = object()
_OUT_OF_BUDGET = (
    "validation failed due to running out of cost budget, no further validation rules will be run"
)


class _Stop(Exception):
    """No further rule is evaluated."""


class _Walk:
    """One validation: what has been found, and what may still be spent."""

    __slots__ = ("_load", "_schema", "budget", "found")

    def __init__(self, budget: Budget, load: Callable[[], _Schema]) -> None:
        self.budget = budget
        self.found: ErrorList = []
        self._load = load
        self._schema: _Schema | None = None

    def schema_at(self, steps: tuple[str, ...]) -> _Schema:
        """A part of the schema, which is read once a walk at most."""
        if self._schema is None:
            self._schema = self._load()
        found = self._schema
        for step in steps:
            found = found[step]
        return found


class RuleNode:
    """Rules of one node, and the nodes below. ``steps`` lead to it from the schema's root."""

    __slots__ = (
        "_compiled",
        "_has_rules",
        "_root",
        "_steps",
        "additional",
        "items",
        "keys",
        "properties",
        "type",
    )

    def __init__(self, schema: _Schema, steps: tuple[str, ...], *, root: bool) -> None:
        self._has_rules = bool(schema.get(RULES))
        self._steps = steps
        self._root = root
        self._compiled: tuple[list[CompiledRule], Convert | None] | None = None
        self.type: str = schema.get("type") or ""
        self.properties: dict[str, RuleNode] = {}
        for key, field in (schema.get("properties") or {}).items():
            node = _below(field, (*steps, "properties", key))
            if node is not None:
                self.properties[key] = node
        self.additional = _beside(schema, "additionalProperties", steps)
        self.items = _beside(schema, "items", steps)
        self.keys: tuple[str, ...] = ()
        if schema.get("x-kubernetes-list-type") == "map":
            self.keys = tuple(schema.get("x-kubernetes-list-map-keys") or ())

    @property
    def empty(self) -> bool:
        return not (self._has_rules or self.properties or self.additional or self.items)

    def errors(self, value: Any, old: Any, load: Callable[[], _Schema]) -> ErrorList:
        """Of ``value``, which was ``old`` (None: it is new); ``load`` gives the schema."""
        from pilothouse.cel.costs import RUNTIME_BUDGET
        from pilothouse.cel.interfaces import Budget

        walk = _Walk(Budget(RUNTIME_BUDGET), load)
        start = perf_counter()
        try:
            self._walk(value, _NOTHING if old is None else old, False, Path(), walk)
        except _Stop:
            pass
        EVALUATION.observe(perf_counter() - start)
        return walk.found

    def _walk(self, value: Any, old: Any, same: bool, path: Path, walk: _Walk) -> None:
        """``same``: a part around this one that has an old value has not changed."""
        if value is None:
            return
        if old is not _NOTHING:
            same = value == old
        if self._has_rules:
            self._evaluate(value, old, same, path, walk)
        if isinstance(value, dict):
            for key, node in self.properties.items():
                if key in value:
                    before = old.get(key, _NOTHING) if isinstance(old, dict) else _NOTHING
                    node._walk(value[key], before, same, path.child(key), walk)
            if self.additional is not None:
                for key, item in value.items():
                    before = old.get(key, _NOTHING) if isinstance(old, dict) else _NOTHING
                    self.additional._walk(item, before, same, path.key(key), walk)
        elif isinstance(value, list) and self.items is not None:
            known = self._by_key(old)
            for index, item in enumerate(value):
                before = known.get(self._key(item), _NOTHING) if known else _NOTHING
                self.items._walk(item, before, same, path.index(index), walk)

    def _by_key(self, old: Any) -> dict[bytes, Any]:
        if not self.keys or not isinstance(old, list):
            return {}
        return {self._key(item): item for item in reversed(old)}

    def _key(self, item: Any) -> bytes:
        values = [item.get(key) if isinstance(item, dict) else None for key in self.keys]
        return orjson.dumps(values)

    def _evaluate(self, value: Any, old: Any, same: bool, path: Path, walk: _Walk) -> None:
        if self._compiled is None:
            rules, declared = compile_node(walk.schema_at(self._steps), root=self._root)
            self._compiled = (rules, None if declared is None else declared.convert)
        rules, convert = self._compiled
        has_old = old is not _NOTHING and old is not None
        seen = value if convert is None else convert(value)
        before = old if convert is None or not has_old else convert(old)
        data: dict[str, Any] = {"self": seen}
        if has_old:
            data["oldSelf"] = before
        for rule in rules:
            if walk.budget.remaining <= 0:
                walk.found.append(invalid(path, self.type, _OUT_OF_BUDGET))
                raise _Stop
            if rule.error:
                walk.found.append(invalid(path, self.type, f"rule compile error: {rule.error}"))
                continue
            if rule.program is None or (rule.transition and not has_old and not rule.optional):
                continue
            used = {"self": seen, "oldSelf": _optional(before, has_old)} if rule.optional else data
            if self._holds(rule, rule.program, used, path, walk):
                continue
            error = self._failure(rule, value, data, path, walk.budget)
            if rule.transition or not same:
                walk.found.append(error)

    def _holds(
        self, rule: CompiledRule, program: Program, data: dict[str, Any], path: Path, walk: _Walk
    ) -> bool:
        """Whether there is nothing to say of the rule; errors are said here."""
        from pilothouse.cel.interfaces import CostLimitExceeded, EvaluationError

        try:
            return program.evaluate(data, walk.budget) is True
        except CostLimitExceeded as error:
            text = _OUT_OF_BUDGET
            if walk.budget.remaining >= 0:
                text = (
                    f"'{error}': no further validation rules will be run due to call cost exceeds "
                    f"limit for rule: {rule.shown}"
                )
            walk.found.append(invalid(path, self.type, text))
            raise _Stop from None
        except EvaluationError as error:
            text = f"{error} evaluating rule: {rule.shown}"
            if str(error).startswith("no such overload"):
                text = (
                    f"'{error}': call arguments did not match a supported operator, function or "
                    f"macro signature for rule: {rule.shown}"
                )
            walk.found.append(invalid(path, self.type, text))
            return True

    def _failure(
        self, rule: CompiledRule, value: Any, data: dict[str, Any], path: Path, budget: Budget
    ) -> FieldError:
        where = path.child(rule.path) if rule.path else path
        detail = rule.detail
        if rule.message is not None:
            detail = _message(rule.message, data, budget) or detail
        if rule.reason == "FieldValueForbidden":
            return forbidden(where, detail)
        if rule.reason == "FieldValueRequired":
            return required(where, detail)
        shown = BAD_VALUE_OMITTED if self.type in ("object", "array") else value
        if rule.reason == "FieldValueDuplicate":
            return duplicate(where, shown)
        return invalid(where, shown, detail)


def _below(schema: _Schema, steps: tuple[str, ...]) -> RuleNode | None:
    node = RuleNode(schema, steps, root=bool(schema.get("x-kubernetes-embedded-resource")))
    return None if node.empty else node


def _beside(schema: _Schema, key: str, steps: tuple[str, ...]) -> RuleNode | None:
    inner = schema.get(key)
    return _below(inner, (*steps, key)) if isinstance(inner, dict) else None


def compile_rules(schema: _Schema, *, root: bool) -> RuleNode | None:
    """The rules at and below a node; None when there are none. ``root``: values are whole
    resources, with metadata."""
    node = RuleNode(schema, (), root=root)
    return None if node.empty else node


def _optional(old: Any, has_old: bool) -> Any:
    from pilothouse.cel.values import NONE, Optional

    return Optional(old) if has_old else NONE


def _message(program: Program, data: dict[str, Any], budget: Budget) -> str:
    """What the rule's messageExpression says; empty when that is no message."""
    from pilothouse.cel.interfaces import EvaluationError

    try:
        value = program.evaluate(data, budget)
    except EvaluationError:
        return ""
    if not isinstance(value, str):
        return ""
    text = value.strip()
    return "" if "\n" in text or len(text.encode()) > _MAX_MESSAGE else text
