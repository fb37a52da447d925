"""OpenTelemetry traces by --tracing-config-file: OTLP over HTTP (the extra ``tracing``).

Imported only when the flag is given. Spans: one a request, named by its route; below it what
the store, admission webhooks and other servers are asked for. Requests of the privileged
continue the caller's trace, those of others begin a new one that links to it, as upstream.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Any

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ParentBased, TraceIdRatioBased
from opentelemetry.trace import (
    Link,
    NonRecordingSpan,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    set_span_in_context,
)

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.sdk.trace.export import SpanExporter
    from opentelemetry.trace import Span, Tracer

    from pilothouse.apiserver.request.context import Request
    from pilothouse.apiserver.request.info import RequestInfo

DEFAULT_ENDPOINT = "http://localhost:4318/v1/traces"
_API = "apiserver.k8s.io"
_VERSIONS = tuple(f"{_API}/{version}" for version in ("v1", "v1beta1", "v1alpha1"))
_PRIVILEGED = frozenset(("system:masters", "system:monitoring"))
_MILLION = 1_000_000


class ActiveSpan:
    """A span that has begun, and what its parts need of it."""

    __slots__ = ("_span", "_tracer")

    def __init__(self, tracer: Tracer, span: Span) -> None:
        self._tracer = tracer
        self._span = span

    def child(self, name: str, attributes: dict[str, Any]) -> ActiveSpan:
        context = set_span_in_context(self._span)
        made = self._tracer.start_span(name, context, SpanKind.CLIENT, attributes)
        return ActiveSpan(self._tracer, made)

    def set(self, name: str, value: Any) -> None:
        self._span.set_attribute(name, value)

    def failed(self, error: BaseException) -> None:
        self._span.set_status(Status(StatusCode.ERROR, str(error)))

    def end(self) -> None:
        self._span.end()

    def headers(self) -> dict[str, str]:
        """W3C trace context."""
        found = self._span.get_span_context()
        flags = int(found.trace_flags)
        value = f"00-{found.trace_id:032x}-{found.span_id:016x}-{flags:02x}"
        state = found.trace_state.to_header()
        return {"traceparent": value} | ({"tracestate": state} if state else {})


class Tracing:
    """The tracer of one API server. ``exporter`` may be given by tests."""

    def __init__(
        self, endpoint: str, sampling_per_million: int | None, exporter: SpanExporter | None = None
    ) -> None:
        if exporter is None:
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

            exporter = OTLPSpanExporter(endpoint=endpoint)
        root = ALWAYS_OFF
        if sampling_per_million is not None:
            root = TraceIdRatioBased(sampling_per_million / _MILLION)  # type: ignore[assignment]
        self._provider = TracerProvider(
            sampler=ParentBased(root), resource=Resource.create({"service.name": "apiserver"})
        )
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("pilothouse.apiserver")

    def begin(self, request: Request) -> ActiveSpan:
        """The span of a request whose user is known."""
        remote = parse_traceparent(request.headers.get("traceparent", ""))
        context: Context | None = None
        links: list[Link] = []
        if remote is not None:
            user = request.user
            if user is not None and not _PRIVILEGED.isdisjoint(user.groups):
                context = set_span_in_context(NonRecordingSpan(remote))
            else:
                links.append(Link(remote))
        target = request.path
        if request.connection is not None:
            target = request.connection.target.decode("latin-1")
        attributes = {
            "http.request.method": request.method,
            "http.target": target,
            "audit-id": request.audit_id,
        }
        name = span_name(request.method, request.info)
        made = self._tracer.start_span(
            name, context, SpanKind.SERVER, attributes, links=links or None
        )
        return ActiveSpan(self._tracer, made)

    async def close(self) -> None:
        """Sends what is left."""
        await asyncio.to_thread(self._provider.shutdown)


def span_name(method: str, info: RequestInfo) -> str:
    """The request's route: no names of objects."""
    if not info.is_resource_request:
        return method
    parts = ["", info.api_prefix]
    if info.api_group:
        parts.append(info.api_group)
    parts.append(info.api_version)
    if info.namespace:
        parts.append("namespaces/{:namespace}")
    parts.append(info.resource)
    if info.name:
        parts.append("{:name}")
    if info.subresource:
        parts.append(info.subresource)
    return f"{method} {'/'.join(parts)}"


def parse_traceparent(text: str) -> SpanContext | None:
    parts = text.split("-")
    if len(parts) < 4 or [len(part) for part in parts[:4]] != [2, 32, 16, 2]:
        return None
    try:
        trace, span, flags = int(parts[1], 16), int(parts[2], 16), int(parts[3], 16)
    except ValueError:
        return None
    if not trace or not span or parts[0] == "ff":
        return None
    return SpanContext(trace, span, True, TraceFlags(flags))


def load_tracing(path: str) -> Tracing:
    """:raises ValueError: the file can't be read, or is no TracingConfiguration."""
    import yaml

    try:
        content = yaml.safe_load(Path(path).read_text())
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(
            "failed to read tracing config: unable to read tracing configuration from "
            f'"{path}": {error}'
        ) from error
    except yaml.YAMLError as error:
        raise ValueError(
            f"failed to read tracing config: unable to decode tracing configuration data: {error}"
        ) from error
    endpoint, sampling = parse_configuration(content)
    return Tracing(endpoint, sampling)


def parse_configuration(content: Any) -> tuple[str, int | None]:
    """The endpoint's URL and the samples per million. :raises ValueError: upstream's words."""
    head = content if isinstance(content, dict) else {}
    if head.get("kind") != "TracingConfiguration" or head.get("apiVersion") not in _VERSIONS:
        kind, version = head.get("kind", ""), head.get("apiVersion", "")
        raise ValueError(
            "failed to read tracing config: unable to decode tracing configuration data: no kind "
            f'"{kind}" is registered for version "{version}"'
        )
    sampling = head.get("samplingRatePerMillion")
    if sampling is not None and sampling < 0:
        raise ValueError(
            "failed to validate tracing configuration: tracing.samplingRatePerMillion: Invalid "
            f"value: {sampling}: sampling rate must be positive"
        )
    if sampling is not None and sampling > _MILLION:
        raise ValueError(
            "failed to validate tracing configuration: tracing.samplingRatePerMillion: Invalid "
            f"value: {sampling}: sampling rate per million must be less than or equal to one "
            "million"
        )
    endpoint = head.get("endpoint") or DEFAULT_ENDPOINT
    if "//" not in endpoint:
        endpoint = f"http://{endpoint}"
    scheme, _, rest = endpoint.partition("://")
    if scheme not in ("http", "https"):
        raise ValueError(
            "failed to validate tracing configuration: tracing.endpoint: Invalid value: "
            f'"{endpoint}": unsupported scheme: {scheme}.  Options are none, http or https'
        )
    if "/" not in rest:
        endpoint = f"{endpoint}/v1/traces"
    return endpoint, sampling
