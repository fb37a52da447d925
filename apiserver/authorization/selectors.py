"""Selectors of a question, between their texts and authorization.k8s.io's requirements; pure.

What can't be read or said is left out: requirements narrow, so without one the question is
broader, which is safe.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pilothouse.apimachinery.fields import parse_field_selector
from pilothouse.apimachinery.labels import parse_selector, selector_from_label_selector

if TYPE_CHECKING:
    from pilothouse.apimachinery.object import Obj

_FIELD_OPERATORS = {"=": "In", "==": "In", "in": "In", "!=": "NotIn", "notin": "NotIn"}
_LABEL_OPERATORS = _FIELD_OPERATORS | {"exists": "Exists", "!": "DoesNotExist"}


def field_requirements(selector: str) -> list[Obj]:
    """Of a field selector's text; empty when it is none."""
    try:
        parsed = parse_field_selector(selector)
    except ValueError:
        return []
    return [
        {"key": field, "operator": _FIELD_OPERATORS[operator], "values": [value]}
        for field, operator, value in parsed.requirements
        if operator in _FIELD_OPERATORS
    ]


def label_requirements(selector: str) -> list[Obj]:
    """Of a label selector's text; empty when it is none. ``<`` and ``>`` have no word here."""
    try:
        parsed = parse_selector(selector)
    except ValueError:
        return []
    found: list[Obj] = []
    for requirement in parsed.requirements:
        operator = _LABEL_OPERATORS.get(requirement.operator)
        if operator is None:
            continue
        wire: Obj = {"key": requirement.key, "operator": operator}
        if requirement.values:
            wire["values"] = sorted(requirement.values)
        found.append(wire)
    return found


def field_selector_text(selector: Obj) -> tuple[str, str]:
    """(text, problem) of a review's fieldSelector; the problem is for evaluationError."""
    if raw := selector.get("rawSelector"):
        try:
            parse_field_selector(raw)
        except ValueError:
            return "", _ignored("fieldSelector", some=False)
        return str(raw), ""
    signs = {"In": "=", "NotIn": "!="}
    requirements = selector.get("requirements") or ()
    texts = [
        f"{each.get('key')}{signs[each['operator']]}{_escaped(each['values'][0])}"
        for each in requirements
        if each.get("operator") in signs and len(each.get("values") or ()) == 1
    ]
    problem = "" if len(texts) == len(requirements) else _ignored("fieldSelector", bool(texts))
    return ",".join(texts), problem


def label_selector_text(selector: Obj) -> tuple[str, str]:
    """(text, problem) of a review's labelSelector."""
    if raw := selector.get("rawSelector"):
        try:
            parse_selector(raw)
        except ValueError:
            return "", _ignored("labelSelector", some=False)
        return str(raw), ""
    requirements = selector.get("requirements") or ()
    texts: list[str] = []
    for each in requirements:
        try:
            texts.append(str(selector_from_label_selector({"matchExpressions": [each]})))
        except (ValueError, KeyError, TypeError):
            continue
    problem = "" if len(texts) == len(requirements) else _ignored("labelSelector", bool(texts))
    return ",".join(texts), problem


def _ignored(field: str, some: bool) -> str:
    partially = "partially " if some else ""
    return f"spec.resourceAttributes.{field} {partially}ignored due to parse error"


def _escaped(value: str) -> str:
    for character in ("\\", ",", "="):
        value = value.replace(character, f"\\{character}")
    return value
