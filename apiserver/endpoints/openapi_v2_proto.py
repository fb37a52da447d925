"""Swagger documents in gnostic's protobuf (openapi.v2 messages), encode only.

Messages are written by hand from tables of field numbers. Untyped values (defaults, enums,
extensions) travel as YAML text, for which JSON is good enough.
"""

from __future__ import annotations

import struct
from typing import Any

import orjson

from pilothouse.apimachinery.protobuf_wire import FIXED64, delimited, number, tag

_SCHEMA_TEXTS = {"$ref": 1, "format": 2, "title": 3, "description": 4, "pattern": 13}
_SCHEMA_DOUBLES = {"multipleOf": 6, "maximum": 7, "minimum": 9}
_SCHEMA_FLAGS = {"exclusiveMaximum": 8, "exclusiveMinimum": 10, "uniqueItems": 16}
_SCHEMA_INTEGERS = {
    "maxLength": 11,
    "minLength": 12,
    "maxItems": 14,
    "minItems": 15,
    "maxProperties": 17,
    "minProperties": 18,
}
_METHODS = {"get": 2, "put": 3, "post": 4, "delete": 5, "options": 6, "head": 7, "patch": 8}
_OPERATION_TEXTS = {"summary": 2, "description": 3, "operationId": 5}
_OPERATION_LISTS = {"tags": 1, "produces": 6, "consumes": 7, "schemes": 10}


def document(title: str, version: str, paths: bytes, definitions: bytes) -> bytes:
    """A Document around encoded NamedPathItems and NamedSchemas."""
    info = _text(1, title) + _text(2, version)
    key = _text(1, "apiKey") + _text(2, "authorization") + _text(3, "header")
    key += _text(4, "Bearer Token authentication")
    security_item = _named("BearerToken", delimited(2, key))
    requirement = delimited(1, _named("BearerToken", b""))
    return (
        _text(1, "2.0")
        + delimited(2, info)
        + delimited(8, paths)
        + delimited(9, definitions)
        + delimited(12, requirement)
        + delimited(13, delimited(1, security_item))
    )


def named_schema(name: str, schema: dict[str, Any]) -> bytes:
    """One entry of Definitions, with its tag."""
    return delimited(1, _named(name, _schema(schema)))


def named_path(path: str, item: dict[str, Any]) -> bytes:
    """One entry of Paths, with its tag."""
    content = b"".join(
        delimited(field, _operation(item[method]))
        for method, field in _METHODS.items()
        if method in item
    )
    content += b"".join(_parameters_item(9, each) for each in item.get("parameters", ()))
    return delimited(2, _named(path, content))


def _text(field: int, value: str) -> bytes:
    return delimited(field, value.encode())


def _named(name: str, value: bytes) -> bytes:
    return _text(1, name) + delimited(2, value)


def _any(value: Any) -> bytes:
    return delimited(2, orjson.dumps(value) + b"\n")


def _extensions(field: int, obj: dict[str, Any]) -> bytes:
    return b"".join(
        delimited(field, _named(key, _any(value)))
        for key, value in obj.items()
        if key.startswith("x-")
    )


def _schema(schema: dict[str, Any]) -> bytes:
    out: list[bytes] = []
    for key, value in schema.items():
        if key in _SCHEMA_TEXTS:
            out.append(_text(_SCHEMA_TEXTS[key], value))
        elif key in _SCHEMA_DOUBLES:
            out.append(tag(_SCHEMA_DOUBLES[key], FIXED64) + struct.pack("<d", value))
        elif key in _SCHEMA_FLAGS:
            out.append(number(_SCHEMA_FLAGS[key], 1 if value else 0))
        elif key in _SCHEMA_INTEGERS:
            out.append(number(_SCHEMA_INTEGERS[key], int(value)))
        else:
            out.append(_structure(key, value))
    out.append(_extensions(31, schema))
    return b"".join(out)


def _structure(key: str, value: Any) -> bytes:
    if key == "default":
        return delimited(5, _any(value))
    if key == "required":
        return b"".join(_text(19, name) for name in value)
    if key == "enum":
        return b"".join(delimited(20, _any(each)) for each in value)
    if key == "additionalProperties":
        inner = number(2, int(value)) if isinstance(value, bool) else delimited(1, _schema(value))
        return delimited(21, inner)
    if key == "type":
        types = value if isinstance(value, list) else [value]
        return delimited(22, b"".join(_text(1, each) for each in types))
    if key == "items":
        schemas = value if isinstance(value, list) else [value]
        return delimited(23, b"".join(delimited(1, _schema(each)) for each in schemas))
    if key == "properties":
        entries = (delimited(1, _named(name, _schema(each))) for name, each in value.items())
        return delimited(25, b"".join(entries))
    if key == "externalDocs":
        texts = _text(1, value.get("description", "")) + _text(2, value.get("url", ""))
        return delimited(29, texts)
    return delimited(30, _any(value)) if key == "example" else b""


def _operation(operation: dict[str, Any]) -> bytes:
    out = [
        _text(field, each)
        for key, field in _OPERATION_LISTS.items()
        for each in operation.get(key, ())
    ]
    out += [_text(f, operation[key]) for key, f in _OPERATION_TEXTS.items() if key in operation]
    out += [_parameters_item(8, each) for each in operation.get("parameters", ())]
    responses = b"".join(
        delimited(1, _named(code, delimited(1, _response(response))))
        for code, response in operation["responses"].items()
    )
    out.append(delimited(9, responses))
    out.append(_extensions(13, operation))
    return b"".join(out)


def _response(response: dict[str, Any]) -> bytes:
    content = _text(1, response["description"])
    if "schema" in response:
        content += delimited(2, delimited(1, _schema(response["schema"])))
    return content


def _parameters_item(field: int, parameter: dict[str, Any]) -> bytes:
    return delimited(field, delimited(1, _parameter(parameter)))


def _parameter(parameter: dict[str, Any]) -> bytes:
    name, text = parameter["name"], parameter.get("description", "")
    required = 1 if parameter.get("required") else 0
    if parameter["in"] == "body":
        body = _text(1, text) + _text(2, name) + _text(3, "body") + number(4, required)
        return delimited(1, body + delimited(5, _schema(parameter["schema"])))
    head = number(1, required) + _text(2, parameter["in"]) + _text(3, text) + _text(4, name)
    unique = 1 if parameter.get("uniqueItems") else 0
    if parameter["in"] == "query":
        return delimited(2, delimited(3, head + _text(6, parameter["type"]) + number(20, unique)))
    return delimited(2, delimited(4, head + _text(5, parameter["type"]) + number(18, unique)))
