"""Label selectors (apimachinery pkg/labels): parse once, match often.

A selector is compiled to one closure when it is built, with short cuts for the one or two
equality requirements that nearly all selectors consist of. Selectors are immutable, hashable
and cached by their text.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from pilothouse.apimachinery import names
from pilothouse.apimachinery.fieldpath import ErrorList, Path, invalid, not_supported

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    Matcher = Callable[[Mapping[str, str] | None], bool]

IN = "in"
NOT_IN = "notin"
EQUALS = "="
DOUBLE_EQUALS = "=="
NOT_EQUALS = "!="
GREATER_THAN = "gt"
LESS_THAN = "lt"
EXISTS = "exists"
DOES_NOT_EXIST = "!"

_BINARY = (IN, NOT_IN, EQUALS, DOUBLE_EQUALS, NOT_EQUALS, GREATER_THAN, LESS_THAN)
_ALL_OPERATORS = (*_BINARY, EXISTS, DOES_NOT_EXIST)
_BY_SYMBOL = {
    "in": IN,
    "notin": NOT_IN,
    "=": EQUALS,
    "==": DOUBLE_EQUALS,
    "!=": NOT_EQUALS,
    ">": GREATER_THAN,
    "<": LESS_THAN,
}
_LABEL_SELECTOR_OPERATORS = {
    "In": IN,
    "NotIn": NOT_IN,
    "Exists": EXISTS,
    "DoesNotExist": DOES_NOT_EXIST,
}
_INTEGER = re.compile(r"[+-]?[0-9]+")


def _parse_int64(text: str) -> int | None:
    """strconv.ParseInt(text, 10, 64), or None."""
    if not _INTEGER.fullmatch(text):
        return None
    value = int(text) if len(text) < 40 else 1 << 64
    return value if -(1 << 63) <= value < 1 << 63 else None


class Requirement:
    """One key, an operator and its values. :raises ValueError: with upstream's text."""

    __slots__ = ("key", "operator", "values")

    def __init__(self, key: str, operator: str, values: Sequence[str] = ()) -> None:
        errors = _requirement_errors(key, operator, values)
        if errors:
            texts = list(dict.fromkeys(str(e) for e in errors))
            raise ValueError(texts[0] if len(texts) == 1 else f"[{', '.join(texts)}]")
        self.key = key
        self.operator = operator
        self.values = tuple(values)

    @classmethod
    def _unchecked(cls, key: str, operator: str, values: tuple[str, ...]) -> Requirement:
        requirement = cls.__new__(cls)
        requirement.key, requirement.operator, requirement.values = key, operator, values
        return requirement

    def matches(self, labels: Mapping[str, str] | None) -> bool:
        return _matcher(self)(labels)

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Requirement)
            and self.key == other.key
            and self.operator == other.operator
            and self.values == other.values
        )

    def __hash__(self) -> int:
        return hash((self.key, self.operator, self.values))

    def __str__(self) -> str:
        operator = self.operator
        if operator == EXISTS:
            return self.key
        if operator == DOES_NOT_EXIST:
            return "!" + self.key
        values = ",".join(sorted(self.values))
        if operator in (IN, NOT_IN):
            return f"{self.key} {operator} ({values})"
        symbol = {GREATER_THAN: ">", LESS_THAN: "<"}.get(operator, operator)
        return f"{self.key}{symbol}{values}"

    __repr__ = __str__


def _requirement_errors(key: str, operator: str, values: Sequence[str]) -> ErrorList:
    errors: ErrorList = []
    messages = names.is_qualified_name(key)
    if messages:
        errors.append(invalid(Path("key"), key, "; ".join(messages)))
    path = Path("values")
    shown = list(values)
    if operator in (IN, NOT_IN):
        if not values:
            detail = "for 'in', 'notin' operators, values set can't be empty"
            errors.append(invalid(path, shown, detail))
    elif operator in (EQUALS, DOUBLE_EQUALS, NOT_EQUALS):
        if len(values) != 1:
            detail = "exact-match compatibility requires one single value"
            errors.append(invalid(path, shown, detail))
    elif operator in (EXISTS, DOES_NOT_EXIST):
        if values:
            detail = "values set must be empty for exists and does not exist"
            errors.append(invalid(path, shown, detail))
    elif operator in (GREATER_THAN, LESS_THAN):
        if len(values) != 1:
            detail = "for 'Gt', 'Lt' operators, exactly one value is required"
            errors.append(invalid(path, shown, detail))
        for i, value in enumerate(values):
            if _parse_int64(value) is None:
                detail = "for 'Gt', 'Lt' operators, the value must be an integer"
                errors.append(invalid(path.index(i), value, detail))
    else:
        errors.append(not_supported(Path("operator"), operator, _ALL_OPERATORS, keep_order=True))
    for i, value in enumerate(values):
        messages = names.is_valid_label_value(value)
        if messages:
            errors.append(invalid(path.index(i).key(key), value, "; ".join(messages)))
    return errors


