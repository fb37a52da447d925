"""Node selectors and their terms, compiled (component-helpers/scheduling/corev1/nodeaffinity)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from pilothouse.apimachinery.object import Obj

Match = Callable[[str, Mapping[str, str]], bool]
"""(node name, node labels) -> bool"""


class NodeSelector:
    """``nodeSelector`` labels (all must match) and affinity terms (one must)."""

    __slots__ = ("_labels", "_terms", "empty", "node_names")

    def __init__(self, labels: Mapping[str, str], terms: Sequence[Obj] | None) -> None:
        self._labels = tuple(labels.items())
        self._terms = None if terms is None else [compile_term(t) for t in terms]
        self.empty = not self._labels and terms is None
        self.node_names = None if terms is None else _names(terms)
        """The only nodes that can match by name; None when names don't restrict."""

    def matches(self, name: str, labels: Mapping[str, str]) -> bool:
        if any(labels.get(key) != value for key, value in self._labels):
            return False
        return self._terms is None or any(term(name, labels) for term in self._terms)


def compile_term(term: Obj) -> Match:
    """A NodeSelectorTerm; an empty one matches nothing."""
    expressions = [_requirement(e) for e in term.get("matchExpressions") or ()]
    fields = [_requirement(f) for f in term.get("matchFields") or ()]
    if not expressions and not fields:
        return lambda name, labels: False

    def matches(name: str, labels: Mapping[str, str]) -> bool:
        named = {"metadata.name": name}
        return all(e(labels) for e in expressions) and all(f(named) for f in fields)

    return matches


def _requirement(expression: Obj) -> Callable[[Mapping[str, str]], bool]:
    key, operator = expression.get("key") or "", expression.get("operator")
    values = frozenset(expression.get("values") or ())
    if operator == "In":
        return lambda labels: labels.get(key) in values
    if operator == "NotIn":
        return lambda labels: labels.get(key) not in values
    if operator == "Exists":
        return lambda labels: key in labels
    if operator == "DoesNotExist":
        return lambda labels: key not in labels
    if operator in ("Gt", "Lt"):
        return _comparison(key, operator, values)
    return lambda labels: False


def _comparison(
    key: str, operator: str, values: Iterable[str]
) -> Callable[[Mapping[str, str]], bool]:
    try:
        limit = int(next(iter(values)))
    except (StopIteration, ValueError):
        return lambda labels: False

    def matches(labels: Mapping[str, str]) -> bool:
        try:
            value = int(labels[key])
        except (KeyError, ValueError):
            return False
        return value > limit if operator == "Gt" else value < limit

    return matches


def _names(terms: Sequence[Obj]) -> set[str] | None:
    """Union over the terms of the names that each allows; None when a term allows any."""
    union: set[str] = set()
    for term in terms:
        allowed: set[str] | None = None
        for field in term.get("matchFields") or ():
            if field.get("key") == "metadata.name" and field.get("operator") == "In":
                values = set(field.get("values") or ())
                allowed = values if allowed is None else allowed & values
        if allowed is None:
            return None
        union |= allowed
    return union if terms else None
