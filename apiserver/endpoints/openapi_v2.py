"""OpenAPI v2: ``/openapi/v2``, one swagger document of everything that is served.

As JSON and in gnostic's protobuf, which is the only form that client-go asks for. Both are made
from the parts of the group versions; a part is built once and kept, with its encoded bytes, until
what its group version serves changes.
"""

from __future__ import annotations

import asyncio
import hashlib
from typing import TYPE_CHECKING, Any

import orjson

from pilothouse.apiserver.endpoints import openapi_v2_proto as proto
from pilothouse.apiserver.endpoints.openapi_documents import (
    GZIP_ABOVE,
    DocumentBuilder,
    document_version,
)
from pilothouse.apiserver.endpoints.openapi_root import root_names
from pilothouse.apiserver.request.context import Response

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from pilothouse.apiserver.endpoints.openapi_v3 import Registry

JSON_TYPE = "application/json"
PROTOBUF_TYPE = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf"
_ACCEPTED = {
    JSON_TYPE: JSON_TYPE,
    "application/com.github.proto-openapi.spec.v2@v1.0+protobuf": PROTOBUF_TYPE,
    PROTOBUF_TYPE: PROTOBUF_TYPE,
    "application/*": JSON_TYPE,
    "*/*": JSON_TYPE,
}
_ROOT = ("", "")
"""Where the paths are that are no resources."""
_REMOTE = "/"
"""Where a part has its group: it is an extension server's."""
_METHODS = ("get", "put", "post", "delete", "options", "head", "patch")


class _Part:
    """The definitions and paths of one group version, in swagger's form."""

    def __init__(self, served: list[Any], roots: tuple[str, ...] = ()) -> None:
        self.served = served
        builder = DocumentBuilder(2)
        for name in roots:
            builder.add_root(name)
        if served:
            row = served[0].resource
            builder.add(row.group, row.version, served)
        self.definitions = builder.schemas
        self.paths = {path: _path_item(item) for path, item in builder.paths.items()}
        self._encoded: tuple[dict[str, bytes], bytes] | None = None

    @property
    def is_encoded(self) -> bool:
        return self._encoded is not None

    def encoded(self) -> tuple[dict[str, bytes], bytes]:
        """Encoded definitions by name, and all encoded paths."""
        if self._encoded is None:
            schemas = {n: proto.named_schema(n, s) for n, s in self.definitions.items()}
            paths = b"".join(proto.named_path(p, item) for p, item in self.paths.items())
            self._encoded = (schemas, paths)
        return self._encoded


class _RemotePart(_Part):
    """What an extension server says of one of its group versions."""

    def __init__(self, definitions: dict[str, Any], paths: dict[str, Any]) -> None:
        self.served = []
        self.definitions = definitions
        self.paths = paths
        self._encoded = None


