"""Does an applied object fit its schema? (structured-merge-diff's typed validation)

Only server-side apply asks: the applied object is a partial one, and a field that the schema
does not know would otherwise be owned and never seen again.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from pilothouse.apimachinery.managedfields.fieldset import path_text
from pilothouse.apimachinery.managedfields.typed import TypedError, child_schema, item_element
from pilothouse.apimachinery.patch.strategic_meta import format_value
from pilothouse.apimachinery.typeschema import ANY

if TYPE_CHECKING:
    from pilothouse.apimachinery.typeschema import TypeSchema


def validate(obj: dict[str, Any], schema: TypeSchema) -> None:
    """:raises TypedError: with all errors, in upstream's wording."""
    errors: list[str] = []
    _walk(obj, schema, "", errors)
    if len(errors) == 1:
        raise TypedError(errors[0])
    if errors:
        raise TypedError("\n".join(["errors:", *(f"  {error}" for error in errors)]))


def _report(errors: list[str], path: str, text: str) -> None:
    errors.append(f"{path}: {text}" if path else text)


def _walk(value: Any, schema: TypeSchema, path: str, errors: list[str]) -> None:
    if value is None or schema.kind == "any":
        return
    if schema.kind in ("object", "map"):
        if type(value) is not dict:
            _report(errors, path, f"expected map, got {_shown(value)}")
            return
        known = schema.fields if schema.kind == "object" else None
        for key, child in value.items():
            if known is not None and key not in known and not _is_open(schema):
                _report(errors, f"{path}.{key}", "field not declared in schema")
                return
            if child is not None:
                _walk(child, child_schema(schema, key), f"{path}.{key}", errors)
    elif schema.kind == "list":
        _walk_list(value, schema, path, errors)
    else:
        _scalar(value, schema, path, errors)


def _is_open(schema: TypeSchema) -> bool:
    return schema.preserve_unknown or not schema.fields


def _walk_list(value: Any, schema: TypeSchema, path: str, errors: list[str]) -> None:
    if type(value) is not list:
        _report(errors, path, f"expected list, got {_shown(value)}")
        return
    seen: set[str] = set()
    for i, item in enumerate(value):
        step = f"[{i}]"
        if schema.list_type != "atomic":
            try:
                element = item_element(item, schema)
            except TypedError as error:
                _report(errors, path, f"element {i}: {error}")
                return
            step = path_text((element,))
            if element in seen:
                _report(errors, path, f"duplicate entries for key {step}")
            seen.add(element)
        _walk(item, schema.element or ANY, path + step, errors)


def _scalar(value: Any, schema: TypeSchema, path: str, errors: list[str]) -> None:
    if schema.int_or_string or schema.format in ("quantity", "int-or-string"):
        if isinstance(value, (dict, list)):
            _report(errors, path, f"expected any scalar, got {_shown(value)}")
    elif schema.kind == "string":
        if not isinstance(value, str):
            _report(errors, path, f"expected string, got &value.{_boxed(value)}")
    elif schema.kind == "boolean":
        if not isinstance(value, bool):
            _report(errors, path, f"expected boolean, got {_shown(value)}")
    elif isinstance(value, bool) or not isinstance(value, (int, float)):
        _report(errors, path, f"expected numeric (int or float), got {_go_type(value)}")


def _boxed(value: Any) -> str:
    return f"valueUnstructured{{Value:{_go_syntax(value)}}}"


def _go_syntax(value: Any) -> str:
    """Go's %#v."""
    if isinstance(value, dict):
        inner = ", ".join(f"{json.dumps(key)}:{_go_syntax(value[key])}" for key in sorted(value))
        return f"map[string]interface {{}}{{{inner}}}"
    if isinstance(value, list):
        return f"[]interface {{}}{{{', '.join(map(_go_syntax, value))}}}"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    return "interface {}(nil)" if value is None else format_value(value)


def _shown(value: Any) -> str:
    """Go's %v of what wraps the value."""
    return f"&{{{format_value(value)}}}"


def _go_type(value: Any) -> str:
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, str):
        return "string"
    return "map[string]interface {}" if isinstance(value, dict) else "[]interface {}"
