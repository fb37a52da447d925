"""Records requests for the audit log (endpoints/filters/audit.go); absent when that is off.

Stages: RequestReceived on the way in; ResponseStarted when a long-running answer begins;
ResponseComplete when the answer is at its end, of streams the last byte; Panic for our bugs.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import orjson

from pilothouse.apimachinery.errors import StatusError, new_internal_error, new_unauthorized
from pilothouse.apiserver.filters.deadline import is_long_running
from pilothouse.apiserver.registry.before import new_uid

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from pilothouse.apiserver.audit.auditor import Auditor
    from pilothouse.apiserver.audit.event import Record
    from pilothouse.apiserver.endpoints.handler import APIHandler, Server
    from pilothouse.apiserver.handler_chain import Handler
    from pilothouse.apiserver.request.context import Request, Response
    from pilothouse.componentbase.serving.interfaces import Push, Sink

_JSON = "application/json"
REQUEST_RECEIVED = "RequestReceived"
RESPONSE_STARTED = "ResponseStarted"
RESPONSE_COMPLETE = "ResponseComplete"
PANIC = "Panic"
_REQUEST, _REQUEST_RESPONSE = 2, 3
"""Levels, as numbers (``audit.policy.Level``): without auditing its modules are not loaded."""
CLOSED_EARLY = {
    "metadata": {},
    "status": "Success",
    "message": "Connection closed early",
    "code": 200,
}


def with_audit(server: Server, handler: Handler) -> Handler:
    auditor: Auditor | None = server.services.get("audit")
    if auditor is None:
        return handler

    async def audited(request: Request) -> Response:
        record = auditor.begin(request)
        if record is None:
            return await handler(request)
        if not auditor.process(record, REQUEST_RECEIVED):
            auditor.rejected.inc()
            raise new_internal_error("failed to store audit event")
        run = _Run(auditor, record, request)
        _take_patch(record, request)
        try:
            response = await handler(request)
        except StatusError as error:
            run.refused(error)
            raise
        except asyncio.CancelledError:
            run.complete()
            raise
        except Exception as error:
            run.panicked(error)
            raise
        return run.answered(response)

    return audited


class AuditedHandler:
    """The API handler for in-process callers of a server that keeps an audit log."""

    def __init__(self, server: Server, api: APIHandler) -> None:
        self._handle = with_audit(server, api.handle)
        self._random = server.random

    async def handle(self, request: Request) -> Response:
        request.audit_id = new_uid(self._random)
        return await self._handle(request)


def record_failed_authentication(server: Server, request: Request) -> None:
    """A request of nobody: one event, stage ResponseStarted."""
    from pilothouse.apiserver.request.context import UserInfo

    auditor: Auditor | None = server.services.get("audit")
    if auditor is None:
        return
    request.user = UserInfo("")
    try:
        record = auditor.begin(request)
    finally:
        request.user = None
    if record is not None:
        refused = new_unauthorized()
        record.set_status(401, refused.status)
        record.set_response(orjson.dumps(refused.status))
        auditor.process(record, RESPONSE_STARTED)


async def record_refused(server: Server, request: Request, response: Response) -> None:
    """A request that was answered before it was read. Refusals of nobody are like any other's."""
    authenticator = server.services["authenticator"]
    auditor: Auditor = server.services["audit"]
    request.audit_id = request.headers.get("audit-id") or new_uid(server.random)
    try:
        request.user = await authenticator.authenticate(request.headers, request.peer_der)
    except StatusError:
        request.user = None
    if request.user is None:
        record_failed_authentication(server, request)
        return
    record = auditor.begin(request)
    if record is None:
        return
    auditor.process(record, REQUEST_RECEIVED)
    record.set_status(response.status, _status_of(response))
    if record.level >= _REQUEST_RESPONSE:
        record.set_response(response.body)
    auditor.process(record, RESPONSE_COMPLETE)


def _take_patch(record: Record, request: Request) -> None:
    if request.info.verb != "patch" or record.level < _REQUEST:
        return
    if request.obj is not None:
        record.set_patch(orjson.dumps(request.obj))
    elif "yaml" in request.headers.get("content-type", ""):
        import yaml

        try:
            record.set_patch(orjson.dumps(yaml.safe_load(request.body)))
        except (yaml.YAMLError, TypeError):
            return
    else:
        try:
            orjson.loads(request.body)
        except ValueError:
            return
        record.set_patch(request.body)


