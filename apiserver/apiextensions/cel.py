"""x-kubernetes-validations: rules of a schema, evaluated after everything else has passed.

Needs the package ``cel-expr-python`` (cel-cpp), which is imported when the first rule is
compiled; :func:`problem` says why a rule can't be enforced here, so that whoever writes such a
CRD is told. A :class:`RuleNode` stands for a node of the schema that has rules at or below it.
"""

from __future__ import annotations

import re
from functools import lru_cache
from importlib import import_module
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

if TYPE_CHECKING:
    from collections.abc import Callable

    from pilothouse.apimachinery.fieldpath import ErrorList

RULES = "x-kubernetes-validations"
_Schema = dict[str, Any]
_OLD_SELF = re.compile(r"\boldSelf\b")
_STRINGS = re.compile(r"'(?:\\.|[^'\\])*'|\"(?:\\.|[^\"\\])*\"", re.DOTALL)
_NO_KEY = re.compile(r'Key not found in map : "?(.*?)"?$')
_NOT_INSTALLED = "the package cel-expr-python is not installed"
_FOREIGN = re.compile(r"undeclared reference to|found no matching overload")
_TIMES = ("date-time", "datetime", "date", "duration")
_TIME_FUNCTIONS = re.compile(r"\b(timestamp|duration|get[A-Z]\w+)\(")
_NOTHING = object()


class RuleError(Exception):
    """A rule can't be compiled; ``syntax`` when it never could."""

    def __init__(self, text: str, *, syntax: bool) -> None:
        super().__init__(text)
        self.syntax = syntax


@lru_cache(maxsize=1)
def _environment() -> Any:
    """The one CEL environment: immutable, shared by all clusters of the process."""
    try:
        cel = import_module("cel_expr_python.cel")
        ext_bindings, ext_math, ext_optional, ext_strings = (
            import_module(f"cel_expr_python.ext.ext_{name}")
            for name in ("bindings", "math", "optional", "strings")
        )
    except ImportError:
        return None
    from pilothouse.apiserver.apiextensions.cel_library import extension

    anything = cel.Type.DYN
    return cel.NewEnv(
        variables={
            "self": anything,
            "oldSelf": anything,
            "__old": anything,
            "__has_old": cel.Type.BOOL,
        },
        extensions=[
            extension(cel),
            ext_strings.ExtStrings(),
            ext_optional.ExtOptional(),
            ext_math.ExtMath(),
            ext_bindings.ExtBindings(),
        ],
    )


@lru_cache(maxsize=1024)
def _program(expression: str) -> Any:
    """:raises RuleError."""
    environment = _environment()
    if environment is None:
        raise RuleError(_NOT_INSTALLED, syntax=False)
    try:
        return environment.compile(expression)
    except RuntimeError as error:
        text = str(error).removeprefix("INVALID_ARGUMENT: ").removesuffix(" [INVALID_ARGUMENT]")
        raise RuleError(text, syntax=not _FOREIGN.search(text)) from None


def uses_old_self(expression: str) -> bool:
    return _OLD_SELF.search(_STRINGS.sub("''", expression)) is not None


def problem(rule: dict[str, Any], schema: _Schema | None = None) -> RuleError | None:
    """Why ``rule`` or its messageExpression does not compile, or is not enforced."""
    for key in ("rule", "messageExpression"):
        expression = rule.get(key)
        if expression and expression.strip():
            try:
                _program(_expression(rule, expression))
            except RuleError as error:
                return error
    if schema is not None and _TIME_FUNCTIONS.search(rule.get("rule") or "") and has_times(schema):
        return RuleError("values with the format of a time are text", syntax=False)
    return None


def syntax_error(expression: str) -> str | None:
    """Why ``expression`` is CEL in no environment; None when it may be."""
    try:
        _program(expression)
    except RuleError as error:
        return str(error) if error.syntax else None
    return None


def _expression(rule: dict[str, Any], expression: str) -> str:
    if rule.get("optionalOldSelf") and uses_old_self(expression):
        old = "__has_old ? optional.of(__old) : optional.none()"
        return f"cel.bind(oldSelf, {old}, {expression}\n)"
    return expression