def _matcher(requirement: Requirement) -> Matcher:
    key, operator, values = requirement.key, requirement.operator, requirement.values
    if operator in (IN, EQUALS, DOUBLE_EQUALS):
        if len(values) == 1:
            value = values[0]
            return lambda labels: labels is not None and labels.get(key) == value
        return lambda labels: labels is not None and labels.get(key) in values
    if operator in (NOT_IN, NOT_EQUALS):
        return lambda labels: labels is None or labels.get(key) not in values
    if operator == EXISTS:
        return lambda labels: labels is not None and key in labels
    if operator == DOES_NOT_EXIST:
        return lambda labels: labels is None or key not in labels
    bound = _parse_int64(values[0]) or 0
    greater = operator == GREATER_THAN

    def compare(labels: Mapping[str, str] | None) -> bool:
        text = labels.get(key) if labels is not None else None
        value = None if text is None else _parse_int64(text)
        if value is None:
            return False
        return value > bound if greater else value < bound

    return compare


def _compile(requirements: tuple[Requirement, ...]) -> Matcher:
    if not requirements:
        return lambda labels: True
    if len(requirements) == 1:
        return _matcher(requirements[0])
    if all(r.operator in (EQUALS, DOUBLE_EQUALS) for r in requirements):
        pairs = tuple((r.key, r.values[0]) for r in requirements)
        if len(pairs) == 2:
            (k1, v1), (k2, v2) = pairs
            return lambda labels: (
                labels is not None and labels.get(k1) == v1 and labels.get(k2) == v2
            )

        def equal_all(labels: Mapping[str, str] | None) -> bool:
            if labels is None:
                return False
            get = labels.get
            return all(get(key) == value for key, value in pairs)

        return equal_all
    matchers = tuple(map(_matcher, requirements))
    return lambda labels: all(matcher(labels) for matcher in matchers)


class Selector:
    """A conjunction of requirements, or the selector that matches nothing.

    ``matches(labels)`` is a compiled function; None counts as no labels.
    """

    __slots__ = ("_text", "matches", "nothing", "requirements")

    matches: Matcher

    def __init__(self, requirements: Iterable[Requirement] = (), *, nothing: bool = False) -> None:
        self.requirements = tuple(sorted(requirements, key=lambda r: r.key))
        self.nothing = nothing
        self.matches = (lambda labels: False) if nothing else _compile(self.requirements)
        self._text = ",".join(map(str, self.requirements))

    @property
    def empty(self) -> bool:
        """True when it does not restrict anything."""
        return not self.requirements and not self.nothing

    def requires_exact(self, key: str) -> str | None:
        """The only value that ``key`` may have, if the selector says so."""
        for requirement in self.requirements:
            if requirement.key == key:
                one = len(requirement.values) == 1
                if one and requirement.operator in (EQUALS, DOUBLE_EQUALS, IN):
                    return requirement.values[0]
                return None
        return None

    def add(self, *requirements: Requirement) -> Selector:
        return self if self.nothing else Selector((*self.requirements, *requirements))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Selector):
            return NotImplemented
        return self.nothing == other.nothing and self.requirements == other.requirements

    def __hash__(self) -> int:
        return hash((self.nothing, self.requirements))

    def __str__(self) -> str:
        return self._text

    def __repr__(self) -> str:
        return "Selector(nothing)" if self.nothing else f"Selector({self._text!r})"


EVERYTHING = Selector()
NOTHING = Selector(nothing=True)


def everything() -> Selector:
    return EVERYTHING


def nothing() -> Selector:
    return NOTHING


@lru_cache(maxsize=4096)
def parse_selector(text: str) -> Selector:
    """The selector that ``text`` (``a=b,c in (d,e),!f``) stands for.

    :raises ValueError: with the text of labels.Parse.
    """
    if not text:
        return EVERYTHING
    return Selector(_Parser(text).parse())


def selector_from_map(labels: Mapping[str, str] | None) -> Selector:
    """Equality on every pair, not validated (labels.SelectorFromSet)."""
    if not labels:
        return EVERYTHING
    return Selector(Requirement._unchecked(k, EQUALS, (v,)) for k, v in labels.items())


def validated_selector_from_map(labels: Mapping[str, str] | None) -> Selector:
    """As :func:`selector_from_map`. :raises ValueError: a key or value is not allowed."""
    if not labels:
        return EVERYTHING
    return Selector(Requirement(k, EQUALS, (v,)) for k, v in labels.items())