class OpenAPIV2:
    """Answers GETs of ``/openapi/v2``."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._generation: int | None = None
        self._parts: dict[tuple[str, str], _Part] = {}
        self._remote: list[tuple[dict[str, Any], dict[str, Any]]] = []
        self._bodies: dict[str, bytes] = {}
        self._etag = ""

    def merge(self, remote: list[tuple[dict[str, Any], dict[str, Any]]]) -> None:
        """(definitions, paths) of extension servers, for this document from now on."""
        if remote != self._remote:
            self._remote, self._generation = remote, None

    def respond(self, headers: Mapping[str, str]) -> Response:
        """``headers`` have lower-case names; 406 when no form suits the Accept header."""
        content_type = _negotiate(headers.get("accept", ""))
        if not content_type:
            return Response(status=406, content_type="", headers=[("Vary", "Accept")])
        self._refresh()
        answer_headers = [("Etag", self._etag), ("Vary", "Accept")]
        if headers.get("if-none-match") == self._etag:
            return Response(status=304, content_type=content_type, headers=answer_headers)
        body = self._bodies.get(content_type)
        if body is None:
            body = self._bodies[content_type] = self._protobuf()
        return Response(
            body=body, content_type=content_type, headers=answer_headers, gzip_above=GZIP_ABOVE
        )

    async def prepare(self, headers: Mapping[str, str]) -> None:
        """Makes what ``respond`` needs a group version at a time: with hundreds of custom kinds it
        takes seconds, and others are answered in between."""
        if self._generation != self._registry.generation:
            for key, served in self._by_version().items():
                known = self._parts.get(key)
                if known is None or not _same(known.served, served):
                    self._parts[key] = _Part(served)
                    await asyncio.sleep(0)
        if _negotiate(headers.get("accept", "")) == PROTOBUF_TYPE:
            for part in list(self._parts.values()):
                if not part.is_encoded:
                    part.encoded()
                    await asyncio.sleep(0)

    def _by_version(self) -> dict[tuple[str, str], list[Any]]:
        found: dict[tuple[str, str], list[Any]] = {}
        for served in self._registry.all():
            row = served.resource
            found.setdefault((row.group, row.version), []).append(served)
        for each in found.values():
            each.sort(key=lambda served: str(served.resource.name))
        return found

    def _refresh(self) -> None:
        if self._generation == self._registry.generation:
            return
        by_version = self._by_version()
        built_in = {s[0].resource.group for s in by_version.values() if not s[0].resource.custom}
        roots = root_names(built_in)
        known = self._parts.get(_ROOT)
        if known is None or [f"/{name}/" for name in roots] != list(known.paths):
            known = _Part([], tuple(roots))
        parts = {_ROOT: known}
        for key in sorted(by_version):
            served_now = by_version[key]
            known = self._parts.get(key)
            same = known is not None and _same(known.served, served_now)
            parts[key] = known if known and same else _Part(served_now)
        if self._remote:
            self._add_remote(parts)
        self._parts = parts
        body = orjson.dumps(self._document())
        self._bodies = {JSON_TYPE: body}
        self._etag = f'"{hashlib.sha512(body).hexdigest().upper()}"'
        self._generation = self._registry.generation

    def _add_remote(self, parts: dict[tuple[str, str], _Part]) -> None:
        from pilothouse.apiserver.aggregator.remote_openapi import without_conflicts

        known: dict[str, Any] = {}
        for part in parts.values():
            known |= part.definitions
        for number, (definitions, paths) in enumerate(self._remote):
            fresh = _RemotePart(*without_conflicts(known, definitions, paths))
            known |= fresh.definitions
            parts[_REMOTE, str(number)] = fresh

    def _document(self) -> dict[str, Any]:
        definitions: dict[str, Any] = {}
        paths: dict[str, Any] = {}
        for part in self._parts.values():
            definitions |= part.definitions
            paths |= part.paths
        return {
            "swagger": "2.0",
            "info": {"title": "Kubernetes", "version": document_version()},
            "paths": dict(sorted(paths.items())),
            "definitions": dict(sorted(definitions.items())),
            "securityDefinitions": {
                "BearerToken": {
                    "description": "Bearer Token authentication",
                    "type": "apiKey",
                    "name": "authorization",
                    "in": "header",
                }
            },
            "security": [{"BearerToken": []}],
        }

    def _protobuf(self) -> bytes:
        schemas: dict[str, bytes] = {}
        paths: list[bytes] = []
        for part in self._parts.values():
            part_schemas, part_paths = part.encoded()
            schemas |= part_schemas
            paths.append(part_paths)
        ordered = b"".join(schemas[name] for name in sorted(schemas))
        return proto.document("Kubernetes", document_version(), b"".join(paths), ordered)


def _same(old: Iterable[Any], new: Iterable[Any]) -> bool:
    return [id(each) for each in old] == [id(each) for each in new]


def _negotiate(accept: str) -> str:
    for clause in (accept or "*/*").split(","):
        found = _ACCEPTED.get(clause.partition(";")[0].strip())
        if found:
            return found
    return ""


def _path_item(item: dict[str, Any]) -> dict[str, Any]:
    """Swagger's form of the path item that ``openapi_paths.py`` writes."""
    return {
        key: [_parameter(each) for each in value] if key == "parameters" else _operation(value)
        for key, value in item.items()
        if key == "parameters" or key in _METHODS
    }


def _parameter(parameter: dict[str, Any]) -> dict[str, Any]:
    schema: dict[str, Any] = parameter["schema"]
    return {k: v for k, v in parameter.items() if k != "schema"} | schema


def _operation(operation: dict[str, Any]) -> dict[str, Any]:
    result = dict(operation)
    parameters = [_parameter(each) for each in result.get("parameters", ())]
    consumes = ["*/*"]
    body = result.pop("requestBody", None)
    if body is not None:
        consumes = list(body["content"])
        schema = body["content"][consumes[0]]["schema"]
        entry: dict[str, Any] = {"name": "body", "in": "body", "schema": schema}
        if body.get("required"):
            entry["required"] = True
        parameters.insert(0, entry)
    produces: list[str] = []
    responses: dict[str, Any] = {}
    for code, response in result["responses"].items():
        responses[code] = {"description": response["description"]}
        content = response.get("content")
        if content:
            produces = produces or list(content)
            responses[code]["schema"] = next(iter(content.values()))["schema"]
    result |= {"consumes": consumes, "produces": produces or [JSON_TYPE], "schemes": ["https"]}
    result["responses"] = responses
    if parameters:
        result["parameters"] = parameters
    return result
