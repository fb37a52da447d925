"""Whether a CRD's schema is structural (apiextensions-apiserver pkg/apiserver/schema).

A structural schema gives every value a type outside of allOf, anyOf, oneOf and not; what stands
inside of those only restricts. Errors come sorted by their text, as upstream sorts them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pilothouse.apimachinery.fieldpath import forbidden, invalid, required
from pilothouse.apiserver.apiextensions.go_regexp import RegexpError, compile_go

if TYPE_CHECKING:
    from pilothouse.apimachinery.fieldpath import ErrorList, Path

_Schema = dict[str, Any]
PRESERVE = "x-kubernetes-preserve-unknown-fields"
EMBEDDED = "x-kubernetes-embedded-resource"
INT_OR_STRING = "x-kubernetes-int-or-string"
_INT_OR_STRING_ANY = [{"type": "integer"}, {"type": "string"}]
_ROOT, _ITEM, _FIELD = range(3)
_EMPTY_TYPE = {
    _ROOT: "must not be empty at the root",
    _ITEM: "must not be empty for specified array items",
    _FIELD: "must not be empty for specified object fields",
}
_UNSUPPORTED = (
    ("id", "id"),
    ("$schema", "schema"),
    ("$ref", "$ref"),
    ("patternProperties", "patternProperties"),
    ("dependencies", "dependencies"),
    ("additionalItems", "additionalItems"),
    ("definitions", "definitions"),
)
_NESTED_FORBIDDEN = (
    ("default", "must be undefined to be structural"),
    ("title", "must be empty to be structural"),
    ("description", "must be empty to be structural"),
    ("nullable", "must be false to be structural"),
    (PRESERVE, "must be false to be structural"),
    (EMBEDDED, "must be false to be structural"),
    (INT_OR_STRING, "must be false to be structural"),
    ("x-kubernetes-list-map-keys", "must be empty to be structural"),
    ("x-kubernetes-list-type", "must be undefined to be structural"),
    ("x-kubernetes-map-type", "must be undefined to be structural"),
    ("x-kubernetes-validations", "must be empty to be structural"),
)


def subschemas(schema: _Schema) -> list[_Schema]:
    """All schemas directly below, junctors included."""
    found: list[Any] = []
    items = schema.get("items")
    found += items if isinstance(items, list) else [items]
    for key in ("allOf", "anyOf", "oneOf"):
        found += schema.get(key) or ()
    found += [schema.get("not"), schema.get("additionalProperties"), schema.get("additionalItems")]
    for key in ("properties", "patternProperties", "definitions", "dependencies"):
        found += (schema.get(key) or {}).values()
    return [each for each in found if isinstance(each, dict)]


def conversion_error(schema: _Schema) -> str:
    """Why there is no structural form at all ("" when there is one)."""
    for key, name in _UNSUPPORTED:
        if schema.get(key) is not None and schema[key] != "" and schema[key] != {}:
            return f"OpenAPIV3Schema '{name}' is not supported"
    if schema.get(PRESERVE) is False:
        return f"internal error: '{PRESERVE}' must be true or undefined"
    if isinstance(schema.get("items"), list):
        return "OpenAPIV3Schema 'items' must be a schema, but is an array"
    for each in subschemas(schema):
        text = conversion_error(each)
        if text:
            return text
    return ""


def structural_errors(path: Path, schema: _Schema) -> ErrorList:
    errors = _invariants(schema, _ROOT, path)
    errors += _completeness(schema, schema, path, path)
    return sorted(errors, key=str)


def _invariants(schema: _Schema, level: int, path: Path) -> ErrorList:
    errors: ErrorList = []
    type_, items = schema.get("type") or "", schema.get("items")
    if type_ == "array" and items is None:
        errors.append(required(path.child("items"), "must be specified"))
    if isinstance(items, dict):
        errors += _invariants(items, _ITEM, path.child("items"))
    properties = schema.get("properties") or {}
    for key, field in properties.items():
        errors += _invariants(field, _FIELD, path.child("properties").key(key))
    additional = schema.get("additionalProperties")
    if additional is not None:
        where = path.child("additionalProperties")
        if level == _ROOT:
            errors.append(forbidden(where, "must not be used at the root"))
        if isinstance(additional, dict):
            errors += _invariants(additional, _FIELD, where)
    errors += _extensions(schema, path)
    errors += _values(schema, path)
    errors += _type_errors(schema, level, path)
    errors += _metadata(properties, level, bool(schema.get(EMBEDDED)), path)
    if schema.get(EMBEDDED) and not schema.get(PRESERVE) and not properties:
        detail = f"must not be empty if {EMBEDDED} is true without {PRESERVE}"
        errors.append(required(path.child("properties"), detail))
    return errors


def _extensions(schema: _Schema, path: Path) -> ErrorList:
    errors: ErrorList = []
    if schema.get(INT_OR_STRING):
        for key in (PRESERVE, EMBEDDED):
            if schema.get(key):
                detail = f"must be false if {INT_OR_STRING} is true"
                errors.append(invalid(path.child(key), True, detail))
    return errors


def _type_errors(schema: _Schema, level: int, path: Path) -> ErrorList:
    errors: ErrorList = []
    type_, where = schema.get("type") or "", path.child("type")
    embedded = schema.get(EMBEDDED)
    if embedded and type_ != "object":
        detail = f"must be object if {EMBEDDED} is true"
        errors.append(invalid(where, type_, detail) if type_ else required(where, detail))
    elif not type_ and not schema.get(INT_OR_STRING) and not schema.get(PRESERVE):
        errors.append(required(where, _EMPTY_TYPE[level]))
    if embedded and schema.get("additionalProperties") is not None:
        detail = f"must not be used if {EMBEDDED} is set"
        errors.append(forbidden(path.child("additionalProperties"), detail))
    if level == _ROOT and type_ and type_ != "object":
        errors.append(invalid(where, type_, "must be object at the root"))
    return errors


def _metadata(properties: _Schema, level: int, embedded: bool, path: Path) -> ErrorList:
    errors: ErrorList = []
    checked = level == _ROOT or embedded
    for key in ("kind", "apiVersion"):
        if checked and key in properties:
            type_ = properties[key].get("type") or ""
            if type_ != "string":
                where = path.child("properties").key(key).child("type")
                errors.append(invalid(where, type_, "must be string"))
    metadata = properties.get("metadata")
    if metadata is None:
        return errors
    where = path.child("properties").key("metadata")
    type_ = metadata.get("type") or ""
    if checked and type_ != "object":
        errors.append(invalid(where.child("type"), type_, "must be object"))
    if level == _ROOT:
        names = set(metadata.get("properties") or ())
        rest = {key for key in metadata if key not in ("type", "default", "properties")}
        if (names and not names <= {"name", "generateName"}) or rest:
            detail = (
                "must not specify anything other than name and generateName, but metadata is "
                "implicitly specified"
            )
            errors.append(forbidden(where, detail))
    return errors


def _is_int_or_string(alternatives: Any) -> bool:
    return bool(alternatives == _INT_OR_STRING_ANY)


def _values(schema: _Schema, path: Path, skip_any: bool | None = None) -> ErrorList:
    """The restrictions of a node. The two spellings of int-or-string may name types."""
    errors: ErrorList = []
    structural = skip_any is None
    skip = _is_int_or_string(schema.get("anyOf")) if structural else bool(skip_any)
    all_of: list[_Schema] = schema.get("allOf") or []
    skip_first = structural and bool(all_of) and _is_int_or_string(all_of[0].get("anyOf"))
    if not skip:
        for i, each in enumerate(schema.get("anyOf") or ()):
            errors += _nested(each, path.child("anyOf").index(i))
    for i, each in enumerate(all_of):
        errors += _nested(each, path.child("allOf").index(i), skip_any=skip_first and i == 0)
    for i, each in enumerate(schema.get("oneOf") or ()):
        errors += _nested(each, path.child("oneOf").index(i))
    if schema.get("not") is not None:
        errors += _nested(schema["not"], path.child("not"))
    pattern = schema.get("pattern")
    if pattern:
        try:
            compile_go(pattern)
        except RegexpError as error:
            detail = f"must be a valid regular expression, but isn't: {error}"
            errors.append(invalid(path.child("pattern"), pattern, detail))
    return errors


def _nested(schema: _Schema, path: Path, *, skip_any: bool = False) -> ErrorList:
    errors = _values(schema, path, skip_any)
    if isinstance(schema.get("items"), dict):
        errors += _nested(schema["items"], path.child("items"))
    for key, field in (schema.get("properties") or {}).items():
        errors += _nested(field, path.child("properties").key(key))
    if schema.get("type"):
        errors.append(forbidden(path.child("type"), "must be empty to be structural"))
    if schema.get("additionalProperties"):
        where = path.child("additionalProperties")
        errors.append(forbidden(where, "must be undefined to be structural"))
    for key, detail in _NESTED_FORBIDDEN:
        if schema.get(key) or (key == "default" and schema.get(key) is not None):
            errors.append(forbidden(path.child(key), detail))
    if "metadata" in (schema.get("properties") or {}):
        where = path.child("properties").key("metadata")
        errors.append(forbidden(where, "must not be specified in a nested context"))
    return errors


def _completeness(value: _Schema, schema: _Schema, at: Path, path: Path) -> ErrorList:
    """Whatever is restricted must be described outside of the junctors too."""
    errors: ErrorList = []
    if value.get("not") is not None:
        errors += _nested_completeness(value["not"], schema, at, path.child("not"))
    for key in ("allOf", "anyOf", "oneOf"):
        for i, each in enumerate(value.get(key) or ()):
            errors += _nested_completeness(each, schema, at, path.child(key).index(i))
    return errors


def _nested_completeness(value: _Schema, schema: _Schema | None, at: Path, path: Path) -> ErrorList:
    if schema is None:
        return [required(at, f"because it is defined in {path}")]
    errors = _completeness(value, schema, at, path)
    if isinstance(value.get("items"), dict):
        items = schema.get("items")
        errors += _nested_completeness(
            value["items"],
            items if isinstance(items, dict) else None,
            at.child("items"),
            path.child("items"),
        )
    known = schema.get("properties") or {}
    for key, field in (value.get("properties") or {}).items():
        here, there = at.child("properties").key(key), path.child("properties").key(key)
        if key not in known:
            errors.append(required(here, f"because it is defined in {there}"))
        else:
            errors += _nested_completeness(field, known[key], here, there)
    return errors
