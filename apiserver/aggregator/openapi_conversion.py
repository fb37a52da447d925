"""OpenAPI v2 → v3, for extension servers that only speak the older one. Pure.

What kube-openapi's ``openapiconv`` does for the aggregator: schemas stay as they are but for their
references; bodies and responses move into ``content``.
"""

from __future__ import annotations

from typing import Any

_SCHEMA_KEYS = frozenset(("type", "format", "items", "default", "enum", "uniqueItems", "pattern"))
_METHODS = frozenset(("get", "put", "post", "delete", "options", "head", "patch"))
_JSON = ["application/json"]
_OLD, _NEW = "#/definitions/", "#/components/schemas/"

Obj = dict[str, Any]


def to_v3(title: str, version: str, definitions: Obj, paths: Obj) -> Obj:
    """A v3 document of the same definitions and paths."""
    return {
        "openapi": "3.0.0",
        "info": {"title": title, "version": version},
        "paths": {path: _path_item(item) for path, item in paths.items()},
        "components": {"schemas": {name: _moved(each) for name, each in definitions.items()}},
    }


def _moved(value: Any) -> Any:
    if isinstance(value, dict):
        return {
            key: inner.replace(_OLD, _NEW, 1)
            if key == "$ref" and isinstance(inner, str)
            else _moved(inner)
            for key, inner in value.items()
        }
    if isinstance(value, list):
        return [_moved(inner) for inner in value]
    return value


def _path_item(item: Obj) -> Obj:
    result: Obj = {}
    for key, value in item.items():
        if key == "parameters":
            result[key] = [_parameter(each) for each in value]
        elif key in _METHODS:
            result[key] = _operation(value)
        else:
            result[key] = value
    return result


def _parameter(parameter: Obj) -> Obj:
    if "$ref" in parameter:
        return parameter
    schema = {key: parameter[key] for key in parameter if key in _SCHEMA_KEYS}
    rest = {key: parameter[key] for key in parameter if key not in _SCHEMA_KEYS}
    return rest | {"schema": _moved(schema)}


def _operation(operation: Obj) -> Obj:
    consumes = operation.get("consumes") or ["*/*"]
    produces = operation.get("produces") or _JSON
    left_out = ("consumes", "produces", "schemes", "parameters", "responses")
    result = {key: value for key, value in operation.items() if key not in left_out}
    parameters = operation.get("parameters") or ()
    others = [_parameter(each) for each in parameters if each.get("in") != "body"]
    if others:
        result["parameters"] = others
    for body in parameters:
        if body.get("in") == "body":
            schema = _moved(body.get("schema") or {})
            result["requestBody"] = {"content": {kind: {"schema": schema} for kind in consumes}}
            if body.get("required"):
                result["requestBody"]["required"] = True
    result["responses"] = {
        code: _response(each, produces) for code, each in (operation.get("responses") or {}).items()
    }
    return result


def _response(response: Obj, produces: list[str]) -> Obj:
    result: Obj = {"description": response.get("description") or ""}
    if "schema" in response:
        schema = _moved(response["schema"])
        result["content"] = {kind: {"schema": schema} for kind in produces}
    return result
