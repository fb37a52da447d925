"""ConfigMaps and Secrets: keys, sizes, types and immutability."""

from __future__ import annotations

import base64
import binascii
from typing import TYPE_CHECKING

from pilothouse.apimachinery import names
from pilothouse.apis.meta.errors import (
    IMMUTABLE,
    add_all,
    forbidden,
    invalid,
    required,
    too_long,
)

if TYPE_CHECKING:
    from pilothouse.apimachinery.fieldpath import ErrorList
    from pilothouse.apimachinery.object import Obj

MAX_SIZE = 1024 * 1024
SERVICE_ACCOUNT_NAME = "kubernetes.io/service-account.name"
_IMMUTABLE = "field is immutable when `immutable` is set"


def _base64_size(text: str) -> int:
    return len(text) * 3 // 4 - text.count("=", -2)


def validate_config_map(config_map: Obj) -> ErrorList:
    errors: ErrorList = []
    binary = config_map.get("binaryData") or {}
    size = 0
    for key, value in (config_map.get("data") or {}).items():
        messages = names.is_config_map_key(key)
        if messages:
            add_all(errors, f"data[{key}]", key, messages)
        if key in binary:
            message = "duplicate of key present in binaryData"
            errors.append(invalid(f"data[{key}]", key, message))
        size += len(value) if value.isascii() else len(value.encode())
    for key, value in binary.items():
        messages = names.is_config_map_key(key)
        if messages:
            add_all(errors, f"binaryData[{key}]", key, messages)
        size += _base64_size(value)
    if size > MAX_SIZE:
        errors.append(too_long("[]", MAX_SIZE))
    return errors


def validate_config_map_update(config_map: Obj, old: Obj) -> ErrorList:
    errors: ErrorList = []
    _immutable(errors, config_map, old, ("data", "binaryData"))
    errors.extend(validate_config_map(config_map))
    return errors


def _immutable(errors: ErrorList, new: Obj, old: Obj, fields: tuple[str, ...]) -> None:
    if not old.get("immutable"):
        return
    if not new.get("immutable"):
        errors.append(forbidden("immutable", _IMMUTABLE))
    for field in fields:
        if (new.get(field) or {}) != (old.get(field) or {}):
            errors.append(forbidden(field, _IMMUTABLE))


def validate_secret(secret: Obj) -> ErrorList:
    errors: ErrorList = []
    data = secret.get("data") or {}
    size = 0
    for key, value in data.items():
        messages = names.is_config_map_key(key)
        if messages:
            add_all(errors, f"data[{key}]", key, messages)
        size += _base64_size(value or "")
    if size > MAX_SIZE:
        errors.append(too_long("data", MAX_SIZE))
    kind = secret.get("type") or ""
    if kind not in ("", "Opaque"):
        _secret_type(errors, secret, data, kind)
    return errors


def _secret_type(errors: ErrorList, secret: Obj, data: dict[str, str], kind: str) -> None:
    if kind == "kubernetes.io/service-account-token":
        annotations = (secret.get("metadata") or {}).get("annotations") or {}
        if not annotations.get(SERVICE_ACCOUNT_NAME):
            errors.append(required(f"metadata.annotations[{SERVICE_ACCOUNT_NAME}]"))
    elif kind == "kubernetes.io/dockercfg":
        _json_key(errors, data, ".dockercfg")
    elif kind == "kubernetes.io/dockerconfigjson":
        _json_key(errors, data, ".dockerconfigjson")
    elif kind == "kubernetes.io/basic-auth":
        if "username" not in data and "password" not in data:
            errors.append(required("data[username]"))
            errors.append(required("data[password]"))
    elif kind == "kubernetes.io/ssh-auth":
        if not data.get("ssh-privatekey"):
            errors.append(required("data[ssh-privatekey]"))
    elif kind == "kubernetes.io/tls":
        errors.extend(required(f"data[{key}]") for key in ("tls.crt", "tls.key") if key not in data)


def _json_key(errors: ErrorList, data: dict[str, str], key: str) -> None:
    if key not in data:
        errors.append(required(f"data[{key}]"))
        return
    message = _json_object_error(data[key] or "")
    if message:
        errors.append(invalid(f"data[{key}]", "<secret contents redacted>", message))


def _json_object_error(encoded: str) -> str:
    """Go's json.Unmarshal error for the commonest cases, empty when it is an object."""
    import json

    try:
        text = base64.b64decode(encoded).decode()
    except (binascii.Error, UnicodeDecodeError):
        return "invalid character looking for beginning of value"
    if not text.strip():
        return "unexpected end of JSON input"
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        if error.pos >= len(text.rstrip()):
            return "unexpected end of JSON input"
        shown = text[error.pos]
        quoted = {"'": "'\\''", '"': "'\"'"}.get(shown, f"'{shown}'")
        return f"invalid character {quoted} looking for beginning of value"
    if value is None or isinstance(value, dict):
        return ""
    kind = {bool: "bool", str: "string", list: "array"}.get(type(value), "number")
    return f"json: cannot unmarshal {kind} into Go value of type map[string]interface {{}}"


def validate_secret_update(secret: Obj, old: Obj) -> ErrorList:
    errors: ErrorList = []
    if (secret.get("type") or "") != (old.get("type") or ""):
        errors.append(invalid("type", secret.get("type") or "", IMMUTABLE))
    _immutable(errors, secret, old, ("data",))
    errors.extend(validate_secret(secret))
    return errors
