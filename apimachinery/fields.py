"""Field selectors (apimachinery pkg/fields): ``status.phase!=Running,spec.nodeName=a``.

Values may escape ``\\``, ``,`` and ``=`` with a backslash. A field that an object does not
offer counts as empty; which fields a kind offers is the registry's business.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    Matcher = Callable[[Mapping[str, str]], bool]


class FieldRequirement(NamedTuple):
    """``op`` is ``=`` or ``!=``."""

    field: str
    op: str
    value: str


def _compile(requirements: tuple[FieldRequirement, ...]) -> Matcher:
    if not requirements:
        return lambda fields: True
    if len(requirements) == 1:
        name, op, value = requirements[0]
        if op == "=":
            return lambda fields: fields.get(name, "") == value
        return lambda fields: fields.get(name, "") != value
    terms = tuple((r.field, r.value, r.op == "=") for r in requirements)
    return lambda fields: all(
        (fields.get(name, "") == value) is equal for name, value, equal in terms
    )


class FieldSelector:
    """A conjunction of requirements on fields; ``matches(fields)`` is a compiled function."""

    __slots__ = ("matches", "requirements")

    matches: Matcher

    def __init__(self, requirements: Iterable[tuple[str, str, str]] = ()) -> None:
        self.requirements = tuple(FieldRequirement(*r) for r in requirements)
        self.matches = _compile(self.requirements)

    @property
    def empty(self) -> bool:
        """True when it does not restrict anything."""
        return not self.requirements

    def requires_exact(self, field: str) -> str | None:
        """The value that ``field`` must have, if the selector says so."""
        for requirement in self.requirements:
            if requirement.field == field and requirement.op == "=":
                return requirement.value
        return None

    def transform(self, convert: Callable[[str, str], tuple[str, str]]) -> FieldSelector:
        """Each field and value replaced by ``convert``; ("", "") drops the requirement."""
        converted = ((*convert(r.field, r.value), r.op) for r in self.requirements)
        return FieldSelector((f, op, v) for f, v, op in converted if f or v)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, FieldSelector) and self.requirements == other.requirements

    def __hash__(self) -> int:
        return hash(self.requirements)

    def __str__(self) -> str:
        return ",".join(f"{f}{op}{escape_value(v)}" for f, op, v in self.requirements)

    def __repr__(self) -> str:
        return f"FieldSelector({str(self)!r})"


EVERYTHING = FieldSelector()


def everything() -> FieldSelector:
    return EVERYTHING


def one_term_equal(field: str, value: str) -> FieldSelector:
    return FieldSelector(((field, "=", value),))


def and_selectors(*selectors: FieldSelector) -> FieldSelector:
    return FieldSelector(r for selector in selectors for r in selector.requirements)


@lru_cache(maxsize=1024)
def parse_field_selector(text: str) -> FieldSelector:
    """The selector that ``text`` stands for. :raises ValueError: with upstream's text."""
    if not text:
        return EVERYTHING
    requirements = (_requirement(text, part) for part in sorted(_terms(text)) if part)
    # As upstream: a term without field and value restricts nothing.
    return FieldSelector(r for r in requirements if r.field or r.value)


def escape_value(value: str) -> str:
    """A literal value as it stands in a selector."""
    return value.replace("\\", "\\\\").replace(",", "\\,").replace("=", "\\=")


def unescape_value(text: str) -> str:
    """The reverse of :func:`escape_value`. :raises ValueError: unknown or missing escapes."""
    if "\\" not in text and "," not in text and "=" not in text:
        return text
    out: list[str] = []
    escaped = False
    for c in text:
        if escaped:
            if c not in "\\,=":
                raise ValueError(f"invalid field selector: invalid escape sequence: \\{c}")
            out.append(c)
            escaped = False
        elif c == "\\":
            escaped = True
        elif c in ",=":
            # Upstream prints the rune's number here.
            raise ValueError(f"invalid field selector: unescaped character in value: {ord(c)}")
        else:
            out.append(c)
    if escaped:
        raise ValueError("invalid field selector: invalid escape sequence: \\")
    return "".join(out)


def _terms(text: str) -> Iterator[str]:
    """Splits at commas that no backslash precedes; the backslashes stay."""
    start = 0
    escaped = False
    for i, c in enumerate(text):
        if escaped:
            escaped = False
        elif c == "\\":
            escaped = True
        elif c == ",":
            yield text[start:i]
            start = i + 1
    yield text[start:]


def _requirement(selector: str, term: str) -> FieldRequirement:
    for i, c in enumerate(term):
        if c == "!" and term.startswith("!=", i):
            return FieldRequirement(term[:i], "!=", unescape_value(term[i + 2 :]))
        if c == "=":
            skip = 2 if term.startswith("==", i) else 1
            return FieldRequirement(term[:i], "=", unescape_value(term[i + skip :]))
    raise ValueError(f"invalid selector: '{selector}'; can't understand '{term}'")
