"""Server-side printing: Table and PartialObjectMetadata (apiserver handlers/response.go).

What does not depend on the time of asking is made once per version of an object and kept in
the cache entry's memo; the cells, which hold ages, are computed for each answer.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import orjson

from pilothouse.apimachinery.errors import new_bad_request
from pilothouse.apiserver.storage.versioner import with_revision

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
        data = entry.memo[key] = orjson.dumps(served.converter.from_storage(entry.obj))
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
        seen = with_revision(entry.peek() if obj is None else obj, entry.revision)
        data = entry.memo[key] = partial_of(seen, meta_version)
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
    """Rows of one kind for one answer or watch. ``keep`` false: the decoded objects are not
    kept for the next time (of a big list they would be ten times its bytes)."""

    def __init__(
        self,
        served: ServedResource,
        negotiated: Negotiated,
        include: str,
        now: datetime,
        *,
        keep: bool = True,
    ) -> None:
        self.served = served
        self._keep = keep or served.converter is not None
        self.meta_version = negotiated.meta_version
        self.include = include
        self.now = now

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
        obj = shared(self.served, entry) if self._keep else entry.peek()
        if self.include == "Metadata":
            embedded = partial_object(entry, self.meta_version, obj)
        elif self.include == "Object":
            embedded = encoded(self.served, entry)
        else:
            embedded = b"null"
        return b'{"cells":%b,"object":%b}' % (orjson.dumps(self.cells(obj)), embedded)

    def cells(self, obj: Obj) -> list[Any]:
        try:
            return self.served.strategy.row(obj, self.now)
        except Exception:
            # A list must not fail because one object prints badly.
            log.exception("no cells for %s", self.served)
            name = (obj.get("metadata") or {}).get("name") or ""
            return [name] + ["<unknown>"] * (len(self.served.strategy.columns) - 1)

    def bookmark_row(self, obj: Obj) -> bytes:
        cells: list[Any] = [""] * len(self.served.strategy.columns)
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
