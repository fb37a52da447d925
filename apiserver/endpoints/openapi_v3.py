"""OpenAPI v3: ``/openapi/v3`` and a document per group version.

kubectl reads it for explain, apply and to learn that the server validates fields. Documents are
built when they are first asked for and kept as bytes until what that group version serves
changes; their hash comes from what they are made of, so the index needs no document.
"""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import orjson

from pilothouse.apimachinery.errors import new_generic_not_found
from pilothouse.apis.schemas import upstream_version
from pilothouse.apiserver.endpoints.openapi_documents import (
    GZIP_ABOVE,
    DocumentBuilder,
    document_version,
)
from pilothouse.apiserver.endpoints.openapi_root import root_names
from pilothouse.apiserver.request.context import Response

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime

    class _Clock(Protocol):
        def now(self) -> datetime: ...


_INDEX_TYPE = "text/plain; charset=utf-8"
"""What upstream calls its JSON here."""
_YEAR_SECONDS = 365 * 24 * 3600


class Registry(Protocol):
    """``all()`` yields objects with ``.resource`` and, for custom ones, ``.openapi_schema``."""

    generation: int

    def all(self) -> Iterable[Any]: ...


@cache
def _content_seed() -> bytes:
    """Changes with the facts and with the code that writes documents."""
    digest = hashlib.sha256(upstream_version().encode())
    folder = Path(__file__).parent
    for path in sorted(folder.glob("openapi_*.py")):
        digest.update(path.read_bytes())
    return digest.digest()


class _GroupVersion:
    """What one group version serves, and its document once built."""

    def __init__(self, group: str, version: str) -> None:
        self.group = group
        self.version = version
        self.served: list[Any] = []
        self.etag = ""
        self.body = b""

    @property
    def path(self) -> str:
        return f"apis/{self.group}/{self.version}" if self.group else f"api/{self.version}"

    def same_as(self, other: _GroupVersion) -> bool:
        return [id(each) for each in self.served] == [id(each) for each in other.served]

    def fingerprint(self) -> str:
        digest = hashlib.sha512(_content_seed())
        for each in self.served:
            digest.update(repr(each.resource).encode())
            schema = getattr(each, "openapi_schema", None)
            if schema is not None:
                digest.update(orjson.dumps(schema, option=orjson.OPT_SORT_KEYS))
        return digest.hexdigest().upper()


class _Root(_GroupVersion):
    """A document of a path that is no resource's."""

    def __init__(self, name: str) -> None:
        super().__init__(name, "")
        self.etag = hashlib.sha512(_content_seed() + name.encode()).hexdigest().upper()

    @property
    def path(self) -> str:
        return self.group


class OpenAPIV3:
    """Answers GETs of ``/openapi/v3`` and below it. ``clock`` is for the Expires header."""

    def __init__(self, registry: Registry, *, clock: _Clock | None = None) -> None:
        self._registry = registry
        self._remote: dict[str, str] = {}
        self._clock = clock
        self._generation: int | None = None
        self._groups: dict[str, _GroupVersion] = {}
        self._index: tuple[bytes, str] | None = None

    def respond(
        self,
        path: str,
        headers: Mapping[str, str],
        query: Mapping[str, list[str]] | None = None,
    ) -> Response:
        """``headers`` have lower-case names. :raises StatusError: 404."""
        self._refresh()
        name = path.removeprefix("/openapi/v3/")
        if name == "/openapi/v3":
            return self._respond_index(headers)
        found = self._groups.get(name)
        if found is None:
            raise new_generic_not_found()
        return self._respond_document(found, headers, (query or {}).get("hash", [""])[0])

    def merge(self, remote: dict[str, str]) -> None:
        """Group versions of extension servers for the index: hash by path, in place of ours."""
        if remote != self._remote:
            self._remote, self._index = dict(remote), None

    def _refresh(self) -> None:
        if self._generation == self._registry.generation:
            return
        groups: dict[str, _GroupVersion] = {}
        for served in self._registry.all():
            row = served.resource
            each = _GroupVersion(row.group, row.version)
            groups.setdefault(each.path, each).served.append(served)
        roots = root_names(
            {s.resource.group for s in self._registry.all() if not s.resource.custom}
        )
        for path, fresh in groups.items():
            fresh.served.sort(key=lambda served: served.resource.name)
            known = self._groups.get(path)
            if known is not None and known.same_as(fresh):
                groups[path] = known
            else:
                fresh.etag = fresh.fingerprint()
        for name in roots:
            groups[name] = self._groups.get(name) or _Root(name)
        self._groups, self._index = groups, None
        self._generation = self._registry.generation

    def _respond_index(self, headers: Mapping[str, str]) -> Response:
        if self._index is None:
            hashes = {path: each.etag for path, each in self._groups.items()} | self._remote
            paths = {
                path: {"serverRelativeURL": f"/openapi/v3/{path}?hash={digest}"}
                for path, digest in sorted(hashes.items())
            }
            body = orjson.dumps({"paths": paths})
            self._index = (body, f'"{hashlib.sha512(body).hexdigest().upper()}"')
        body, etag = self._index
        if headers.get("if-none-match") == etag:
            return Response(status=304, headers=[("Etag", etag)])
        return Response(
            body=body, content_type=_INDEX_TYPE, headers=[("Etag", etag)], gzip_above=GZIP_ABOVE
        )

    def _respond_document(
        self, found: _GroupVersion, headers: Mapping[str, str], asked: str
    ) -> Response:
        if not _accepts_json(headers.get("accept", "")):
            return Response(status=406, content_type="", headers=[("Vary", "Accept")])
        etag = f'"{found.etag}"'
        answer_headers = [("Etag", etag), ("Vary", "Accept")]
        if asked and asked != found.etag:
            url = f"/openapi/v3/{found.path}?hash={found.etag}"
            return Response(status=301, headers=[("Location", url), *answer_headers])
        if asked:
            answer_headers.append(("Cache-Control", "public, immutable"))
            if self._clock is not None:
                answer_headers.append(("Expires", self._expires()))
        if headers.get("if-none-match") == etag:
            return Response(status=304, headers=answer_headers)
        if not found.body:
            found.body = self._build(found)
        return Response(body=found.body, headers=answer_headers, gzip_above=GZIP_ABOVE)

    def _expires(self) -> str:
        from datetime import timedelta
        from email.utils import format_datetime

        assert self._clock is not None
        return format_datetime(self._clock.now() + timedelta(seconds=_YEAR_SECONDS), usegmt=True)

    def _build(self, found: _GroupVersion) -> bytes:
        builder = DocumentBuilder(3)
        if isinstance(found, _Root):
            builder.add_root(found.path)
        else:
            builder.add(found.group, found.version, found.served)
        schemas = {"schemas": dict(sorted(builder.schemas.items()))} if builder.schemas else {}
        document = {
            "openapi": "3.0.0",
            "info": {"title": "Kubernetes", "version": document_version()},
            "paths": builder.paths,
            "components": schemas
            | {
                "securitySchemes": {
                    "BearerToken": {
                        "type": "apiKey",
                        "description": "Bearer Token authentication",
                        "name": "authorization",
                        "in": "header",
                    }
                },
            },
        }
        return orjson.dumps(document)


def _accepts_json(accept: str) -> bool:
    if not accept:
        return True
    types = {clause.partition(";")[0].strip() for clause in accept.split(",")}
    return bool(types & {"application/json", "application/*", "*/*"})
