"""Server-side printing: Table and PartialObjectMetadata (apiserver handlers/response.go).

What does not depend on the time of asking is made once per version of an object and kept in
the cache entry's memo: the embedded metadata, and the cells' bytes around their ages.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import orjson

from pilothouse.apimachinery.errors import new_bad_request
from pilothouse.apimachinery.timefmt import human_duration
from pilothouse.apiserver.registry.printing import Moment, NotingNow
from pilothouse.apiserver.storage.versioner import compact, with_revision

if TYPE_CHECKING:
    from datetime import datetime

    from pilothouse.apimachinery.object import Obj
    from pilothouse.apiserver.endpoints.negotiation import Negotiated
    from pilothouse.apiserver.registry.resources import ServedResource
    from pilothouse.apiserver.request.context import Query
    from pilothouse.apiserver.storage.cacher.interfaces import CacheEntry

log = logging.getLogger(__name__)

INCLUDE = ("None", "Metadata", "Object", "")


def include_object(query: Query) -> str:
    """None, Metadata or Object. :raises StatusError: 400."""
    values = query.get("includeObject")
    include = values[0] if values else ""
    if include not in INCLUDE:
        raise new_bad_request(
            f'Unable to convert to Table as requested: includeObject: Invalid value: "{include}": '
            "must be 'Metadata', 'Object', 'None', or empty"
        )
    return include or "Metadata"


def encoded(served: ServedResource, entry: CacheEntry) -> bytes:
    """The object's JSON in the served version."""
    if served.converter is None:
        return entry.data
    key = ("data", served.api_version)
    data: bytes | None = entry.memo.get(key)
    if data is None:
        data = entry.memo[key] = compact(orjson.dumps(served.converter.from_storage(entry.obj)))
    return data


def shared(served: ServedResource, entry: CacheEntry) -> Obj:
    """The decoded object in the served version, read-only."""
    if served.converter is None:
        return entry.obj
    key = ("obj", served.api_version)
    obj: Obj | None = entry.memo.get(key)
    if obj is None:
        obj = entry.memo[key] = served.converter.from_storage(entry.obj)
    return obj


def partial_object(entry: CacheEntry, meta_version: str, obj: Obj | None = None) -> bytes:
    """PartialObjectMetadata of an entry; ``obj`` is the entry's, when it is at hand."""
    key = ("partial", meta_version)
    data: bytes | None = entry.memo.get(key)
    if data is None:
        seen = entry.peek() if obj is None else obj
        if entry.revision:  # a dry run has none
            seen = with_revision(seen, entry.revision)
        data = entry.memo[key] = compact(partial_of(seen, meta_version))
    return data


def partial_of(obj: Obj, meta_version: str) -> bytes:
    return orjson.dumps(
        {
            "kind": "PartialObjectMetadata",
            "apiVersion": meta_version,
            "metadata": obj.get("metadata") or {},
        }
    )


class TableWriter:
    """Rows of one kind for one answer or watch."""

    def __init__(
        self, served: ServedResource, negotiated: Negotiated, include: str, now: datetime
    ) -> None:
        self.served = served
        self.meta_version = negotiated.meta_version
        self.include = include
        self.now = now
        self._seconds = now.timestamp()
        self._ages: dict[int, bytes] = {}
        self._rows_key = f"row {served.api_version}"
        self._partial_key = ("partial", negotiated.meta_version)

    def columns(self) -> bytes:
        return orjson.dumps(
            [
                {
                    "name": column.name,
                    "type": column.type,
                    "format": column.format,
                    "description": column.description,
                    "priority": column.priority,
                }
                for column in self.served.strategy.columns
            ]
        )

    def row(self, entry: CacheEntry) -> bytes:
        memo = entry.memo
        made = memo.get(self._rows_key)
        if made is None or made[0] is not self.served.strategy:
            # Of a custom resource the columns may change while its objects stay.
            made = memo[self._rows_key] = (self.served.strategy, *self._parts(entry))
        parts, began = made[1], made[2]
        if self.include == "Metadata":
            embedded = memo.get(self._partial_key) or partial_object(entry, self.meta_version)
        elif self.include == "Object":
            embedded = encoded(self.served, entry)
        else:
            embedded = b"null"
        if len(began) == 1:
            return b"%b%b%b%b}" % (parts[0], self._age(began[0]), parts[1], embedded)
        if parts:
            pieces = [parts[0]]
            for at, text in zip(began, parts[1:], strict=True):
                pieces += (self._age(at), text)
            return b"%b%b}" % (b"".join(pieces), embedded)
        cells = orjson.dumps(self.cells(self._look(entry)))
        return b'{"cells":%b,"object":%b}' % (cells, embedded)

    def _age(self, began: float) -> bytes:
        seconds = int(self._seconds - began)
        text = self._ages.get(seconds)
        if text is None:
            text = self._ages[seconds] = b'"%b"' % human_duration(seconds).encode()
        return text

    def _look(self, entry: CacheEntry) -> Obj:
        """The object, which isn't kept: of a big list they would be ten times its bytes."""
        return entry.peek() if self.served.converter is None else shared(self.served, entry)

    def _parts(self, entry: CacheEntry) -> tuple[tuple[bytes, ...], tuple[float, ...]]:
        """A row's bytes before, between and after its ages, up to the embedded object, and when
        the ages began. No parts: the cells depend on the time in another way."""
        noting = NotingNow.at(self.now)
        cells = self.cells(self._look(entry), noting)
        moments = [cell for cell in cells if type(cell) is Moment]
        if {id(each) for each in moments} != {id(each) for each in noting.moments}:
            return (), ()
        texts = [b"" if type(cell) is Moment else orjson.dumps(cell) for cell in cells]
        parts, text = [], b'{"cells":['
        for i, (cell, part) in enumerate(zip(cells, texts, strict=True)):
            text += b"," if i else b""
            if type(cell) is Moment:
                parts.append(text)
                text = b""
            text += part
        parts.append(text + b'],"object":')
        return tuple(parts), tuple(moment.began for moment in moments)

    def cells(self, obj: Obj, now: datetime | None = None) -> list[Any]:
        try:
            return self.served.strategy.row(obj, now or self.now)
        except Exception:
            # A list must not fail because one object prints badly.
            log.exception("no cells for %s", self.served)
            name = (obj.get("metadata") or {}).get("name") or ""
            return [name] + ["<unknown>"] * (len(self.served.strategy.columns) - 1)

    def bookmark_row(self, obj: Obj) -> bytes:
        try:  # of nothing but metadata, as upstream prints it
            cells = self.served.strategy.row(obj, self.now)
        except Exception:
            cells = [""] * len(self.served.strategy.columns)
        partial = partial_of(obj, self.meta_version)
        return b'{"cells":%b,"object":%b}' % (orjson.dumps(cells), partial)

    def head(self, metadata: bytes, *, columns: bool = True) -> bytes:
        """Everything before the rows; ``]}`` comes after them."""
        definitions = self.columns() if columns else b"null"
        return (
            b'{"kind":"Table","apiVersion":"%b","metadata":%b,"columnDefinitions":%b,"rows":['
            % (
                self.meta_version.encode(),
                metadata,
                definitions,
            )
        )


def list_metadata(revision: int, continue_token: str = "", remaining: int = 0) -> bytes:
    """A ListMeta."""
    metadata: Obj = {"resourceVersion": str(revision) if revision else ""}
    if continue_token:
        metadata["continue"] = continue_token
    if remaining:
        metadata["remainingItemCount"] = remaining
    return orjson.dumps(metadata)
