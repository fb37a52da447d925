"""The OpenAPI documents of extension servers (kube-aggregator controllers/openapi, openapiv3).

v2: their paths and definitions become part of our one document. v3: their group versions are in
our index, under the hash that they gave them, and requests for the documents are passed on.
Nothing is fetched before somebody asks; an answer is good for a minute.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import orjson

from pilothouse.apimachinery.errors import StatusError
from pilothouse.apis.schemas import upstream_version
from pilothouse.apiserver.aggregator.extension import AGGREGATOR
from pilothouse.apiserver.request.context import Response

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pilothouse.apimachinery.clock import Clock
    from pilothouse.apimachinery.object import Obj
    from pilothouse.apiserver.aggregator.extension import Extension
    from pilothouse.apiserver.request.context import Request

log = logging.getLogger(__name__)

GOOD_FOR = 60.0
_TIMEOUT = 10.0
_JSON = {"accept": "application/json"}
_REFERENCE = "#/definitions/"
_KINDS = "x-kubernetes-group-version-kind"


class _Fetched:
    """What one extension server has given us."""

    def __init__(self) -> None:
        self.extension: Extension | None = None
        self.at = float("-inf")
        self.etag = ""
        self.v2: tuple[Obj, Obj] = ({}, {})
        self.hash = ""
        self.converted = b""
        """The v3 document, made of v2's by us."""


class RemoteOpenAPI:
    """``generation`` grows when a document may be another."""

    def __init__(self, clock: Clock, extensions: dict[str, Extension]) -> None:
        self.generation = 0
        self._clock = clock
        self._extensions = extensions
        self._fetched: dict[str, _Fetched] = {}

    async def refresh(self) -> None:
        """Brings what is older than a minute up to date; failures keep what there was."""
        for name in set(self._fetched) - set(self._extensions):
            del self._fetched[name]
            self.generation += 1
        await asyncio.gather(*(self._refresh(each) for each in list(self._extensions.values())))

    async def _refresh(self, extension: Extension) -> None:
        known = self._fetched.setdefault(extension.name, _Fetched())
        now = self._clock.monotonic()
        same = known.extension is extension
        if not extension.available or (same and now - known.at < GOOD_FOR):
            return
        known.extension, known.at = extension, now
        for fetch in (_fetch_v2, _fetch_v3):
            try:
                if await fetch(extension, known):
                    self.generation += 1
            except (OSError, StatusError, ValueError) as error:
                log.debug("OpenAPI of APIService %s: %s", extension.name, error)

    def v2(self) -> list[tuple[Obj, Obj]]:
        """(definitions, paths) of each extension."""
        return [each.v2 for _, each in sorted(self._fetched.items()) if each.v2[1]]

    def v3(self) -> dict[str, str]:
        """Hashes by path (``apis/wardle.example.com/v1alpha1``)."""
        return {
            each.extension.root.strip("/"): each.hash
            for each in self._fetched.values()
            if each.hash and each.extension is not None
        }

    async def document(self, path: str, request: Request) -> Response | None:
        """The v3 document of ``path``; None when no extension has it."""
        for each in self._fetched.values():
            if each.extension is not None and each.extension.root.strip("/") == path:
                if each.converted:
                    etag = ("Etag", f'"{each.hash}"')
                    return Response(body=each.converted, headers=[etag, ("Vary", "Accept")])
                extension = self._extensions.get(each.extension.name)
                if extension is not None and each.hash:
                    return await extension.handle(replace(request, user=AGGREGATOR))
        return None


async def _fetch_v2(extension: Extension, known: _Fetched) -> bool:
    headers = {**_JSON, "if-none-match": known.etag} if known.etag else _JSON
    status, _, body, found = await extension.fetch("/openapi/v2", headers, timeout=_TIMEOUT)
    if status != 200:
        return False
    known.etag = found.get("etag", "")
    document = orjson.loads(body)
    v2 = part_of(document, extension.root)
    changed = v2 != known.v2
    known.v2 = v2
    return changed


async def _fetch_v3(extension: Extension, known: _Fetched) -> bool:
    status, _, body, _ = await extension.fetch("/openapi/v3", _JSON, timeout=_TIMEOUT)
    known.converted = b""
    if status != 200:
        return _convert(known)
    entry = (orjson.loads(body).get("paths") or {}).get(extension.root.strip("/"))
    url = (entry or {}).get("serverRelativeURL") or ""
    digest = parse_qs(urlsplit(url).query).get("hash", [""])[0]
    changed, known.hash = digest != known.hash, digest
    return changed


def _convert(known: _Fetched) -> bool:
    """For a server without v3: its part of v2 in the form of v3."""
    from pilothouse.apiserver.aggregator.openapi_conversion import to_v3

    definitions, paths = known.v2
    if not paths:
        return False
    document = to_v3("Kubernetes", upstream_version(), definitions, paths)
    known.converted = orjson.dumps(document)
    digest = hashlib.sha512(known.converted).hexdigest().upper()
    changed, known.hash = digest != known.hash, digest
    return changed


def part_of(document: Obj, root: str) -> tuple[Obj, Obj]:
    """(definitions, paths) of what is below ``root``: an extension server's document may have
    more than its APIServices say, which is none of ours."""
    paths = {
        path: item
        for path, item in (document.get("paths") or {}).items()
        if path.rstrip("/") == root or path.startswith(f"{root}/")
    }
    all_definitions = document.get("definitions") or {}
    pending, needed = set(references(paths)), set()
    while pending:
        name = pending.pop()
        if name in needed or name not in all_definitions:
            continue
        needed.add(name)
        pending.update(references(all_definitions[name]))
    return {name: all_definitions[name] for name in sorted(needed)}, paths


def references(value: Any) -> Iterable[str]:
    """Names of the definitions that ``value`` refers to."""
    if isinstance(value, dict):
        for key, inner in value.items():
            if key == "$ref" and isinstance(inner, str) and inner.startswith(_REFERENCE):
                yield inner.removeprefix(_REFERENCE)
            else:
                yield from references(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from references(inner)


def renamed(value: Any, names: dict[str, str]) -> Any:
    """A copy in which references go to the new names."""
    if isinstance(value, dict):
        return {
            key: f"{_REFERENCE}{names.get(inner.removeprefix(_REFERENCE), '')}"
            if key == "$ref" and isinstance(inner, str) and inner.removeprefix(_REFERENCE) in names
            else renamed(inner, names)
            for key, inner in value.items()
        }
    if isinstance(value, list):
        return [renamed(inner, names) for inner in value]
    return value


def _without_kinds(schema: Obj) -> Obj:
    """Definitions that all groups share (DeleteOptions) differ in the kinds that they list."""
    return {key: value for key, value in schema.items() if key != _KINDS}


def without_conflicts(known: Obj, definitions: Obj, paths: Obj) -> tuple[Obj, Obj]:
    """(definitions, paths) that can be put beside ``known``: a definition of the same name but
    with another content gets a name of its own, as upstream's merging does."""
    names: dict[str, str] = {}
    for name, schema in definitions.items():
        if name not in known or _without_kinds(known[name]) == _without_kinds(schema):
            continue
        number = 2
        while f"{name}_v{number}" in known or f"{name}_v{number}" in definitions:
            number += 1
        names[name] = f"{name}_v{number}"
    if not names:
        return definitions, paths
    fresh = {names.get(name, name): renamed(each, names) for name, each in definitions.items()}
    return fresh, renamed(paths, names)