class _Rule:
    __slots__ = ("detail", "expression", "message", "optional", "path", "reason", "transition")

    def __init__(self, rule: dict[str, Any]) -> None:
        text = rule["rule"]
        self.optional = bool(rule.get("optionalOldSelf"))
        self.transition = uses_old_self(text)
        self.expression = _expression(rule, text)
        message = rule.get("messageExpression") or ""
        self.message = _expression(rule, message) if message.strip() else ""
        self.detail = (rule.get("message") or "").strip() or f"failed rule: {text.strip()}"
        self.reason = rule.get("reason") or "FieldValueInvalid"
        self.path = _normalized(rule.get("fieldPath") or "")


def _normalized(path: str) -> str:
    path = re.sub(r"\['((?:\\'|[^'])*)'\]", lambda m: "." + m[1].replace("\\'", "'"), path)
    return path.removeprefix(".")


class RuleNode:
    """Rules of one node, and the nodes below."""

    __slots__ = ("additional", "convert", "items", "keys", "properties", "rules", "times", "type")

    def __init__(self, schema: _Schema) -> None:
        self.rules = [_Rule(rule) for rule in schema.get(RULES) or () if rule.get("rule")]
        self.type: str = schema.get("type") or ""
        self.convert = converter(schema) if self.rules else None
        self.times = bool(self.rules) and has_times(schema)
        self.properties: dict[str, RuleNode] = {}
        for key, field in (schema.get("properties") or {}).items():
            node = compile_rules(field)
            if node is not None:
                self.properties[key] = node
        additional, items = schema.get("additionalProperties"), schema.get("items")
        self.additional = compile_rules(additional) if isinstance(additional, dict) else None
        self.items = compile_rules(items) if isinstance(items, dict) else None
        self.keys: tuple[str, ...] = ()
        if schema.get("x-kubernetes-list-type") == "map":
            self.keys = tuple(schema.get("x-kubernetes-list-map-keys") or ())

    @property
    def empty(self) -> bool:
        return not (self.rules or self.properties or self.additional or self.items)

    def errors(self, value: Any, old: Any, load: Callable[[], _Schema | None]) -> ErrorList:
        found: ErrorList = []
        self._walk(value, _NOTHING if old is None else old, False, Path(), found)
        return found

    def _walk(self, value: Any, old: Any, same: bool, path: Path, found: ErrorList) -> None:
        """``same``: a part around this one that has an old value has not changed."""
        if value is None:
            return
        if old is not _NOTHING:
            same = value == old
        if self.rules:
            self._evaluate(value, old, same, path, found)
        if isinstance(value, dict):
            for key, node in self.properties.items():
                if key in value:
                    before = old.get(key, _NOTHING) if isinstance(old, dict) else _NOTHING
                    node._walk(value[key], before, same, path.child(key), found)
            if self.additional is not None:
                for key, item in value.items():
                    before = old.get(key, _NOTHING) if isinstance(old, dict) else _NOTHING
                    self.additional._walk(item, before, same, path.key(key), found)
        elif isinstance(value, list) and self.items is not None:
            known = self._by_key(old)
            for index, item in enumerate(value):
                before = known.get(self._key(item), _NOTHING) if known else _NOTHING
                self.items._walk(item, before, same, path.index(index), found)

    def _by_key(self, old: Any) -> dict[bytes, Any]:
        if not self.keys or not isinstance(old, list):
            return {}
        return {self._key(item): item for item in reversed(old)}

    def _key(self, item: Any) -> bytes:
        values = [item.get(key) if isinstance(item, dict) else None for key in self.keys]
        return orjson.dumps(values)

    def _evaluate(self, value: Any, old: Any, same: bool, path: Path, found: ErrorList) -> None:
        convert = self.convert or _as_is
        has_old = old is not _NOTHING and old is not None
        data: dict[str, Any] = {"self": convert(value)}
        data["oldSelf"] = data["__old"] = convert(old) if has_old else None
        data["__has_old"] = has_old
        for rule in self.rules:
            if rule.transition and not has_old and not rule.optional:
                continue
            try:
                result = _program(rule.expression).eval(data=data)
            except RuleError:
                continue  # its CRD was accepted with a warning that says so
            if _is_true(result):
                continue
            text = _error_text(result)
            if self.times and "overload" in text:
                continue
            if text:
                shown = rule.detail.removeprefix("failed rule: ")
                detail = f"{text} evaluating rule: {shown}"
                found.append(invalid(path, self.type, detail))
            elif rule.transition or not same:
                found.append(self._failure(rule, value, data, path))

    def _failure(self, rule: _Rule, value: Any, data: dict[str, Any], path: Path) -> FieldError:
        where = path.child(rule.path) if rule.path else path
        detail = rule.detail
        if rule.message:
            detail = _message(rule.message, data) or detail
        if rule.reason == "FieldValueForbidden":
            return forbidden(where, detail)
        if rule.reason == "FieldValueRequired":
            return required(where, detail)
        shown = BAD_VALUE_OMITTED if self.type in ("object", "array") else value
        if rule.reason == "FieldValueDuplicate":
            return duplicate(where, shown)
        return invalid(where, shown, detail)


