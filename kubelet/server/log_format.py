"""Container logs in CRI's format: options, lines, and what a reader gets of them (pure).

2026-11-23T16:54:10.750006090Z stdout F a whole line
2026-11-23T16:54:10.750006090Z stdout P the beginning of a longer one
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from pilothouse.apimachinery.timefmt import parse_time
from pilothouse.kubelet.server.interfaces import Refusal

STREAMS = ("All", "Stdout", "Stderr")
_STAMP = re.compile(rb"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9})\d*)?(Z|[+-]\d\d:\d\d)")


@dataclass(frozen=True, slots=True)
class LogOptions:
    """PodLogOptions, with times made absolute. ``since`` is a fixed-width timestamp."""

    follow: bool = False
    previous: bool = False
    timestamps: bool = False
    tail_lines: int | None = None
    limit_bytes: int | None = None
    since: bytes = b""
    stream: str = "All"

    @staticmethod
    def from_query(query: Mapping[str, list[str]], now: datetime) -> LogOptions:
        """:raises Refusal: 400 unreadable, 422 invalid."""

        def first(name: str) -> str:
            return (query.get(name) or [""])[0]

        def flag(name: str) -> bool:
            text = first(name).lower()
            if name in query and text not in ("true", "1", "false", "0", ""):
                raise Refusal(400, '{"message": "Unable to decode query."}')
            return name in query and text in ("true", "1", "")

        def number(name: str) -> int | None:
            text = first(name)
            try:
                return int(text) if text else None
            except ValueError as error:
                raise Refusal(400, '{"message": "Unable to decode query."}') from error

        tail = number("tailLines")
        if first("tail"):
            tail = None if first("tail") == "all" else number("tail")
        seconds, limit, moment = number("sinceSeconds"), number("limitBytes"), first("sinceTime")
        stream = first("stream") or "All"
        invalid = (
            (tail is not None and tail < 0)
            or (limit is not None and limit < 1)
            or (seconds is not None and (seconds < 1 or bool(moment)))
            or stream not in STREAMS
            or (stream != "All" and tail is not None)
        )
        if invalid:
            raise Refusal(422, '{"message": "Invalid request."}')
        since = b""
        if seconds is not None:
            since = _before(now, seconds)
        elif moment:
            try:
                since = timestamp(parse_time(moment))
            except ValueError as error:
                raise Refusal(400, '{"message": "Unable to decode query."}') from error
        return LogOptions(
            flag("follow"), flag("previous"), flag("timestamps"), tail, limit, since, stream
        )


def _before(now: datetime, seconds: int) -> bytes:
    try:
        return timestamp(now - timedelta(seconds=seconds))
    except OverflowError:
        return b""  # before the beginning of time: everything


def timestamp(moment: datetime) -> bytes:
    """RFC 3339 in UTC with nine digits: such stamps sort as text."""
    moment = moment.astimezone(UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%S").rjust(19, "0").encode() + (
        b".%06d000Z" % moment.microsecond
    )


def normal_stamp(stamp: bytes) -> bytes | None:
    """Any RFC 3339 time in the form of :func:`timestamp`; None when it is none."""
    if len(stamp) == 30 and stamp[29] == 0x5A and stamp[19] == 0x2E:
        return stamp
    match = _STAMP.fullmatch(stamp)
    if match is None:
        return None
    seconds, fraction, zone = match.groups()
    if zone != b"Z":
        try:
            moment = datetime.fromisoformat((seconds + zone).decode()).astimezone(UTC)
        except (ValueError, OverflowError):
            return None
        seconds = moment.strftime("%Y-%m-%dT%H:%M:%S").encode()
    return seconds + b"." + (fraction or b"").ljust(9, b"0") + b"Z"


@dataclass(frozen=True, slots=True)
class LogLine:
    stamp: bytes
    stream: bytes
    content: bytes
    """With its line end, but for a partial line."""


def parse_line(line: bytes) -> LogLine | None:
    """None for what is no CRI log line."""
    parts = line.split(b" ", 3)
    if len(parts) != 4 or parts[1] not in (b"stdout", b"stderr"):
        return None
    stamp = normal_stamp(parts[0])
    if stamp is None:
        return None
    content = parts[3]
    if parts[2].split(b":", 1)[0] == b"P" and content.endswith(b"\n"):
        content = content[:-1]
    return LogLine(stamp, parts[1], content)


class LogFilter:
    """Raw log lines in, what the reader asked for out. ``done``: nothing more will come."""

    def __init__(self, options: LogOptions) -> None:
        self._options = options
        self._stream = b"" if options.stream == "All" else options.stream.lower().encode()
        self._remaining = options.limit_bytes
        self._lines = options.tail_lines if not options.follow else None
        self._new_line = True
        self.done = self._lines == 0

    def take(self, line: bytes) -> bytes:
        """The output for one raw line, its newline included."""
        message = parse_line(line)
        if message is None or self.done:
            return b""
        output = self._output(message)
        if self._lines is not None:
            self._lines -= 1
            self.done = self.done or self._lines == 0
        self._new_line = message.content.endswith(b"\n") or not message.content
        return output

    def _output(self, message: LogLine) -> bytes:
        if self._stream and message.stream != self._stream:
            return b""
        if message.stamp < self._options.since:
            return b""
        output = message.content
        if self._options.timestamps and self._new_line:
            output = message.stamp + b" " + output
        if self._remaining is not None:
            output = output[: self._remaining]
            self._remaining -= len(output)
            self.done = self._remaining <= 0
        return output
