"""Pod failure and success policies of Jobs, and lists of indexes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pilothouse.apimachinery.fieldpath import BAD_VALUE_OMITTED
from pilothouse.apis.meta import validation as check
from pilothouse.apis.meta.errors import (
    duplicate,
    invalid,
    not_supported,
    required,
    too_long,
    too_many,
)

if TYPE_CHECKING:
    from pilothouse.apimachinery.fieldpath import ErrorList
    from pilothouse.apimachinery.object import Obj

_ACTIONS = ("Count", "FailIndex", "FailJob", "Ignore")
_STATUSES = ("False", "True", "Unknown")
_MAX_RULES, _MAX_VALUES, _MAX_PATTERNS = 20, 255, 20
_MAX_INDEXES_LENGTH = 64 * 1024


def _listed(values: tuple[str, ...]) -> str:
    return "valid values: [" + " ".join(f'"{v}"' for v in values) + "]"


def failure_policy(errors: ErrorList, spec: Obj, path: str) -> None:
    rules = spec["podFailurePolicy"].get("rules") or ()
    if len(rules) > _MAX_RULES:
        errors.append(too_many(f"{path}.rules", len(rules), _MAX_RULES))
    pod_spec = (spec.get("template") or {}).get("spec") or {}
    known = {c.get("name") for f in ("containers", "initContainers") for c in pod_spec.get(f) or ()}
    for i, rule in enumerate(rules):
        at = f"{path}.rules[{i}]"
        _action(errors, rule, spec, f"{at}.action")
        codes, conditions = rule.get("onExitCodes"), rule.get("onPodConditions") or ()
        if codes is not None:
            _exit_codes(errors, codes, known, f"{at}.onExitCodes")
        if conditions:
            _pod_conditions(errors, conditions, f"{at}.onPodConditions")
        if codes is not None and conditions:
            message = "specifying both OnExitCodes and OnPodConditions is not supported"
            errors.append(invalid(at, BAD_VALUE_OMITTED, message))
        if codes is None and not conditions:
            message = "specifying one of OnExitCodes and OnPodConditions is required"
            errors.append(invalid(at, BAD_VALUE_OMITTED, message))


def _action(errors: ErrorList, rule: Obj, spec: Obj, path: str) -> None:
    action = rule.get("action") or ""
    if not action:
        errors.append(required(path, _listed(_ACTIONS)))
    elif action == "FailIndex":
        if spec.get("backoffLimitPerIndex") is None:
            message = "requires the backoffLimitPerIndex to be set"
            errors.append(invalid(path, action, message))
    elif action not in _ACTIONS:
        errors.append(not_supported(path, action, _ACTIONS))


def _exit_codes(errors: ErrorList, codes: Obj, known: set[str | None], path: str) -> None:
    operator, values = codes.get("operator") or "", codes.get("values") or []
    if not operator:
        errors.append(required(f"{path}.operator", _listed(("In", "NotIn"))))
    elif operator not in ("In", "NotIn"):
        errors.append(not_supported(f"{path}.operator", operator, ("In", "NotIn")))
    name = codes.get("containerName")
    if name is not None and name not in known:
        message = "must be one of the container or initContainer names in the pod template"
        errors.append(invalid(f"{path}.containerName", name, message))
    if not values:
        errors.append(invalid(f"{path}.values", values, "at least one value is required"))
    elif len(values) > _MAX_VALUES:
        errors.append(too_many(f"{path}.values", len(values), _MAX_VALUES))
    seen: set[int] = set()
    for i, value in enumerate(values):
        if operator == "In" and value == 0:
            message = "must not be 0 for the In operator"
            errors.append(invalid(f"{path}.values[{i}]", value, message))
        if value in seen:
            errors.append(duplicate(f"{path}.values[{i}]", value))
        seen.add(value)
    if values != sorted(values):
        errors.append(invalid(f"{path}.values", values, "must be ordered"))


def _pod_conditions(errors: ErrorList, patterns: list[Obj], path: str) -> None:
    if len(patterns) > _MAX_PATTERNS:
        errors.append(too_many(path, len(patterns), _MAX_PATTERNS))
    for i, pattern in enumerate(patterns):
        check.qualified_name(errors, pattern.get("type") or "", f"{path}[{i}].type")
        status = pattern.get("status") or ""
        if not status:
            errors.append(required(f"{path}[{i}].status", _listed(_STATUSES)))
        elif status not in _STATUSES:
            errors.append(not_supported(f"{path}[{i}].status", status, _STATUSES))


def success_policy(errors: ErrorList, spec: Obj, path: str) -> None:
    rules = spec["successPolicy"].get("rules") or ()
    if not rules:
        message = "at least one rules must be specified when the successPolicy is specified"
        errors.append(required(f"{path}.rules", message))
    if len(rules) > _MAX_RULES:
        errors.append(too_many(f"{path}.rules", len(rules), _MAX_RULES))
    completions = spec.get("completions") or 0
    for i, rule in enumerate(rules):
        _success_rule(errors, rule, completions, f"{path}.rules[{i}]")


def _success_rule(errors: ErrorList, rule: Obj, completions: int, path: str) -> None:
    count, indexes = rule.get("succeededCount"), rule.get("succeededIndexes")
    if count is None and indexes is None:
        message = "at least one of succeededCount or succeededIndexes must be specified"
        errors.append(required(path, message))
    total = 0
    if indexes is not None:
        if len(indexes) > _MAX_INDEXES_LENGTH:
            errors.append(too_long(f"{path}.succeededIndexes", _MAX_INDEXES_LENGTH))
        try:
            total = count_indexes(indexes, completions)
        except ValueError as error:
            message = f"error parsing succeededIndexes: {error}"
            errors.append(invalid(f"{path}.succeededIndexes", indexes, message))
    if count is None:
        return
    check.nonnegative(errors, rule, "succeededCount", path)
    if count > completions:
        message = (
            f"must be less than or equal to {completions} (the number of specified completions)"
        )
        errors.append(invalid(f"{path}.succeededCount", count, message))
    if indexes is not None and count > total:
        message = (
            f"must be less than or equal to {total} (the number of indexes in the specified "
            "succeededIndexes field)"
        )
        errors.append(invalid(f"{path}.succeededCount", count, message))


def count_indexes(text: str, completions: int) -> int:
    """How many indexes ``1,3-5`` names. :raises ValueError: upstream's text."""
    total, last = 0, -1
    for interval in text.split(",") if text else ():
        start, end = parse_interval(interval, completions)
        if last >= start:
            raise ValueError(f"non-increasing order, previous: {last}, current: {start}")
        total += end - start + 1
        last = end
    return total


def parse_interval(text: str, completions: int) -> tuple[int, int]:
    parts = text.split("-")
    if len(parts) > 2:
        raise ValueError(
            f'the fragment "{text}" violates the requirement that an index interval can have at '
            "most two parts separated by '-'"
        )
    numbers = []
    for part in parts:
        if not part.isascii() or not part.isdigit():
            raise ValueError(f'cannot convert string to integer for index: "{part}"')
        if int(part) >= completions:
            raise ValueError(f'too large index: "{part}"')
        numbers.append(int(part))
    if len(numbers) == 2 and numbers[0] >= numbers[1]:
        raise ValueError(f"non-increasing order, previous: {numbers[0]}, current: {numbers[1]}")
    return numbers[0], numbers[-1]
