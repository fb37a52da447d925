"""LIST: pages and whole lists, at the newest or an old revision, streamed in chunks.

Items are the bytes of the watch cache, joined a hundred at a time: one big body would cost
three times the CPU and hold the loop (measured). A list of up to a hundred items is one body.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import orjson

from pilothouse.apimachinery.errors import StatusError, new_bad_request
from pilothouse.apiserver.endpoints.negotiation import JSON, negotiate, wants_pretty
from pilothouse.apiserver.endpoints.options import EXACT, parse_list_options
from pilothouse.apiserver.endpoints.responses import dump, internal_name
from pilothouse.apiserver.endpoints.table import (
    TableWriter,
    encoded,
    include_object,
    list_metadata,
    partial_object,
    shared,
)
from pilothouse.apiserver.registry.interpret import interpret
from pilothouse.apiserver.request.context import Response
from pilothouse.apiserver.storage.continue_token import (
    LATEST,
    InvalidContinue,
    decode_continue,
    encode_continue,
)
from pilothouse.apiserver.storage.errors import StorageError
from pilothouse.apiserver.storage.versioner import parse_revision

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Sequence

    from pilothouse.apiserver.endpoints.handler import Server
    from pilothouse.apiserver.endpoints.negotiation import Negotiated
    from pilothouse.apiserver.endpoints.options import ListOptions
    from pilothouse.apiserver.registry.resources import ServedResource
    from pilothouse.apiserver.request.context import Request
    from pilothouse.apiserver.storage.cacher.interfaces import CacheEntry, Predicate

CHUNK = 100
MANY = 10_000
"""From here on a selector is applied in slices."""
SLICE = 4_000
RV_PATH = "resourceVersion"


class ListResult:
    """Entries of one page and what its ListMeta says."""

    __slots__ = ("continue_token", "entries", "remaining", "revision")

    def __init__(
        self,
        entries: Sequence[CacheEntry],
        revision: int,
        continue_token: str = "",
        remaining: int = 0,
    ) -> None:
        self.entries = entries
        self.revision = revision
        self.continue_token = continue_token
        self.remaining = remaining


async def handle(server: Server, request: Request, served: ServedResource) -> Response:
    """One GET of a collection."""
    options = parse_list_options(request, served)
    negotiated = negotiate(request.headers.get("accept", ""))
    result = await find(served, request.info.namespace, options)
    if request.local:
        return _local(served, result)
    return _respond(server, request, served, result, negotiated)


async def find(served: ServedResource, namespace: str, options: ListOptions) -> ListResult:
    """The entries that ``options`` asks for. :raises StatusError: 400, 410, 504."""
    prefix = served.list_prefix(namespace)
    selection = options.selection
    predicate = None if selection.empty else selection.predicate(served.store.strategy)
    try:
        if options.continue_token:
            return await _continued(served, prefix, options, predicate)
        revision = parse_version(options.resource_version)
        exact = options.match == EXACT or (
            bool(revision) and not options.match and options.limit > 0
        )
        if exact:
            return await _exact(served, prefix, revision, "", options, predicate)
        cacher = served.store.cacher
        if options.resource_version == "0":
            await cacher.ensure_ready()
        else:
            await cacher.wait_until_fresh(revision or None)
        if selection.single_name and (namespace or not served.namespaced):
            return _single(served, namespace, selection.single_name, predicate)
        # From the cache at "any" revision upstream gives the whole list whatever the limit.
        limit = 0 if options.resource_version == "0" else options.limit
        return await _newest(served, prefix, "", limit, predicate)
    except StorageError as error:
        raise interpret(error, "list", served.group_resource, "") from error


def parse_version(text: str) -> int:
    try:
        return parse_revision(text)
    except ValueError as error:
        text = f'invalid resource version: {RV_PATH}: Invalid value: "{text}": {error}'
        raise new_bad_request(text) from error


def _single(
    served: ServedResource, namespace: str, name: str, predicate: Predicate | None
) -> ListResult:
    cacher = served.store.cacher
    try:
        entry = cacher.get(served.key(namespace, name))
    except StatusError:
        entry = None
    found = entry is not None and (predicate is None or predicate(entry))
    return ListResult([entry] if found and entry is not None else [], cacher.revision)


async def _exact(
    served: ServedResource,
    prefix: str,
    revision: int,
    start: str,
    options: ListOptions,
    predicate: Predicate | None,
) -> ListResult:
    entries, more, remaining = await served.store.cacher.list_exact(
        prefix, revision, start=start, limit=options.limit, predicate=predicate
    )
    return _page(served, prefix, entries, more, remaining, revision, predicate)


async def _continued(
    served: ServedResource, prefix: str, options: ListOptions, predicate: Predicate | None
) -> ListResult:
    if options.resource_version not in ("", "0"):
        raise new_bad_request("specifying resource version is not allowed when using continue")
    try:
        start, revision = decode_continue(options.continue_token, prefix)
    except InvalidContinue as error:
        raise new_bad_request(f"invalid continue token: {error}") from error
    if revision != LATEST:
        return await _exact(served, prefix, revision, start, options, predicate)
    await served.store.cacher.wait_until_fresh()
    return await _newest(served, prefix, start, options.limit, predicate)


async def _newest(
    served: ServedResource, prefix: str, start: str, limit: int, predicate: Predicate | None
) -> ListResult:
    """The cache's state of now. Where a selector has many objects to look at, the loop is given
    back now and then; what is looked at stays the state of the beginning."""
    cacher = served.store.cacher
    revision = cacher.revision
    if predicate is None or len(cacher) <= MANY:
        entries, more, remaining = cacher.list(
            prefix, start=start, limit=limit, predicate=predicate
        )
        seen = len(entries) if predicate is None else cacher.count(prefix, start) - remaining
        cacher.counts.listed(seen, len(entries))
        return _page(served, prefix, entries, more, remaining, revision, predicate)
    everything, _, _ = cacher.list(prefix, start=start)
    select = getattr(predicate, "select", None)
    found: list[CacheEntry] = []
    for at in range(0, len(everything), SLICE):
        if at:
            await asyncio.sleep(0)
        part = everything[at : at + SLICE]
        found += select(part) if select is not None else [e for e in part if predicate(e)]
        if limit and len(found) > limit:
            cacher.counts.listed(at + len(part), limit)
            return _page(served, prefix, found[:limit], True, 0, revision, predicate)
    cacher.counts.listed(len(everything), len(found))
    return _page(served, prefix, found, False, 0, revision, predicate)


def _page(
    served: ServedResource,
    prefix: str,
    entries: Sequence[CacheEntry],
    more: bool,
    remaining: int,
    revision: int,
    predicate: Predicate | None,
) -> ListResult:
    if not more:
        return ListResult(entries, revision)
    token = encode_continue(entries[-1].key + "\0", prefix, revision)
    return ListResult(entries, revision, token, remaining if predicate is None else 0)


def _list_kind(served: ServedResource) -> str:
    return served.resource.list_kind or f"{served.resource.kind}List"


def _local(served: ServedResource, result: ListResult) -> Response:
    metadata = {"resourceVersion": str(result.revision)}
    if result.continue_token:
        metadata["continue"] = result.continue_token
    if served.converter is None:
        items = [entry.obj for entry in result.entries]
    else:
        items = [shared(served, entry) for entry in result.entries]
    return Response(
        obj={
            "kind": _list_kind(served),
            "apiVersion": served.api_version,
            "metadata": metadata,
            "items": items,
        }
    )


def _respond(
    server: Server,
    request: Request,
    served: ServedResource,
    result: ListResult,
    negotiated: Negotiated,
) -> Response:
    metadata = list_metadata(result.revision, result.continue_token, result.remaining)
    entries = result.entries
    if negotiated.transform == "Table":
        include = include_object(request.query)
        writer = TableWriter(served, negotiated, include, server.clock.now())
        head, encode = writer.head(metadata), writer.row
        chunks = _chunks(head, entries, encode)
    elif negotiated.transform == "PartialObjectMetadataList":
        version = negotiated.meta_version
        head = _head("PartialObjectMetadataList", version, metadata)
        chunks = _chunks(head, entries, lambda entry: partial_object(entry, version))
    elif negotiated.transform:
        kind = _list_kind(served)
        message = (
            "you requested PartialObjectMetadata, but the requested object is a list "
            f"(*{internal_name(served, kind)})"
        )
        raise StatusError(406, "NotAcceptable", message)
    else:
        head = _head(_list_kind(served), served.api_version, metadata)
        if served.resource.custom:
            if not result.continue_token:  # as Go's untyped lists have it
                head = head.replace(b'"metadata":{', b'"metadata":{"continue":"",', 1)
            chunks = _chunks(head, entries, lambda entry: encoded(served, entry))
        else:
            chunks = _bare_chunks(head, served, entries)
    pretty = negotiated.pretty or wants_pretty(request.query, request.headers.get("user-agent", ""))
    if pretty or negotiated.media_type != JSON:
        return dump(orjson.loads(b"".join(chunks)), 200, negotiated.media_type, pretty)
    if len(entries) <= CHUNK:
        return Response(body=b"".join(chunks))
    return Response(chunks=_stream(chunks))


def _head(kind: str, api_version: str, metadata: bytes) -> bytes:
    return b'{"kind":"%b","apiVersion":"%b","metadata":%b,"items":[' % (
        kind.encode(),
        api_version.encode(),
        metadata,
    )


def _chunks(
    head: bytes, entries: Sequence[CacheEntry], encode: Callable[[CacheEntry], bytes]
) -> Iterator[bytes]:
    yield head
    for at in range(0, len(entries), CHUNK):
        text = b",".join([encode(entry) for entry in entries[at : at + CHUNK]])
        yield b"," + text if at else text
    yield b"]}\n"


def _bare_chunks(
    head: bytes, served: ServedResource, entries: Sequence[CacheEntry]
) -> Iterator[bytes]:
    """Items without kind and apiVersion, as Go's typed lists have them."""
    yield head
    skip = served.head_length
    plain = served.converter is None
    for at in range(0, len(entries), CHUNK):
        page = entries[at : at + CHUNK]
        if plain:
            items = [memoryview(entry.data)[skip:] for entry in page]
        else:
            items = [memoryview(encoded(served, entry))[skip:] for entry in page]
        yield (b",{" if at else b"{") + b",{".join(items)
    yield b"]}\n"


async def _stream(chunks: Iterator[bytes]) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield chunk
