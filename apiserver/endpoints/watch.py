"""WATCH: a stream of events, one JSON line each (apiserver handlers/watch.go).

The line of an event is encoded and framed once per representation and shared by all watchers.
Nothing runs per watcher between events: the watcher's buffer wakes the stream, which writes all
that is there in one go and, when the connection is slow, waits until it takes more. All streams
that one turn of the loop has woken are served by one callback (:class:`Pumps`).
"""

from __future__ import annotations

import asyncio
import logging
import time
from functools import partial
from typing import TYPE_CHECKING, Any

import orjson

from pilothouse.apimachinery.errors import StatusError
from pilothouse.apiserver.endpoints.negotiation import (
    JSON,
    PROTOBUF,
    PROTOBUF_STREAM,
    Negotiated,
    negotiate,
)
from pilothouse.apiserver.endpoints.options import parse_list_options
from pilothouse.apiserver.endpoints.table import (
    TableWriter,
    encoded,
    include_object,
    list_metadata,
    partial_object,
    partial_of,
    shared,
)
from pilothouse.apiserver.registry.interpret import interpret
from pilothouse.apiserver.request.context import Response
from pilothouse.apiserver.storage.errors import StorageError
from pilothouse.apiserver.storage.versioner import invalid_version, parse_revision
from pilothouse.componentbase.serving.interfaces import frame

if TYPE_CHECKING:
    from collections.abc import Callable

    from pilothouse.apimachinery.clock import Clock, TimerHandle
    from pilothouse.apimachinery.object import Obj
    from pilothouse.apiserver.endpoints.handler import Server
    from pilothouse.apiserver.endpoints.options import ListOptions
    from pilothouse.apiserver.registry.resources import ServedResource
    from pilothouse.apiserver.request.context import Request
    from pilothouse.apiserver.storage.cacher.cache_watcher import CacheWatcher
    from pilothouse.apiserver.storage.cacher.watch_cache import Event as CacheEvent
    from pilothouse.componentbase.serving.interfaces import Sink

log = logging.getLogger(__name__)

INITIAL_EVENTS_END = "k8s.io/initial-events-end"
PAUSE_RATIO = 4.0
MAX_WRITE = 128 * 1024
"""Bytes after which a write ends: the next one waits until the connection takes more."""
MIN_PAUSE, MAX_PAUSE = 0.001, 0.06
"""Seconds; the loop's timers are no finer."""


async def handle(server: Server, request: Request, served: ServedResource) -> Response:
    """:raises StatusError: 400, 406, 410, 422, 504."""
    options = parse_list_options(request, served)
    negotiated = negotiate(request.headers.get("accept", ""), stream=True)
    timeout = float(options.timeout_seconds or 0)
    if timeout <= 0:
        timeout = server.config.min_request_timeout * (1 + server.random.random())
    watcher = await open_watch(server, served, request.info.namespace, options, timeout)
    if request.local:
        return Response(watch=LocalWatch(served, watcher, server.clock, timeout))
    encoder = EventEncoder(server, served, negotiated, request)
    socket = False
    if request.upgrade is not None:
        from pilothouse.apiserver.websockets import send_watch, wants_websocket

        socket = wants_websocket(request)
    headers: list[tuple[str, str]] = []
    if options.send_initial_events and options.bookmarks and not socket and _packs(server, request):
        from pilothouse.apiserver.filters.compression import HEADERS, packed_events

        encoder = packed_events(encoder)
        headers += HEADERS
    stream = WatchStream(watcher, encoder, server.clock, timeout, pumps_of(server, served))
    stream.sent = server.services["metrics"].watch_counter(*served.gvr)
    if socket:
        return await send_watch(request, stream)
    return Response(content_type=encoder.content_type, headers=headers, push=stream.start)


def _packs(server: Server, request: Request) -> bool:
    from pilothouse.apiserver.filters.compression import accepts_gzip

    accepted = request.headers.get("accept-encoding", "")
    return server.config.response_compression and accepts_gzip(accepted)


async def open_watch(
    server: Server, served: ServedResource, namespace: str, options: ListOptions, timeout: float
) -> CacheWatcher:
    """The cache's watcher, started as resourceVersion and sendInitialEvents say."""
    cacher = served.store.cacher
    try:
        revision = parse_revision(options.resource_version)
    except ValueError as error:
        raise invalid_version(options.resource_version, error) from error
    initial = bool(options.send_initial_events)
    if options.send_initial_events is None and not revision:
        initial = True
    try:
        if initial and options.resource_version != "0":
            await cacher.wait_until_fresh(revision or None)
        elif options.send_initial_events is False and not options.resource_version:
            await cacher.wait_until_fresh()
            revision = cacher.revision
        else:
            await cacher.ensure_ready()
            if options.send_initial_events is False and not revision:
                revision = cacher.revision
    except StorageError as error:
        raise interpret(error, "watch", served.group_resource, "") from error
    prefix = served.list_prefix(namespace)
    selection = options.selection
    trigger = None
    if selection.fields is not None:
        for field, op, value in selection.fields.requirements:
            if op == "=" and field != "metadata.namespace":
                trigger = (field, value)
                break
    return cacher.watch(
        prefix,
        from_revision=None if initial else revision,
        initial=initial and options.bookmarks,
        # Without selectors the strategy need not be loaded: the garbage collector watches all.
        predicate=None if selection.empty else selection.predicate(served.store.strategy),
        bookmarks=options.bookmarks,
        deadline=server.clock.monotonic() + timeout,
        trigger=trigger,
    )