def selector_from_label_selector(selector: Mapping[str, Any] | None) -> Selector:
    """metav1.LabelSelectorAsSelector: None matches nothing, an empty one everything.

    :raises ValueError: with upstream's text.
    """
    if selector is None:
        return NOTHING
    match_labels = selector.get("matchLabels")
    expressions = selector.get("matchExpressions")
    if not expressions:
        if not match_labels:
            return EVERYTHING
        return _from_match_labels(tuple(match_labels.items()))
    requirements = [Requirement(k, EQUALS, (v,)) for k, v in (match_labels or {}).items()]
    for expression in expressions:
        name = expression.get("operator") or ""
        operator = _LABEL_SELECTOR_OPERATORS.get(name)
        if operator is None:
            raise ValueError(f'"{name}" is not a valid label selector operator')
        values = tuple(expression.get("values") or ())
        requirements.append(Requirement(expression.get("key") or "", operator, values))
    return Selector(requirements)


@lru_cache(maxsize=4096)
def _from_match_labels(pairs: tuple[tuple[str, str], ...]) -> Selector:
    return Selector(Requirement(k, EQUALS, (v,)) for k, v in pairs)


def format_label_selector(selector: Mapping[str, Any] | None) -> str:
    """metav1.FormatLabelSelector: for people, with ``<none>`` and ``<error>``."""
    try:
        text = str(selector_from_label_selector(selector))
    except ValueError:
        return "<error>"
    return text or "<none>"


_TOKEN = re.compile(r"[ \t\r\n]*(?:(==|!=|[=!(),<>])|([^ \t\r\n=!(),<>\0]+)\0?|(\0|\Z))")
_END = ""


class _Parser:
    """Recursive descent as upstream's, so that the error texts agree."""

    def __init__(self, text: str) -> None:
        self.tokens: list[tuple[str, str]] = []
        position = 0
        while True:
            match = _TOKEN.match(text, position)
            assert match is not None, "every character starts a token"
            position = match.end()
            symbol, word, end = match.groups()
            if end is not None:
                self.tokens.append((_END, ""))
                break
            self.tokens.append((symbol, symbol) if symbol else ("id", word))
        self.position = 0

    def peek(self) -> tuple[str, str]:
        return self.tokens[self.position]

    def take(self) -> tuple[str, str]:
        self.position += 1
        return self.tokens[self.position - 1]

    def parse(self) -> list[Requirement]:
        requirements: list[Requirement] = []
        while True:
            kind, literal = self.peek()
            if kind == _END:
                return requirements
            if kind not in ("id", "!"):
                raise ValueError(f"found '{literal}', expected: !, identifier, or 'end of string'")
            try:
                requirements.append(self.requirement())
            except ValueError as error:
                raise ValueError(f"unable to parse requirement: {error}") from None
            kind, literal = self.take()
            if kind == _END:
                return requirements
            if kind != ",":
                raise ValueError(f"found '{literal}', expected: ',' or 'end of string'")
            kind, literal = self.peek()
            if kind not in ("id", "!"):
                raise ValueError(f"found '{literal}', expected: identifier after ','")

    def requirement(self) -> Requirement:
        kind, key = self.take()
        operator = ""
        if kind == "!":
            operator = DOES_NOT_EXIST
            kind, key = self.take()
        if kind != "id":
            raise ValueError(f"found '{key}', expected: identifier")
        messages = names.is_qualified_name(key)
        if messages:
            raise ValueError(str(invalid(Path(), key, "; ".join(messages))))
        if self.peek()[0] in (_END, ",") and not operator:
            operator = EXISTS
        if operator:
            return Requirement(key, operator)
        _, literal = self.take()
        operator = _BY_SYMBOL.get(literal, "")
        if not operator:
            raise ValueError(f"found '{literal}', expected: {', '.join(_BINARY)}")
        values = self.values() if operator in (IN, NOT_IN) else {self.exact_value()}
        return Requirement(key, operator, sorted(values))

    def values(self) -> set[str]:
        kind, literal = self.take()
        if kind != "(":
            raise ValueError(f"found '{literal}' expected: '('")
        kind, literal = self.peek()
        if kind == ")":
            self.take()
            return {""}
        if kind not in ("id", ","):
            raise ValueError(f"found '{literal}', expected: ',', ')' or identifier")
        values = self.identifiers()
        if self.take()[0] != ")":
            raise ValueError(f"found '{literal}', expected: ')'")
        return values

    def identifiers(self) -> set[str]:
        values: set[str] = set()
        while True:
            kind, literal = self.take()
            following, following_literal = self.peek() if kind != _END else (_END, "")
            if kind == "id":
                values.add(literal)
                if following == ")":
                    return values
                if following != ",":
                    raise ValueError(f"found '{following_literal}', expected: ',' or ')'")
            elif kind == ",":
                if not values:
                    values.add("")
                if following in (")", ","):
                    values.add("")
                if following == ")":
                    return values
            else:
                raise ValueError(f"found '{literal}', expected: ',', or identifier")

    def exact_value(self) -> str:
        if self.peek()[0] in (_END, ","):
            return ""
        kind, literal = self.take()
        if kind != "id":
            raise ValueError(f"found '{literal}', expected: identifier")
        return literal
