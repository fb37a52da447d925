"""One request's audit record: collects facts as the request passes, makes events of them.

A record hangs on ``Request.audit`` while auditing is on; without it nobody collects anything.
``Record.event(stage)`` is the audit.k8s.io/v1 Event as a dict in upstream's order of fields.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import orjson

from pilothouse.apimachinery.timefmt import format_micro_time
from pilothouse.apiserver.audit.policy import API_VERSION, REQUEST_RECEIVED, Level

if TYPE_CHECKING:
    from datetime import datetime

    from pilothouse.apimachinery.typeschema import TypeSchema
    from pilothouse.apiserver.audit.policy import Recording
    from pilothouse.apiserver.request.context import Request, UserInfo

MAX_USER_AGENT = 1024
_STATUS_FIELDS = ("status", "message", "reason", "details", "code")


_PATCHES = "patch.webhook.admission.k8s.io/"
"""Annotations of mutating webhooks' patches."""


class Record:
    """What is known about one request so far."""

    __slots__ = (
        "_constant",
        "annotations",
        "constraint",
        "impersonated",
        "level",
        "object_ref",
        "received",
        "recording",
        "request_object",
        "response_object",
        "response_status",
    )

    def __init__(self, request: Request, recording: Recording, received: datetime) -> None:
        self.recording = recording
        self.level = recording.level
        self.received = received
        self.annotations = request.audit_annotations
        self.impersonated: UserInfo | None = None
        self.constraint = ""
        self.request_object: bytes | None = None
        self.response_object: bytes | None = None
        self.response_status: dict[str, Any] | None = None
        self.object_ref = object_reference(request)
        agent = request.headers.get("user-agent", "")
        if len(agent) > MAX_USER_AGENT:
            agent = agent[:MAX_USER_AGENT] + "...TRUNCATED"
        self._constant: dict[str, Any] = {
            "requestURI": request_uri(request),
            "verb": request.info.verb,
            "user": {} if request.user is None else user_object(request.user),
            "sourceIPs": source_ips(request),
            "userAgent": agent,
            "auditID": request.audit_id,
        }

    def set_request(self, obj: Any, schema: TypeSchema | None = None) -> None:
        """The decoded object of the request, of the type ``schema``; its caller may change it
        afterwards."""
        metadata = obj.get("metadata") if isinstance(obj, dict) else None
        if isinstance(metadata, dict):
            if self.object_ref is None:
                self.object_ref = {}
            for field, key in _REFERENCE_FIELDS:
                if metadata.get(key) and not self.object_ref.get(field):
                    self.object_ref[field] = metadata[key]
        if self.level >= Level.REQUEST:
            if self.recording.omit_managed_fields:
                obj = without_managed_fields(obj)
            if schema is not None:
                from pilothouse.apiserver.codec.zero_values import with_structs

                obj = with_structs(obj, schema)
            self.request_object = orjson.dumps(obj)

    def set_patch(self, patch: bytes) -> None:
        if self.level >= Level.REQUEST:
            self.request_object = orjson.dumps(orjson.loads(patch)) if b"\n" in patch else patch

    def set_status(self, code: int, status: Any = None) -> None:
        """The answer's code and, when the answer is a Status, what it says."""
        answer: dict[str, Any] = {"metadata": {}}
        if isinstance(status, dict) and status.get("kind") == "Status":
            answer |= {
                name: status[name]
                for name in _STATUS_FIELDS
                if status.get(name) or status.get(name) == {}
            }
        answer["code"] = code
        self.response_status = answer

    def set_response(self, body: bytes) -> None:
        """The JSON body of the answer."""
        if self.level < Level.REQUEST_RESPONSE or not body:
            return
        if self.recording.omit_managed_fields and b'"managedFields"' in body:
            body = orjson.dumps(without_managed_fields(orjson.loads(body)))
        elif b"\n" in body[:-1]:  # pretty: an event is one line
            body = orjson.dumps(orjson.loads(body))
        self.response_object = body.strip()

    def event(self, stage: str, now: datetime) -> dict[str, Any]:
        constant = self._constant
        event: dict[str, Any] = {
            "kind": "Event",
            "apiVersion": API_VERSION,
            "level": self.level.text,
            "auditID": constant["auditID"],
            "stage": stage,
            "requestURI": constant["requestURI"],
            "verb": constant["verb"],
            "user": constant["user"],
        }
        if self.impersonated is not None:
            event["impersonatedUser"] = user_object(self.impersonated)
            if self.constraint:
                event["authenticationMetadata"] = {"impersonationConstraint": self.constraint}
        for name in ("sourceIPs", "userAgent"):
            if constant[name]:
                event[name] = constant[name]
        if self.object_ref is not None:
            event["objectRef"] = {
                name: self.object_ref[name]
                for name in _REFERENCE_ORDER
                if self.object_ref.get(name)
            }
        if self.response_status is not None:
            event["responseStatus"] = self.response_status
        if self.request_object is not None:
            event["requestObject"] = orjson.Fragment(self.request_object)
        if self.response_object is not None:
            event["responseObject"] = orjson.Fragment(self.response_object)
        received = format_micro_time(self.received)
        event["requestReceivedTimestamp"] = received
        event["stageTimestamp"] = received if stage == REQUEST_RECEIVED else format_micro_time(now)
        if self.annotations:
            shown = sorted(self.annotations.items())
            if self.level < Level.REQUEST:
                # They quote the request's body.
                shown = [item for item in shown if not item[0].startswith(_PATCHES)]
            if shown:
                event["annotations"] = dict(shown)
        return event