def bookmark_object(served: ServedResource, event: CacheEvent) -> Obj:
    """What a BOOKMARK carries: the kind that is watched and a resourceVersion."""
    metadata: Obj = {"resourceVersion": str(event.revision), "creationTimestamp": None}
    if event.initial_events_end:
        metadata["annotations"] = {INITIAL_EVENTS_END: "true"}
    return {"kind": served.gvk.kind, "apiVersion": served.api_version, "metadata": metadata}


class EventEncoder:
    """Events → lines, in the representation that one watch asked for."""

    def __init__(
        self, server: Server, served: ServedResource, negotiated: Negotiated, request: Request
    ) -> None:
        self.served = served
        self.negotiated = negotiated
        self._clock = server.clock
        self._include = include_object(request.query) if negotiated.transform == "Table" else ""
        self._columns = True
        transform = negotiated.transform
        if not transform:
            self._body: Callable[[CacheEvent], bytes] = self._whole
        elif transform == "Table":
            self._body = self._table
        elif transform == "PartialObjectMetadata":
            self._body = self._partial
        else:
            message = (
                "you requested PartialObjectMetadataList, but the requested object is not a list"
            )
            raise StatusError(406, "NotAcceptable", message)
        self._protobuf = negotiated.media_type == PROTOBUF
        self.key = ("line", served.api_version, transform, negotiated.version, self._protobuf)
        self.is_shared = self._include == ""
        # How a write of several events is made of them.
        self.piece: Callable[[CacheEvent], bytes] = self.framed
        self.join: Callable[[list[bytes]], bytes] = b"".join
        self.content_type = PROTOBUF_STREAM if self._protobuf else JSON

    def line(self, event: CacheEvent) -> bytes:
        if self._protobuf:
            return protobuf_frame(event.type, self._body(event))
        return b'{"type":"%b","object":%b}\n' % (event.type.encode(), self._body(event))

    def error(self, error: StatusError) -> bytes:
        body = orjson.dumps(error.status)
        if self._protobuf:
            return protobuf_frame("ERROR", body)
        return b'{"type":"ERROR","object":%b}\n' % body

    def framed(self, event: CacheEvent) -> bytes:
        """The line as a chunk of the HTTP body."""
        memo = event.memo
        framed: bytes | None = memo.get(self.key)
        if framed is None:
            framed = frame(self.line(event))
            if self.is_shared:
                memo[self.key] = framed
        return framed

    def _whole(self, event: CacheEvent) -> bytes:
        if event.type == "BOOKMARK":
            return orjson.dumps(bookmark_object(self.served, event))
        return encoded(self.served, event.entry)

    def _partial(self, event: CacheEvent) -> bytes:
        version = self.negotiated.meta_version
        if event.type == "BOOKMARK":
            return partial_of(bookmark_object(self.served, event), version)
        return partial_object(event.entry, version)

    def _table(self, event: CacheEvent) -> bytes:
        """Ages and the column headers of the first event make these lines one watch's own."""
        writer = TableWriter(self.served, self.negotiated, self._include, self._clock.now())
        columns, self._columns = self._columns, False
        head = writer.head(list_metadata(event.revision), columns=columns)
        if event.type == "BOOKMARK":
            row = writer.bookmark_row(bookmark_object(self.served, event))
        else:
            row = writer.row(event.entry)
        return head + row + b"]}"


class Pumps:
    """The streams of one kind that have something to write, served together.

    The first event after a pause goes out at the next turn of the loop. After that a fan-out may
    take a fifth of the loop's time: the next one waits four times as long as the last one
    took, at most ``MAX_PAUSE``, and what happens meanwhile goes into the same writes. With few
    watchers the pause is microseconds; with a thousand it keeps the loop free for requests and
    saves a TLS record and a system call for each event that joins another.
    """

    __slots__ = ("_loop", "_not_before", "_ready")

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._ready: list[WatchStream] = []
        self._not_before = 0.0

    def add(self, stream: WatchStream) -> None:
        ready = self._ready
        if not ready:
            wait = self._not_before - time.perf_counter()
            if wait > MIN_PAUSE:
                self._loop.call_later(wait, self._run)
            else:
                self._loop.call_soon(self._run)
        ready.append(stream)

    def _run(self) -> None:
        ready, self._ready = self._ready, []
        begin = time.perf_counter()
        for stream in ready:
            try:
                stream.pump()
            except Exception:
                # One watch must not cost the others their events.
                log.exception("a watch was ended")
                stream.end()
        end = time.perf_counter()
        self._not_before = end + min((end - begin) * PAUSE_RATIO, MAX_PAUSE)


