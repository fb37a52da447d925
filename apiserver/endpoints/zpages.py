"""/flagz and /statusz (component-base zpages, on by default since v1.36): how the server was told
to run, and since when it does. Text for people; objects for those who ask for Flagz and Statusz.

Only imported when somebody asks.
"""

from __future__ import annotations

from dataclasses import fields
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from pilothouse.apimachinery.errors import StatusError
from pilothouse.apimachinery.timefmt import format_time
from pilothouse.apiserver.config import DURATIONS
from pilothouse.apiserver.endpoints.responses import dump
from pilothouse.apiserver.request.context import Response
from pilothouse.componentbase.process_numbers import process_numbers
from pilothouse.componentbase.version import MAJOR, MINOR, version_info

if TYPE_CHECKING:
    from pilothouse.apiserver.config import ServerConfig
    from pilothouse.apiserver.request.context import Request

_TEXT = "text/plain; charset=utf-8"
_VERSIONS = ("v1beta1", "v1alpha1")
_NAME = "apiserver"
_WARNING = (
    "Warning: This endpoint is not meant to be machine parseable, has no formatting compatibility "
    "guarantees and is for debugging purposes only."
)
_ACCEPTED = "application/json, application/yaml, text/plain"
PATHS = ("/flagz", "/healthz", "/livez", "/metrics", "/readyz", "/statusz", "/version")


def flagz(request: Request, config: ServerConfig) -> Response:
    """:raises StatusError: 406."""
    flags = flags_of(config)
    version = _asked_version(request, "Flagz")
    if version:
        return _object("Flagz", version, {"flags": flags})
    lines = [f"{name}:{value}" for name, value in flags.items()]
    return _page("flagz", [*lines, ""])


def statusz(request: Request, now: datetime) -> Response:
    """:raises StatusError: 406."""
    started = datetime.fromtimestamp(process_numbers().get("start_time_seconds", 0.0), UTC)
    seconds = max(0, int((now - started).total_seconds()))
    info = version_info()
    binary = str(info["gitVersion"]).removeprefix("v")
    emulated = f"{MAJOR}.{MINOR}"
    version = _asked_version(request, "Statusz")
    if version:
        status = {
            "startTime": format_time(started),
            "uptimeSeconds": seconds,
            "goVersion": info["goVersion"],
            "binaryVersion": binary,
            "emulationVersion": emulated,
            "paths": list(PATHS),
        }
        return _object("Statusz", version, status)
    hours, minutes = seconds // 3600, seconds // 60 % 60
    lines = [
        "",
        f"Started: {started:%a %b %e %H:%M:%S UTC %Y}",
        f"Up: {hours} hr {minutes:02} min {seconds % 60:02} sec",
        f"Go version: {info['goVersion']}",
        f"Binary version: {binary}",
        f"Emulation version: {emulated}",
        f"Paths: {' '.join(PATHS)}",
        "",
    ]
    return _page("statusz", lines)


def flags_of(config: ServerConfig) -> dict[str, str]:
    """By the names of the flags, in their order."""
    found = {
        field.name.replace("_", "-"): shown(field.name, getattr(config, field.name))
        for field in fields(config)
    }
    return dict(sorted(found.items()))


def shown(name: str, value: Any) -> str:
    """As pflag prints it."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (tuple, list)):
        return f"[{','.join(map(str, value))}]"
    if name in DURATIONS and name != "min_request_timeout":
        return go_duration(float(value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def go_duration(seconds: float) -> str:
    """As Go's ``time.Duration`` prints itself, for spans of milliseconds and more."""
    if 0 < seconds < 1:
        return f"{seconds * 1000:g}ms"
    whole, rest = divmod(seconds, 60)
    hours, minutes = divmod(int(whole), 60)
    text = f"{hours}h" if hours else ""
    text += f"{minutes}m" if hours or minutes else ""
    return f"{text}{rest:g}s"


def _asked_version(request: Request, kind: str) -> str:
    """The version of the object that is asked for; empty: a text. :raises StatusError: 406."""
    accept = request.headers.get("accept", "") or "*/*"
    for clause in accept.split(","):
        media, *parts = (part.strip() for part in clause.split(";"))
        parameters = dict(part.partition("=")[::2] for part in parts)
        if media in ("*/*", "text/*", "text/plain"):
            return ""
        if media == "application/json" and parameters.get("as") == kind:
            version = parameters.get("v", "")
            if parameters.get("g") == "config.k8s.io" and version in _VERSIONS:
                return version
    message = f"only the following media types are accepted: {_ACCEPTED}"
    raise StatusError(406, "NotAcceptable", message)


def _object(kind: str, version: str, content: dict[str, Any]) -> Response:
    head = {
        "kind": kind,
        "apiVersion": f"config.k8s.io/{version}",
        "metadata": {"name": _NAME},
    }
    answer = dump({**head, **content})
    answer.content_type = f"application/json;g=config.k8s.io;v={version};as={kind}"
    return answer


def _page(name: str, lines: list[str]) -> Response:
    text = "\n".join(["", f"{_NAME} {name}", _WARNING, *lines])
    headers = [("X-Content-Type-Options", "nosniff")]
    return Response(200, text.encode(), _TEXT, headers)