_REFERENCE_ORDER = (
    "resource",
    "namespace",
    "name",
    "uid",
    "apiGroup",
    "apiVersion",
    "resourceVersion",
    "subresource",
)
_REFERENCE_FIELDS = (
    ("namespace", "namespace"),
    ("name", "name"),
    ("uid", "uid"),
    ("resourceVersion", "resourceVersion"),
)


def object_reference(request: Request) -> dict[str, Any] | None:
    info = request.info
    if not info.is_resource_request:
        return None
    return {
        "resource": info.resource,
        "namespace": info.namespace,
        "name": info.name,
        "apiGroup": info.api_group,
        "apiVersion": info.api_version,
        "subresource": info.subresource,
    }


def user_object(user: UserInfo) -> dict[str, Any]:
    found: dict[str, Any] = {"username": user.name} if user.name else {}
    if user.uid:
        found["uid"] = user.uid
    if user.groups:
        found["groups"] = list(user.groups)
    if user.extra:
        found["extra"] = {key: list(values) for key, values in user.extra}
    return found


def source_ips(request: Request) -> list[str]:
    """X-Forwarded-For, X-Real-Ip and the peer, without repetitions (utilnet.SourceIPs)."""
    headers = request.headers
    found = [part.strip() for part in headers.get("x-forwarded-for", "").split(",")]
    found.append(headers.get("x-real-ip", "").strip())
    peer = "" if request.connection is None else request.connection.client
    if request.local:
        peer = "127.0.0.1"
    if peer and peer != (found[-1] or found[-2]):
        found.append(peer)
    return [ip for ip in found if ip]


def request_uri(request: Request) -> str:
    """As it was sent; for in-process callers as they would have sent it."""
    if request.connection is not None:
        return str(request.connection.target.decode("latin-1"))
    info = request.info
    if not info.is_resource_request:
        return request.path
    parts = ["", info.api_prefix]
    if info.api_group:
        parts.append(info.api_group)
    parts.append(info.api_version)
    if info.namespace and info.resource != "namespaces":
        parts += ["namespaces", info.namespace]
    parts += [quote(part) for part in info.parts]
    path = "/".join(parts)
    query = "&".join(
        f"{quote(name)}={quote(value, safe='')}"
        for name, values in request.query.items()
        for value in values
    )
    return f"{path}?{query}" if query else path


def without_managed_fields(obj: Any) -> Any:
    """A copy of an object, a list or a Table that lacks metadata.managedFields."""
    if not isinstance(obj, dict):
        return obj
    kept = dict(obj)
    metadata = kept.get("metadata")
    if isinstance(metadata, dict) and "managedFields" in metadata:
        kept["metadata"] = {k: v for k, v in metadata.items() if k != "managedFields"}
    if isinstance(kept.get("items"), list):
        kept["items"] = [without_managed_fields(item) for item in kept["items"]]
    if kept.get("kind") == "Table" and isinstance(kept.get("rows"), list):
        kept["rows"] = [
            {**row, "object": without_managed_fields(row.get("object"))} for row in kept["rows"]
        ]
    return kept


def event_line(event: dict[str, Any]) -> str:
    """--audit-log-format=legacy: one line of text (audit.EventString)."""
    user, as_user = event["user"], event.get("impersonatedUser")
    groups = as_groups = None
    if user.get("username"):
        groups = user.get("groups")
    if as_user is not None:
        as_groups = as_user.get("groups")
    status = event.get("responseStatus")
    response = str(status["code"]) if status else "<deferred>"
    sources = event.get("sourceIPs") or ["<unknown>"]
    namespace = (event.get("objectRef") or {}).get("namespace") or "<none>"
    values = {
        "id": event["auditID"],
        "stage": event["stage"],
        "ip": sources[0],
        "method": event["verb"],
        "user": user.get("username") or "<none>",
        "groups": _listed(groups) or "<none>",
        "as": as_user["username"] if as_user else "<self>",
        "asgroups": _listed(as_groups) or "<lookup>",
        "user-agent": event.get("userAgent", ""),
        "namespace": namespace,
        "uri": event["requestURI"],
    }
    text = " ".join(f"{name}={_quoted(value)}" for name, value in values.items())
    return f'{event["requestReceivedTimestamp"]} AUDIT: {text} response="{response}"'


def _listed(values: list[str] | None) -> str:
    return ",".join(_quoted(value) for value in values or ())


def _quoted(text: str) -> str:
    return orjson.dumps(text).decode()
