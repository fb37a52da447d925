"""Rules for the schema of a CRD version beyond structure (validation.go of apiextensions).

Types, keywords that are not supported, list types and map keys, rules. Defaults are checked by
``default_validation.py``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from pilothouse.apimachinery.fieldpath import forbidden, invalid, not_supported, required
from pilothouse.apiserver.apiextensions.rule_compilation import (
    RULES,
    compile_node,
    uses_old_self,
)
from pilothouse.apiserver.apiextensions.rule_costs import (
    RULE_LIMIT,
    RuleContext,
    TotalCost,
    exceeded,
)

if TYPE_CHECKING:
    from pilothouse.apimachinery.fieldpath import ErrorList, Path

_Schema = dict[str, Any]
LIST_TYPE = "x-kubernetes-list-type"
MAP_TYPE = "x-kubernetes-map-type"
MAP_KEYS = "x-kubernetes-list-map-keys"
PRESERVE = "x-kubernetes-preserve-unknown-fields"
EMBEDDED = "x-kubernetes-embedded-resource"
TYPES = ("string", "number", "integer", "boolean", "array", "object")
_META = ("metadata", "kind", "apiVersion")
_REASONS = (
    "FieldValueRequired",
    "FieldValueForbidden",
    "FieldValueInvalid",
    "FieldValueDuplicate",
)
_NOT_SUPPORTED = (
    "id",
    "additionalItems",
    "patternProperties",
    "definitions",
    "dependencies",
    "$ref",
)
_ROOT_ALLOWED = {
    "description": "Description",
    "type": "Type",
    "format": "Format",
    "title": "Title",
    "maximum": "Maximum",
    "exclusiveMaximum": "ExclusiveMaximum",
    "minimum": "Minimum",
    "exclusiveMinimum": "ExclusiveMinimum",
    "maxLength": "MaxLength",
    "minLength": "MinLength",
    "pattern": "Pattern",
    "maxItems": "MaxItems",
    "minItems": "MinItems",
    "uniqueItems": "UniqueItems",
    "multipleOf": "MultipleOf",
    "required": "Required",
    "items": "Items",
    "properties": "Properties",
    "externalDocs": "ExternalDocs",
    "example": "Example",
    PRESERVE: "XPreserveUnknownFields",
    "x-kubernetes-validations": "XValidations",
}


@dataclass(frozen=True, slots=True)
class Options:
    """What an update does not ask for when the old object did without it."""

    valid_types: bool = True
    atomic_sets: bool = True
    map_keys: bool = True
    pruned_defaults: bool = True


@dataclass(frozen=True, slots=True)
class _Place:
    """What holds for a node because of the nodes around it."""

    root: bool = False
    in_meta: bool = False
    no_defaults: str = ""
    uncorrelated: Path | None = None
    context: RuleContext | None = None
    """None inside of junctors, where rules are not looked at."""


def schema_errors(schema: _Schema, path: Path, options: Options, *, rules: bool) -> ErrorList:
    """``rules``: x-kubernetes-validations are compiled (the schema is structural)."""
    errors: ErrorList = []
    rule_errors: ErrorList = []
    total = TotalCost()
    context = RuleContext(schema, total) if rules else None
    _walk(schema, path, options, _Place(root=True, context=context), errors, rule_errors)
    return errors + (rule_errors + total.errors(path) if not errors else [])


def root_status_errors(schema: _Schema, path: Path) -> ErrorList:
    """With a status sub-resource the root may only hold what does not concern status."""
    for key, value in schema.items():
        if not value and value != 0:
            continue
        if key == "type":
            if value != "object":
                detail = (
                    'only "object" is allowed as the type at the root of the schema if the status '
                    "subresource is enabled"
                )
                return [invalid(path.child("openAPIV3Schema.type"), value, detail)]
        elif key not in _ROOT_ALLOWED:
            detail = (
                f"only [{' '.join(_ROOT_ALLOWED.values())}] fields are allowed at the root of the "
                "schema if the status subresource is enabled"
            )
            return [invalid(path.child("openAPIV3Schema"), schema, detail)]
    return []


def _walk(
    schema: _Schema,
    path: Path,
    options: Options,
    place: _Place,
    errors: ErrorList,
    rules: ErrorList,
) -> None:
    before = len(errors)
    _keywords(schema, path, options, place, errors)
    if schema.get("uniqueItems"):
        detail = "uniqueItems cannot be set to true since the runtime complexity becomes quadratic"
        errors.append(forbidden(path.child("uniqueItems"), detail))
    inner = replace(place, root=False)
    _additional(schema, path, options, inner, errors, rules)
    for key, field in (schema.get("properties") or {}).items():
        below = inner
        if schema.get(MAP_TYPE) == "atomic" and below.uncorrelated is None:
            below = replace(below, uncorrelated=path)
        if (place.root or schema.get(EMBEDDED)) and key in _META:
            below = replace(below, in_meta=True)
            if place.root:
                below = replace(below, no_defaults=f"in top-level {key}")
        below = _with_context(below, field, key)
        _walk(field, path.child("properties").key(key), options, below, errors, rules)
    junctor = replace(inner, context=None)
    if isinstance(schema.get("not"), dict):
        _walk(schema["not"], path.child("not"), options, junctor, errors, rules)
    for key in ("allOf", "oneOf", "anyOf"):
        for i, each in enumerate(schema.get(key) or ()):
            _walk(each, path.child(key).index(i), options, junctor, errors, rules)
    for key, each in (schema.get("definitions") or {}).items():
        _walk(each, path.child("definitions").key(key), options, junctor, errors, rules)
    _items(schema, path, options, inner, errors, rules)
    for key, each in (schema.get("dependencies") or {}).items():
        if isinstance(each, dict):
            _walk(each, path.child("dependencies").key(key), options, junctor, errors, rules)
    _extensions(schema, path, options, errors)
    _rule_shapes(schema, path, errors)
    if place.context is not None and len(errors) == before:
        _rule_expressions(schema, path, place, place.context, rules)


def _with_context(place: _Place, schema: _Schema, step: str) -> _Place:
    context = place.context
    return place if context is None else replace(place, context=context.child(schema, step))


def _additional(
    schema: _Schema,
    path: Path,
    options: Options,
    place: _Place,
    errors: ErrorList,
    rules: ErrorList,
) -> None:
    additional = schema.get("additionalProperties")
    if additional is None:
        return
    where = path.child("additionalProperties")
    if schema.get("properties") and additional is not True:
        detail = "additionalProperties and properties are mutual exclusive"
        errors.append(forbidden(where, detail))
    if isinstance(additional, dict):
        if place.in_meta:
            reason = "inside additionalProperties applying to object metadata"
            place = replace(place, no_defaults=reason)
        place = _with_context(place, additional, "@element")
        _walk(additional, where, options, place, errors, rules)


def _items(
    schema: _Schema,
    path: Path,
    options: Options,
    place: _Place,
    errors: ErrorList,
    rules: ErrorList,
) -> None:
    items = schema.get("items")
    if items is None:
        return
    if schema.get(LIST_TYPE) != "map" and place.uncorrelated is None:
        place = replace(place, uncorrelated=path)
    where = path.child("items")
    if isinstance(items, dict):
        place = _with_context(place, items, "@element")
        _walk(items, where, options, place, errors, rules)
    else:
        for i, each in enumerate(items):
            _walk(each, where.index(i), options, place, errors, rules)


def _keywords(
    schema: _Schema, path: Path, options: Options, place: _Place, errors: ErrorList
) -> None:
    type_ = schema.get("type") or ""
    if options.valid_types and type_ and type_ not in TYPES:
        errors.append(not_supported(path.child("type"), type_, sorted(TYPES)))
    if schema.get("default") is not None and place.no_defaults:
        detail = f"must not be set {place.no_defaults}"
        errors.append(forbidden(path.child("default"), detail))
    for key in _NOT_SUPPORTED:
        if schema.get(key) is not None:
            errors.append(forbidden(path.child(key), f"{key} is not supported"))
    if type_ == "null":
        detail = "type cannot be set to null, use nullable as an alternative"
        errors.append(forbidden(path.child("type"), detail))
    if isinstance(schema.get("items"), list):
        detail = "items must be a schema object and not an array"
        errors.append(forbidden(path.child("items"), detail))
    if place.in_meta and schema.get(EMBEDDED):
        detail = "must not be used inside of resource meta"
        errors.append(forbidden(path.child(EMBEDDED), detail))


def _extensions(schema: _Schema, path: Path, options: Options, errors: ErrorList) -> None:
    type_ = schema.get("type") or ""
    if schema.get(PRESERVE) is False:
        errors.append(invalid(path.child(PRESERVE), False, "must be true or undefined"))
    map_type, list_type = schema.get(MAP_TYPE), schema.get(LIST_TYPE)
    if map_type is not None:
        if type_ != "object":
            errors.append(_wrong_type(path, type_, f"must be object if {MAP_TYPE} is specified"))
        if map_type not in ("atomic", "granular"):
            allowed = ("atomic", "granular")
            errors.append(not_supported(path.child(MAP_TYPE), map_type, allowed))
    items = schema.get("items")
    item = items if isinstance(items, dict) else None
    if list_type is not None:
        if type_ != "array":
            errors.append(_wrong_type(path, type_, f"must be array if {LIST_TYPE} is specified"))
        elif options.atomic_sets and list_type == "set" and item is not None:
            errors += non_atomic_set(item, path)
        if list_type not in ("atomic", "set", "map"):
            kinds = ("atomic", "set", "map")
            errors.append(not_supported(path.child(LIST_TYPE), list_type, kinds, keep_order=True))
    keys = schema.get(MAP_KEYS) or ()
    if keys and list_type != "map":
        where, detail = path.child(LIST_TYPE), f"must be map if {MAP_KEYS} is non-empty"
        wrong = required(where, detail) if not list_type else invalid(where, list_type, detail)
        errors.append(wrong)
    if list_type == "map":
        _map_list(schema, items, item, path, errors)
    if options.map_keys and item is not None:
        errors += map_key_errors(schema, path)


def _wrong_type(path: Path, type_: str, detail: str) -> Any:
    where = path.child("type")
    return invalid(where, type_, detail) if type_ else required(where, detail)


def non_atomic_set(item: _Schema, path: Path) -> ErrorList:
    where, type_ = path.child("items"), item.get("type")
    detail = f"must be atomic as item of a list with {LIST_TYPE}=set"
    list_type = item.get(LIST_TYPE)
    if type_ == "array" and list_type not in (None, "atomic"):
        return [invalid(where.child(LIST_TYPE), list_type, detail)]
    if type_ == "object" and item.get(MAP_TYPE) != "atomic":
        return [invalid(where.child(MAP_TYPE), list_type, detail)]
    return []


def _map_list(
    schema: _Schema, items: Any, item: _Schema | None, path: Path, errors: ErrorList
) -> None:
    keys = schema.get(MAP_KEYS) or []
    where = path.child(MAP_KEYS)
    if not keys:
        errors.append(required(where, f"must not be empty if {LIST_TYPE} is map"))
    if items is None:
        detail = f"must have a schema if {LIST_TYPE} is map"
        errors.append(required(path.child("items"), detail))
    elif item is None:
        detail = f"must only have a single schema if {LIST_TYPE} is map"
        errors.append(invalid(path.child("items"), items, detail))
    elif item.get("type") != "object":
        detail = f"must be object if parent array's {LIST_TYPE} is map"
        errors.append(invalid(path.child("items").child("type"), item.get("type") or "", detail))
    else:
        seen: set[str] = set()
        properties = item.get("properties") or {}
        for key in keys:
            if key not in properties:
                detail = "entries must all be names of item properties"
                errors.append(invalid(where, keys, detail))
            elif properties[key].get("type") in ("array", "object"):
                at = path.child("items").child("properties").key(key).child("type")
                detail = f"must be a scalar type if parent array's {LIST_TYPE} is map"
                errors.append(invalid(at, item["type"], detail))
            if key in seen:
                errors.append(invalid(where, keys, "must not contain duplicate entries"))
            seen.add(key)


def map_key_errors(schema: _Schema, path: Path) -> ErrorList:
    """Items of sets and maps are never null; the keys of maps are always there."""
    list_type, item = schema.get(LIST_TYPE), schema.get("items")
    errors: ErrorList = []
    if list_type not in ("set", "map") or not isinstance(item, dict):
        return errors
    where = path.child("items")
    if item.get("nullable"):
        detail = f"cannot be nullable when {LIST_TYPE} is {list_type}"
        errors.append(forbidden(where.child("nullable"), detail))
    if list_type == "map":
        properties = item.get("properties") or {}
        for key in schema.get(MAP_KEYS) or ():
            if key not in properties:
                continue
            at = where.child("properties").key(key)
            if key not in (item.get("required") or ()) and properties[key].get("default") is None:
                detail = (
                    f"this property is in {MAP_KEYS}, so it must have a default or be a required "
                    "property"
                )
                errors.append(required(at.child("default"), detail))
            if properties[key].get("nullable"):
                detail = f"this property is in {MAP_KEYS}, so it cannot be nullable"
                errors.append(forbidden(at.child("nullable"), detail))
    return errors


def _rule_shapes(schema: _Schema, path: Path, errors: ErrorList) -> None:
    for i, rule in enumerate(schema.get(RULES) or ()):
        where = path.child(RULES).index(i)
        text, message = rule.get("rule") or "", rule.get("message") or ""
        expression, field = rule.get("messageExpression") or "", rule.get("fieldPath") or ""
        if not text.strip():
            errors.append(required(where.child("rule"), "rule is not specified"))
        elif message and not message.strip():
            detail = "must be non-empty if specified"
            errors.append(invalid(where.child("message"), message, detail))
        elif re.search(r"[\n\r]", message.strip()):
            errors.append(invalid(where.child("message"), message, "must not contain line breaks"))
        elif re.search(r"[\n\r]", text.strip()) and not message.strip():
            detail = "message must be specified if rule contains line breaks"
            errors.append(required(where.child("message"), detail))
        if expression and not expression.strip():
            detail = "messageExpression must be non-empty if specified"
            errors.append(required(where.child("messageExpression"), detail))
        if rule.get("reason") is not None and rule["reason"] not in _REASONS:
            errors.append(not_supported(where.child("reason"), rule["reason"], sorted(_REASONS)))
        if field:
            at = where.child("fieldPath")
            if not field.strip():
                errors.append(invalid(at, field, "must be non-empty if specified"))
            if re.search(r"[\n\r]", field):
                errors.append(invalid(at, field, "must not contain line breaks"))
            if field_at(schema, field)[1]:
                errors.append(invalid(at, field, "must be a valid path"))


def _rule_expressions(
    schema: _Schema, path: Path, place: _Place, context: RuleContext, errors: ErrorList
) -> None:
    if not schema.get(RULES):
        return
    declared = context.declared()
    compiled_rules, _ = compile_node(schema, root=place.root, declared=declared, costs=True)
    for i, (rule, compiled) in enumerate(zip(schema[RULES], compiled_rules, strict=True)):
        where = path.child(RULES).index(i)
        at, message_at = where.child("rule"), where.child("messageExpression")
        cost = context.expression_cost(compiled.cost)
        if cost > RULE_LIMIT:
            errors.append(forbidden(at, exceeded("estimated rule cost", cost, RULE_LIMIT)))
        context.total.add(at, cost)
        shown = _go_rule(rule)
        if compiled.error:
            errors.append(invalid(at, shown, compiled.error))
        if compiled.message_error:
            errors.append(invalid(message_at, shown, compiled.message_error))
        elif compiled.message is not None:
            cost = compiled.message_cost
            if cost > RULE_LIMIT:
                detail = exceeded("estimated messageExpression cost", cost, RULE_LIMIT)
                errors.append(forbidden(message_at, detail))
            context.total.add(message_at, cost)
        if compiled.transition or (compiled.error and uses_old_self(rule.get("rule") or "")):
            if place.uncorrelated is not None and compiled.transition:
                detail = (
                    "oldSelf cannot be used on the uncorrelatable portion of the schema within "
                    f"{place.uncorrelated}"
                )
                errors.append(invalid(at, rule["rule"], detail))
        elif rule.get("optionalOldSelf") is not None:
            detail = "may not be set if oldSelf is not used in rule"
            errors.append(invalid(where.child("optionalOldSelf"), rule["optionalOldSelf"], detail))


def _go_rule(rule: dict[str, Any]) -> dict[str, Any]:
    """A rule as Go's own type for it prints."""
    return {
        "Rule": rule.get("rule") or "",
        "Message": rule.get("message") or "",
        "MessageExpression": rule.get("messageExpression") or "",
        "Reason": rule.get("reason"),
        "FieldPath": rule.get("fieldPath") or "",
        "OptionalOldSelf": rule.get("optionalOldSelf"),
    }


