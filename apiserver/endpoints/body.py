"""Request bodies → objects that fit their type, defaulted (handlers/create.go, update.go)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pilothouse.apimachinery.errors import new_bad_request, new_invalid
from pilothouse.apimachinery.schema import GroupKind
from pilothouse.apis.meta.errors import invalid
from pilothouse.apiserver.codec.decode import coerce, decode_body
from pilothouse.apiserver.codec.defaulting import apply_defaults

if TYPE_CHECKING:
    from pilothouse.apimachinery.errors import StatusError
    from pilothouse.apimachinery.object import Obj
    from pilothouse.apimachinery.schema import GroupVersionKind
    from pilothouse.apimachinery.typeschema import TypeSchema
    from pilothouse.apiserver.endpoints.handler import Server
    from pilothouse.apiserver.registry.resources import ServedResource
    from pilothouse.apiserver.request.context import Request


def decode(server: Server, request: Request, served: ServedResource, field_validation: str) -> Obj:
    """The body as an object of ``served``'s kind, defaulted, the caller's own."""
    obj = _decode(server, request, served.gvk, served.schema, field_validation)
    default(served, obj)
    if request.audit is not None:
        request.audit.set_request(obj, served.schema)
    return obj


def decode_kind(
    server: Server,
    request: Request,
    gvk: GroupVersionKind,
    schema: TypeSchema,
    field_validation: str,
) -> Obj:
    """The body as an object of kind ``gvk`` (a sub-resource's may differ from its parent's).

    :raises StatusError: 400, 415.
    """
    obj = _decode(server, request, gvk, schema, field_validation)
    if request.audit is not None:
        request.audit.set_request(obj, schema)
    return obj


def _decode(
    server: Server,
    request: Request,
    gvk: GroupVersionKind,
    schema: TypeSchema,
    field_validation: str,
) -> Obj:
    if request.obj is not None:
        obj = request.obj
        obj.setdefault("kind", gvk.kind)
        obj.setdefault("apiVersion", gvk.api_version)
        if obj["apiVersion"] != gvk.api_version or obj["kind"] != gvk.kind:
            raise new_bad_request(
                f"the API version in the data ({obj['apiVersion']}, {obj['kind']}) does not match "
                f"the expected API version ({gvk.api_version}, {gvk.kind})"
            )
        obj = coerce(obj, schema)
    else:
        registry = server.registry

        def schema_for(wanted: GroupVersionKind) -> TypeSchema | None:
            if wanted == gvk:
                return schema
            other = registry.by_kind(wanted)
            return None if other is None else other.schema

        decoded = decode_body(
            request.body,
            request.headers.get("content-type", ""),
            default_gvk=gvk,
            field_validation=field_validation,
            schema_for=schema_for,
        )
        request.warnings += decoded.warnings
        obj = decoded.obj
        if decoded.gvk.kind != gvk.kind:  # custom kinds only: decoding refuses it for others
            raise _must_be(obj, GroupKind(gvk.group, decoded.gvk.kind), "kind", gvk.kind)
    if not isinstance(obj.get("metadata"), dict):
        obj["metadata"] = {}
    return obj


def wrong_type_meta(obj: Obj, served: ServedResource, key: str) -> StatusError:
    """A custom object's ``kind`` or ``apiVersion`` is not its definition's."""
    wanted = served.gvk.kind if key == "kind" else served.api_version
    return _must_be(obj, GroupKind(served.gvk.group, obj["kind"]), key, wanted)


def _must_be(obj: Obj, kind: GroupKind, key: str, wanted: str) -> StatusError:
    metadata = obj.get("metadata")
    name = metadata.get("name") if isinstance(metadata, dict) else ""
    return new_invalid(kind, name or "", [invalid(key, obj[key], f"must be {wanted}")])


def default(served: ServedResource, obj: Obj) -> None:
    apply_defaults(obj, served.schema)
    converter = served.converter
    if converter is None:
        served.strategy.default(obj)
    elif (set_defaults := getattr(converter, "default", None)) is not None:
        set_defaults(obj)
