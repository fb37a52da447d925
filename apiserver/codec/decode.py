"""Request bodies to objects: the first thing that a write does.

``decode_body`` picks the format by content type, finds the kind, coerces the object to its type
schema and treats unknown and repeated fields as ``fieldValidation`` says. Whatever is wrong with
a body is a 400 (415 for an unknown content type) with the text of kube-apiserver's handlers.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import orjson

from pilothouse.apimachinery.errors import new_bad_request, new_unsupported_media_type
from pilothouse.apimachinery.schema import GroupVersionKind, parse_api_version
from pilothouse.apis.schemas import GoField
from pilothouse.apiserver.codec.coercion import CoercionError, coerce

if TYPE_CHECKING:
    from collections.abc import Callable

    from pilothouse.apimachinery.errors import StatusError
    from pilothouse.apimachinery.object import Obj
    from pilothouse.apimachinery.typeschema import TypeSchema

    SchemaFor = Callable[[GroupVersionKind], TypeSchema | None]

JSON = "application/json"
YAML = "application/yaml"
PROTOBUF = "application/vnd.kubernetes.protobuf"
MEDIA_TYPES = (JSON, YAML, PROTOBUF)
_PARSE_ERROR = "couldn't get version/kind; json parse error"
_TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_PARAMETERS = re.compile(
    rf'[^;]*(;\s*{_TOKEN}\s*=\s*({_TOKEN}|"(\\.|[^"\\])*")\s*)*;?\s*'
).fullmatch
"""A media type with parameters that Go's mime package reads."""
SCHEME = "pkg/api/legacyscheme/scheme.go:30"
"""How kube-apiserver's scheme calls itself in errors."""

__all__ = ["MEDIA_TYPES", "CoercionError", "Decoded", "coerce", "decode_body", "load_value"]


@dataclass(slots=True)
class Decoded:
    """A body that fits its type. ``warnings`` are for Warning headers (fieldValidation=Warn)."""

    obj: Obj
    gvk: GroupVersionKind
    warnings: list[str] = field(default_factory=list)


class _BodyError(Exception):
    """A decoder's complaint, before the handler's sentence is put around it. ``gvk`` is what
    was known of the kind by then."""

    def __init__(self, text: str, gvk: GroupVersionKind | None = None) -> None:
        super().__init__(text)
        self.gvk = gvk


def decode_body(
    body: bytes,
    content_type: str,
    *,
    default_gvk: GroupVersionKind,
    field_validation: str,
    schema_for: SchemaFor,
    bare_errors: bool = False,
) -> Decoded:
    """The object in ``body``, of kind ``default_gvk`` whether the body says so or not.

    ``field_validation`` is Strict, Warn (also when empty) or Ignore. ``bare_errors``: a 400 says
    what the decoder says, without the handlers' sentence around it.

    :raises StatusError: 400, or 415 for a content type that no decoder reads.
    """
    media_type = content_type.partition(";")[0].strip().lower() or JSON
    if media_type not in MEDIA_TYPES or (";" in content_type and _PARAMETERS(content_type) is None):
        raise new_unsupported_media_type(MEDIA_TYPES)
    try:
        if media_type == PROTOBUF:
            return _decode_protobuf(body, default_gvk, schema_for)
        return _decode_text(body, media_type, default_gvk, field_validation or "Warn", schema_for)
    except _BodyError as error:
        if bare_errors:
            raise new_bad_request(str(error)) from None
        raise _transformed(error, default_gvk, body) from None


def load_value(body: bytes, content_type: str, *, check_repeated: bool = False) -> tuple[Any, str]:
    """The JSON value of a JSON or YAML body and YAML's strict error ("" when there is none).

    For bodies that are no objects of a kind, such as patches.

    :raises StatusError: 400 with the decoder's text.
    """
    media_type = content_type.partition(";")[0].strip().lower()
    try:
        return _load(body, "yaml" in media_type, check_repeated)
    except _BodyError as error:
        raise new_bad_request(str(error)) from None


