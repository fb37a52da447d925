"""CEL of webhooks' matchConditions, checked when a configuration is written."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pilothouse.apimachinery.fieldpath import Path, invalid

if TYPE_CHECKING:
    from pilothouse.apimachinery.fieldpath import ErrorList
    from pilothouse.apimachinery.object import Obj


def expression_errors(obj: Obj, old: Obj | None = None) -> ErrorList:
    """Of ``obj.webhooks``; what ``old`` holds already is not looked at again."""
    known = {condition.get("expression") for _, condition in _conditions(old or {})}
    errors: ErrorList = []
    for path, condition in _conditions(obj):
        expression = condition.get("expression") or ""
        if expression.strip() and expression not in known:
            from pilothouse.apiserver.admission.webhook.conditions import compile_condition

            problem = compile_condition(expression)
            if isinstance(problem, str):
                errors.append(invalid(Path(path).child("expression"), expression, problem))
    return errors


def _conditions(obj: Obj) -> list[tuple[str, Obj]]:
    return [
        (f"webhooks[{i}].matchConditions[{j}]", condition)
        for i, webhook in enumerate(obj.get("webhooks") or ())
        for j, condition in enumerate(webhook.get("matchConditions") or ())
    ]