class _Run:
    """The stages of one request, each at most once."""

    __slots__ = ("_auditor", "_done", "_long", "_record", "_request", "_started")

    def __init__(self, auditor: Auditor, record: Record, request: Request) -> None:
        self._auditor = auditor
        self._record = record
        self._request = request
        self._long = is_long_running(request.info)
        self._started = False
        self._done = False
        if request.upgrade is not None:
            request.upgrade = self._upgraded(request.upgrade)

    def _upgraded(self, upgrade: Callable[[], Any]) -> Callable[[], Any]:
        async def take_over() -> Any:
            self._record.set_status(101)
            self.start()
            return await upgrade()

        return take_over

    def start(self) -> None:
        if self._long and not self._started:
            self._started = True
            self._identify()
            self._auditor.process(self._record, RESPONSE_STARTED)

    def complete(self) -> None:
        if self._done:
            return
        self._done = True
        if self._record.response_status is None:
            self._record.response_status = CLOSED_EARLY
        self.start()
        self._identify()
        self._auditor.process(self._record, RESPONSE_COMPLETE)

    def _identify(self) -> None:
        if self._request.impersonator is not None:
            self._record.impersonated = self._request.user

    def refused(self, error: StatusError) -> None:
        self._record.set_status(error.code, error.status)
        if self._record.level >= _REQUEST_RESPONSE:
            self._record.set_response(orjson.dumps(error.status))
        self.complete()

    def panicked(self, error: BaseException) -> None:
        status = {
            "kind": "Status",
            "status": "Failure",
            "reason": "InternalError",
            "message": f"APIServer panic'd: {error}",
        }
        self._record.set_status(500, status)
        self._done = True
        self._identify()
        self._auditor.process(self._record, PANIC)

    def answered(self, response: Response) -> Response:
        record, request = self._record, self._request
        if response.hijacked:
            self.complete()
            return response
        is_json = response.content_type.startswith(_JSON)
        record.set_status(response.status, _status_of(response) if is_json else None)
        # What is no API object upstream (/version) has no place in its events.
        api = request.info.is_resource_request or request.path.startswith("/api")
        keep = is_json and api and record.level >= _REQUEST_RESPONSE
        if response.chunks is not None:
            self.start()
            response.chunks = self._tee(response.chunks, keep and not self._long)
        elif response.push is not None:
            self.start()
            response.push = _watched(response.push, self.complete)
        elif response.watch is not None:
            self.start()
        else:
            if keep and response.obj is not None:
                record.set_response(orjson.dumps(response.obj))
            elif keep:
                record.set_response(response.body)
            self.complete()
        return response

    async def _tee(self, chunks: AsyncIterator[bytes], keep: bool) -> AsyncIterator[bytes]:
        parts = []
        try:
            async for chunk in chunks:
                if keep:
                    parts.append(chunk)
                yield chunk
            self._record.set_response(b"".join(parts))
        finally:
            close = getattr(chunks, "aclose", None)
            if close is not None:
                await close()
            self.complete()


def _status_of(response: Response) -> Any:
    """The answer when it is a Status, None otherwise."""
    if response.obj is not None:
        return response.obj
    if response.body and b'"kind":"Status"' in response.body[:64]:
        return orjson.loads(response.body)
    return None


def _watched(push: Push, done: Callable[[], None]) -> Push:
    def start(sink: Sink) -> Callable[[], None]:
        stop = push(_AuditedSink(sink, done))

        def stopped() -> None:
            stop()
            done()

        return stopped

    return start


class _AuditedSink:
    """A sink whose end is the end of the request."""

    __slots__ = ("_done", "_sink", "on_writable", "write", "write_framed")

    def __init__(self, sink: Sink, done: Callable[[], None]) -> None:
        self._sink = sink
        self._done = done
        self.write = sink.write
        self.write_framed = sink.write_framed
        self.on_writable = sink.on_writable

    @property
    def writable(self) -> bool:
        return self._sink.writable

    def end(self) -> None:
        self._sink.end()
        self._done()