def _load(body: bytes, as_yaml: bool, check_repeated: bool) -> tuple[Any, str]:
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError:
        if as_yaml:
            return _load_yaml(body)
        value = _load_odd_json(body)
        _compact_length(body, value)
        return value, ""
    length = _compact_length(body, value)
    if check_repeated and length != len(body.strip()):
        from pilothouse.apiserver.codec.json_syntax import has_repeated_keys

        if has_repeated_keys(body):
            if as_yaml:
                return _load_yaml(body)
            value = _load_odd_json(body)
    return value, ""


def _compact_length(body: bytes, value: Any) -> int:
    """The length of ``value`` without spaces; a body that is no longer has no key twice.

    Whatever is stored and sent later is written by orjson, whose nesting is limited: deeper
    values are refused here. (Eight levels are left for what objects get wrapped in.)
    """
    try:
        return len(orjson.dumps([[[[[[[[value]]]]]]]])) - 16
    except TypeError:
        raise _BodyError("exceeded max depth") from None


def _load_yaml(body: bytes) -> tuple[Any, str]:
    from pilothouse.apiserver.codec.yaml_body import YAMLError, load

    try:
        return load(body)
    except YAMLError as error:
        raise _BodyError(str(error)) from None
    except RecursionError:
        raise _BodyError("exceeded max depth") from None


def _load_odd_json(body: bytes) -> Any:
    """Go's error text, or a value that orjson does not give (repeated keys, bad Unicode)."""
    from pilothouse.apiserver.codec.json_syntax import JSONSyntaxError, loads

    try:
        return loads(body)
    except JSONSyntaxError as error:
        raise _BodyError(str(error)) from None


def _decode_text(
    body: bytes,
    media_type: str,
    default_gvk: GroupVersionKind,
    field_validation: str,
    schema_for: SchemaFor,
) -> Decoded:
    strict = field_validation != "Ignore"
    try:
        value, yaml_error = _load(body, media_type == YAML, strict)
    except _BodyError as error:
        if media_type == YAML:
            raise _BodyError(str(error).removeprefix(_CONVERTING)) from None
        raise _BodyError(f"{_PARSE_ERROR}: {error}") from None
    gvk = _kind_of(value)
    default_schema = schema_for(default_gvk)
    if default_schema is not None and not isinstance(default_schema.extra, GoField):
        if not gvk.kind:
            shown = body.decode("utf-8", "replace")
            raise _BodyError(f"Object 'Kind' is missing in '{shown}'", gvk)
        # Whatever kind it says: who takes it looks at that.
        gvk, schema = _with_defaults(gvk, default_gvk), default_schema
    else:
        gvk = _with_defaults(gvk, default_gvk)
        schema = _schema_of(gvk, default_gvk, schema_for)
    errors: list[str] | None = [] if strict else None
    if yaml_error and errors is not None:
        errors.append(yaml_error.removeprefix(_CONVERTING))
    try:
        obj = coerce({} if value is None else value, schema, errors)
    except CoercionError as error:
        raise _BodyError(error.message, gvk) from None
    if errors and field_validation == "Strict":
        raise _BodyError(f"strict decoding error: {', '.join(errors)}", gvk)
    _check_version(gvk, default_gvk)
    return Decoded(_with_kind(obj, gvk), gvk, _warnings(errors or []))


def _decode_protobuf(body: bytes, default_gvk: GroupVersionKind, schema_for: SchemaFor) -> Decoded:
    from pilothouse.apiserver.codec.protobuf import ProtobufError, decode_object, open_envelope

    try:
        envelope = open_envelope(body)
    except ProtobufError as error:
        raise _BodyError(str(error)) from None
    try:
        group, version = parse_api_version(envelope.api_version)
    except ValueError as error:
        raise _BodyError(str(error)) from None
    gvk = _with_defaults(GroupVersionKind(group, version, envelope.kind), default_gvk)
    schema = _schema_of(gvk, default_gvk, schema_for)
    if not isinstance(schema.extra, GoField):
        raise new_unsupported_media_type((JSON, YAML))
    try:
        obj = coerce(decode_object(envelope.raw, schema), schema)
        _compact_length(body, obj)
    except (ProtobufError, CoercionError, _BodyError) as error:
        raise _BodyError(str(error), gvk) from None
    _check_version(gvk, default_gvk)
    return Decoded(_with_kind(obj, gvk), gvk)