_STEP = re.compile(r"\.(?P<name>[^.\[\]]*)|\[(?P<quoted>'(?:\\.|[^'\\])*'|[^\]]*)(?P<close>\]?)")


def field_at(
    schema: _Schema, path: str, *, brackets: bool = True
) -> tuple[_Schema | None, str, list[str]]:
    """(the schema that ``path`` leads to, why it leads nowhere, its steps)."""
    at, steps = 0, list[str]()
    current: _Schema = schema
    while at < len(path):
        match = _STEP.match(path, at)
        if match is None:
            token = re.split(r"[.\[\]]", path[at:])[0] or path[at]
            return None, f"expected [ or . but got: {token}", steps
        name = match["name"]
        if name is None:
            if not brackets:
                return None, "array notation is not allowed", steps
            quoted = match["quoted"]
            if len(quoted) < 2 or quoted[0] != "'" or quoted[-1] != "'":
                return None, f"expected single quoted string but got {quoted}", steps
            if not match["close"]:
                return None, "unexpected end of JSON path", steps
            name = re.sub(r"\\(.)", r"\1", quoted[1:-1])
        elif not name:
            return None, "unexpected end of JSON path", steps
        properties = current.get("properties")
        additional = current.get("additionalProperties")
        if properties is not None:
            found = properties.get(name)
        else:
            found = additional if isinstance(additional, dict) else None
        if found is None:
            return None, "does not refer to a valid field", steps
        current = found
        steps.append(name)
        at = match.end()
    return current, "", steps