def compile_rules(schema: _Schema) -> RuleNode | None:
    """The rules at and below a node; None when there are none."""
    node = RuleNode(schema)
    return None if node.empty else node


def _is_true(result: Any) -> bool:
    return result.plain_value() is True


def _error_text(result: Any) -> str:
    if "ERROR" not in str(result.type()):
        return ""
    text = str(result.plain_value())
    missing = _NO_KEY.search(text)
    if missing:
        return f"no such key: {missing[1]}"
    text = text.partition(": ")[2] or text
    return "division by zero" if text == "divide by zero" else text


def _message(expression: str, data: dict[str, Any]) -> str:
    try:
        value = _program(expression).eval(data=data).plain_value()
    except (RuleError, RuntimeError):
        return ""
    if not isinstance(value, str) or not value.strip() or "\n" in value:
        return ""
    return value.strip()


# How values look to rules: names that are no CEL identifiers are escaped.

_RESERVED = frozenset(
    "true false null in as break const continue else for function if import let loop package "
    "namespace return var void while".split()
)


def escape(name: str) -> str | None:
    """A property's name in rules; None: it can't be written."""
    if name in _RESERVED:
        return f"__{name}__"
    escaped = (
        name.replace("__", "__underscores__")
        .replace(".", "__dot__")
        .replace("-", "__dash__")
        .replace("/", "__slash__")
    )
    return escaped if re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", escaped) else None


def _as_is(value: Any) -> Any:
    return value


def converter(schema: _Schema) -> Callable[[Any], Any] | None:
    """The function from JSON to what rules see; None when that is the same."""
    items, additional = schema.get("items"), schema.get("additionalProperties")
    if isinstance(items, dict):
        return _each(converter(items))
    if isinstance(additional, dict):
        inner = converter(additional)
        if inner is None:
            return None
        return lambda value: (
            {key: inner(item) for key, item in value.items()} if isinstance(value, dict) else value
        )
    names: dict[str, str | None] = {}
    below: dict[str, Callable[[Any], Any]] = {}
    for key, field in (schema.get("properties") or {}).items():
        escaped = escape(key)
        if escaped != key:
            names[key] = escaped
        function = converter(field)
        if function is not None:
            below[key] = function
    return _fields(names, below) if names or below else None


def _each(inner: Callable[[Any], Any] | None) -> Callable[[Any], Any] | None:
    if inner is None:
        return None
    return lambda value: [inner(item) for item in value] if isinstance(value, list) else value


def _fields(
    names: dict[str, str | None], below: dict[str, Callable[[Any], Any]]
) -> Callable[[Any], Any]:
    def convert(value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        result: dict[str, Any] = {}
        for key, item in value.items():
            name = names.get(key, key)
            if name is not None:
                result[name] = below[key](item) if key in below else item
        return result

    return convert


def has_times(schema: _Schema) -> bool:
    """Some string at or below is a time or a duration, which are text to the engine's Python
    interface: rules that compute with them can't be enforced."""
    if schema.get("type") == "string":
        return schema.get("format") in _TIMES
    below = [schema.get("items"), schema.get("additionalProperties")]
    below += (schema.get("properties") or {}).values()
    return any(isinstance(each, dict) and has_times(each) for each in below)