def _kind_of(value: Any) -> GroupVersionKind:
    prefix = f"{_PARSE_ERROR}: json: cannot unmarshal"
    if value is None:
        return GroupVersionKind("", "", "")
    if not isinstance(value, dict):
        from pilothouse.apiserver.codec.go_values import json_kind

        raise _BodyError(
            f"{prefix} {json_kind(value)} into Go value of type struct "
            '{ APIVersion string "json:\\"apiVersion,omitempty\\""; '
            'Kind string "json:\\"kind,omitempty\\"" }'
        )
    api_version, kind = value.get("apiVersion"), value.get("kind")
    for name, found in (("apiVersion", api_version), ("kind", kind)):
        if found is not None and not isinstance(found, str):
            from pilothouse.apiserver.codec.go_values import json_kind

            raise _BodyError(
                f"{prefix} {json_kind(found)} into Go struct field .{name} of type string"
            )
    try:
        group, version = parse_api_version(api_version or "")
    except ValueError as error:
        raise _BodyError(str(error)) from None
    return GroupVersionKind(group, version, kind or "")


def _with_defaults(gvk: GroupVersionKind, default: GroupVersionKind) -> GroupVersionKind:
    group, version, kind = gvk
    if not version and not group:
        group, version = default.group, default.version
    elif not version and group == default.group:
        version = default.version
    return GroupVersionKind(group, version, kind or default.kind)


def _schema_of(
    gvk: GroupVersionKind, default: GroupVersionKind, schema_for: SchemaFor
) -> TypeSchema:
    schema = schema_for(gvk)
    if schema is None:
        api_version = f'"{gvk.api_version}"'
        raise _BodyError(
            f'no kind "{gvk.kind}" is registered for version {api_version} in scheme "{SCHEME}"',
            gvk,
        )
    if gvk.kind == default.kind:
        return schema
    own = schema.go_type or f"{gvk.version}.{gvk.kind}"
    package = default.group.partition(".")[0] or "core"
    raise _BodyError(f"converting ({own}) to ({package}.{default.kind}): unknown conversion", gvk)


def _check_version(gvk: GroupVersionKind, expected: GroupVersionKind) -> None:
    """Options are known to every group version (metav1.AddToGroupVersion)."""
    if gvk[:2] != expected[:2] and not gvk.kind.endswith("Options"):
        raise new_bad_request(
            f"the API version in the data ({gvk.api_version}) does not match the expected API "
            f"version ({expected.api_version})"
        )


def _with_kind(obj: Obj, gvk: GroupVersionKind) -> Obj:
    """The object with kind and apiVersion set (and in front when they were missing)."""
    if obj.get("kind") == gvk.kind and obj.get("apiVersion") == gvk.api_version:
        return obj
    return {"kind": gvk.kind, "apiVersion": gvk.api_version} | {
        key: value for key, value in obj.items() if key not in ("kind", "apiVersion")
    }


_CONVERTING = "error converting YAML to JSON: "
"""In errors of patches, not in those of objects."""
_YAML_PREFIX = "yaml: unmarshal errors:\n"


def _warnings(errors: list[str]) -> list[str]:
    found: list[str] = []
    for error in errors:
        rest = error.removeprefix(_YAML_PREFIX)
        if rest == error:
            found.append(error)
        else:
            found.extend(line.strip() for line in rest.split("\n"))
    return found


def _transformed(error: _BodyError, expected: GroupVersionKind, body: bytes) -> StatusError:
    """The handlers' sentence around a decoder's complaint (transformDecodeError)."""
    gvk = error.gvk
    if gvk is not None and gvk.kind:
        return new_bad_request(
            f'{gvk.kind} in version "{gvk.version}" cannot be handled as a {expected.kind}: {error}'
        )
    return new_bad_request(
        f"the object provided is unrecognized (must be of type {expected.kind}): {error} "
        f"({_summary(body)})"
    )


def _summary(body: bytes) -> str:
    if not body:
        return "<empty>"
    more = " ..." if len(body) > 30 else ""
    if body[:1] == b"{":
        return body[:30].decode("utf-8", "replace") + more
    return body[:30].hex() + more
