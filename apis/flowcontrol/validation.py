"""FlowSchemas and PriorityLevelConfigurations."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from pilothouse.apis.flowcontrol.mandatory import FLOW_SCHEMAS, PRIORITY_LEVELS
from pilothouse.apis.flowcontrol.validation_rules import validate_rules
from pilothouse.apis.meta import validation as check
from pilothouse.apis.meta.equality import semantic_equal
from pilothouse.apis.meta.errors import duplicate, forbidden, invalid, not_supported, required

if TYPE_CHECKING:
    from pilothouse.apimachinery.fieldpath import ErrorList
    from pilothouse.apimachinery.object import Obj

_METHODS = ("ByNamespace", "ByUser")
_LEVEL_TYPES = ("Exempt", "Limited")
_RESPONSES = ("Queue", "Reject")
_MAX_PRECEDENCE = 10000
_MAX_QUEUES = 10**7
_MAX_HASH_BITS = 60
_NOT_NEGATIVE = "must be a non-negative integer"


def _name(obj: Obj) -> str:
    return (obj.get("metadata") or {}).get("name") or ""


def validate_flow_schema(schema: Obj) -> ErrorList:
    errors: ErrorList = []
    spec, name = schema.get("spec") or {}, _name(schema)
    path, precedence = "spec.matchingPrecedence", spec.get("matchingPrecedence") or 0
    if precedence <= 0:
        errors.append(invalid(path, precedence, "must be a positive value"))
    if precedence > _MAX_PRECEDENCE:
        errors.append(invalid(path, precedence, f"must not be greater than {_MAX_PRECEDENCE}"))
    if precedence == 1 and name != "exempt":
        message = "only the schema named 'exempt' may have matchingPrecedence 1"
        errors.append(invalid(path, precedence, message))
    method = spec.get("distinguisherMethod")
    if method is not None and method.get("type") not in _METHODS:
        errors.append(not_supported("spec.distinguisherMethod.type", method, _METHODS))
    level = (spec.get("priorityLevelConfiguration") or {}).get("name") or ""
    if level:
        check.dns_subdomain(errors, level, "spec.priorityLevelConfiguration.name")
    else:
        message = "must reference a priority level"
        errors.append(required("spec.priorityLevelConfiguration.name", message))
    validate_rules(errors, spec.get("rules") or (), "spec.rules")
    fixed = FLOW_SCHEMAS.get(name)
    if fixed is not None and not semantic_equal(spec, fixed):
        errors.append(invalid("spec", spec, f"spec of '{name}' must equal the fixed value"))
    return errors


def validate_conditions(obj: Obj) -> ErrorList:
    """Of the status of either kind."""
    errors: ErrorList = []
    seen: set[str] = set()
    for i, condition in enumerate((obj.get("status") or {}).get("conditions") or ()):
        kind, path = condition.get("type") or "", f"status.conditions[{i}].type"
        if kind in seen:
            errors.append(duplicate(path, kind))
        seen.add(kind)
        if not kind:
            errors.append(required(path))
    return errors


def validate_priority_level(level: Obj) -> ErrorList:
    errors: ErrorList = []
    spec, name = level.get("spec") or {}, _name(level)
    kind, exempt, limited = spec.get("type") or "", spec.get("exempt"), spec.get("limited")
    if (name == "exempt") != (kind == "Exempt"):
        message = "must be 'Exempt' if and only if `name` is 'exempt'"
        errors.append(invalid("spec.type", kind, message))
    if kind == "Exempt":
        if limited is not None:
            errors.append(forbidden("spec.limited", ""))
        if exempt is not None:
            _shares(errors, exempt, "spec.exempt")
    elif kind == "Limited":
        if exempt is not None:
            errors.append(forbidden("spec.exempt", "must be nil if the type is Limited"))
        if limited is None:
            errors.append(required("spec.limited", "must not be empty when type is Limited"))
        else:
            _limited(errors, limited, "spec.limited")
    elif not kind:
        errors.append(required("spec.type"))
    else:
        errors.append(not_supported("spec.type", kind, _LEVEL_TYPES))
        for field, value in (("exempt", exempt), ("limited", limited)):
            if value is not None:
                errors.append(forbidden(f"spec.{field}", ""))
    _fixed_level(errors, spec, name)
    return errors


def _fixed_level(errors: ErrorList, spec: Obj, name: str) -> None:
    fixed = PRIORITY_LEVELS.get(name)
    if fixed is None:
        return
    message = f"spec of '{name}' must equal the fixed value"
    if name == "exempt":
        spec = {**spec, "exempt": fixed["exempt"]}
        message = f"spec of '{name}' except the 'spec.exempt' field must equal the fixed value"
    if not semantic_equal(spec, fixed):
        errors.append(invalid("spec", spec, message))


def _shares(errors: ErrorList, configuration: Obj, path: str) -> None:
    shares, lendable = (
        configuration.get("nominalConcurrencyShares"),
        configuration.get("lendablePercent"),
    )
    if shares is not None and shares < 0:
        errors.append(invalid(f"{path}.nominalConcurrencyShares", shares, _NOT_NEGATIVE))
    if lendable is not None and not 0 <= lendable <= 100:
        message = "must be between 0 and 100, inclusive"
        errors.append(invalid(f"{path}.lendablePercent", lendable, message))


def _limited(errors: ErrorList, limited: Obj, path: str) -> None:
    _shares(errors, limited, path)
    _response(errors, limited.get("limitResponse") or {}, f"{path}.limitResponse")
    borrowing = limited.get("borrowingLimitPercent")
    if borrowing is not None and borrowing < 0:
        message = "if specified, must be a non-negative integer"
        errors.append(invalid(f"{path}.borrowingLimitPercent", borrowing, message))


def _response(errors: ErrorList, response: Obj, path: str) -> None:
    kind, queuing = response.get("type") or "", response.get("queuing")
    if kind and kind != "Queue" and queuing is not None:
        errors.append(forbidden(f"{path}.queuing", ""))
    if kind == "Queue":
        if queuing is None:
            message = "must not be empty if limited.limitResponse.type is Limited"
            errors.append(required(f"{path}.queuing", message))
        else:
            _queuing(errors, queuing, f"{path}.queuing")
    elif not kind:
        errors.append(required(f"{path}.type"))
    elif kind != "Reject":
        errors.append(not_supported(f"{path}.type", kind, _RESPONSES))


def _queuing(errors: ErrorList, queuing: Obj, path: str) -> None:
    length, queues = queuing.get("queueLengthLimit") or 0, queuing.get("queues") or 0
    hand = queuing.get("handSize") or 0
    if length <= 0:
        errors.append(invalid(f"{path}.queueLengthLimit", length, "must be positive"))
    if queues <= 0:
        errors.append(invalid(f"{path}.queues", queues, "must be positive"))
    elif queues > _MAX_QUEUES:
        message = f"must not be greater than {_MAX_QUEUES}"
        errors.append(invalid(f"{path}.queues", queues, message))
    if hand <= 0:
        errors.append(invalid(f"{path}.handSize", hand, "must be positive"))
    elif hand > queues:
        message = f"should not be greater than queues ({queues})"
        errors.append(invalid(f"{path}.handSize", hand, message))
    elif math.ceil(math.log2(queues) * hand) > _MAX_HASH_BITS:
        message = (
            f"required entropy bits of deckSize {queues} and handSize {hand} should not be "
            f"greater than {_MAX_HASH_BITS}"
        )
        errors.append(invalid(f"{path}.handSize", hand, message))