def pumps_of(server: Server, served: ServedResource) -> Pumps:
    """A kind's own: a crowd that watches one kind does not hold up the events of another."""
    by_kind: dict[Any, Pumps] = server.services.setdefault("watch-pumps", {})
    pumps = by_kind.get(served.group_resource)
    if pumps is None:
        pumps = by_kind[served.group_resource] = Pumps()
    return pumps


class WatchStream:
    """A pushed response body that follows one cache watcher."""

    __slots__ = ("_awake", "_clock", "_error", "_framed", "_join", "_piece", "_rest", "_sink",
                 "_timeout", "_timer", "_watcher", "sent", "stopped")  # fmt: skip

    def __init__(
        self,
        watcher: CacheWatcher,
        encoder: EventEncoder,
        clock: Clock,
        timeout: float,
        pumps: Pumps,
    ) -> None:
        self._watcher = watcher
        self._framed = encoder.framed
        self._piece = encoder.piece
        self._join = encoder.join
        self._error = encoder.error
        self._clock = clock
        self._timeout = timeout
        self._timer: TimerHandle | None = None
        self._sink: Sink | None = None
        # Not at once: whatever else happens in this turn of the loop goes into the same write.
        self._awake = partial(pumps.add, self)
        self._rest: list[CacheEvent] = []
        self.stopped = False
        self.sent = [0]
        """Counts events; shared by all streams of a resource."""

    def start(self, sink: Sink) -> Callable[[], None]:
        self._sink = sink
        self._timer = self._clock.call_later(self._timeout, self.end)
        self._watcher.wake(self._awake)
        return self.end

    def pump(self) -> None:
        """Writes what is there, as far as the connection takes it."""
        watcher, sink = self._watcher, self._sink
        if self.stopped or sink is None:
            return
        framed = self._framed
        if not self._rest and sink.writable:
            # One event that all of a crowd gets: no call more than needed.
            batch = watcher.take()
            if len(batch) == 1:
                self.sent[0] += 1
                sink.write_framed(framed(batch[0]))
                if watcher.idle(self._awake):
                    return
            else:
                self._rest = batch
        while self._rest or watcher.pending:
            if not sink.writable:
                sink.on_writable(self.pump)
                return
            batch = self._rest or watcher.take()
            if len(batch) == 1:
                self._rest = []
                self.sent[0] += 1
                sink.write_framed(framed(batch[0]))
            else:
                sink.write_framed(self._some(batch))
        if watcher.closed:
            if isinstance(watcher.error, StatusError):
                sink.write(self._error(watcher.error))
            self.end()
        else:
            watcher.wake(self._awake)

    def _some(self, batch: list[CacheEvent]) -> bytes:
        """As many events as fit into a write; the rest waits, as the objects they are: a client
        that never reads holds a write, not the kind's whole content."""
        piece, lines, size = self._piece, [], 0
        for event in batch:
            line = piece(event)
            lines.append(line)
            size += len(line)
            if size > MAX_WRITE:
                break
        self._rest = batch[len(lines) :]
        self.sent[0] += len(lines)
        return self._join(lines)

    def end(self) -> None:
        """Timeout, shutdown or a client that went away: a clean end of the stream."""
        if self.stopped:
            return
        self.stopped = True
        if self._timer is not None:
            self._timer.cancel()
        self._watcher.wake(None)
        self._watcher.close()
        if self._sink is not None:
            self._sink.end()


def protobuf_frame(event_type: str, body: bytes) -> bytes:
    from pilothouse.apiserver.endpoints.protobuf_answers import watch_frame

    return watch_frame(event_type, body)


class LocalWatch:
    """A watch for in-process callers: decoded objects, nothing encoded."""

    __slots__ = ("served", "timeout", "watcher")

    def __init__(
        self, served: ServedResource, watcher: CacheWatcher, clock: Clock, timeout: float
    ) -> None:
        self.served = served
        self.watcher = watcher
        self.timeout = timeout

    def events(self, batch: list[Any]) -> list[tuple[str, Obj]]:
        """(type, object) of cache events."""
        served = self.served
        if served.converter is None:
            return [
                (
                    event.type,
                    bookmark_object(served, event) if event.type == "BOOKMARK" else event.entry.obj,
                )
                for event in batch
            ]
        return [
            (
                event.type,
                bookmark_object(served, event)
                if event.type == "BOOKMARK"
                else shared(served, event.entry),
            )
            for event in batch
        ]
