"""Where audit events go: files that are rotated, standard out, and the modes of delivery.

A backend's ``process`` takes events (dicts) and returns False when they are lost for a reason
that the client should learn of (blocking-strict). ``BatchBackend`` delivers later and in one go.
"""

from __future__ import annotations

import contextlib
import gzip
import logging
import os
import shutil
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol

import orjson

from pilothouse.apiserver.audit.event import event_line

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pilothouse.apimachinery.clock import Clock

log = logging.getLogger(__name__)

Event = dict[str, Any]
_MEGABYTE = 1024 * 1024
_TRUNCATED = "audit.k8s.io/truncated"


class Backend(Protocol):
    name: str

    async def start(self) -> None: ...

    def process(self, events: Sequence[Event]) -> bool:
        """Takes the events; False: they could not be stored."""
        ...

    async def close(self) -> None:
        """Delivers what is still buffered."""
        ...


class RotatingFile:
    """An append-only file that is moved away when it grows over ``max_size`` MiB (lumberjack:
    ``name-2006-01-02T15-04-05.000.log``); old ones go by number and by age in days."""

    def __init__(
        self,
        path: Path,
        clock: Clock,
        *,
        max_size: int,
        max_backups: int,
        max_age: int,
        compress: bool = False,
    ) -> None:
        self._path = path
        self._clock = clock
        self._limit = max_size * _MEGABYTE
        self._max_backups = max_backups
        self._max_age = max_age
        self._compress = compress
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._file = self._open()
        self._size = self._file.tell()

    def _open(self) -> BinaryIO:
        return open(self._path, "ab", buffering=0, opener=_private)

    def write(self, data: bytes) -> None:
        """:raises OSError: the disk's reasons."""
        if self._limit and self._size and self._size + len(data) > self._limit:
            self._rotate()
        self._file.write(data)
        self._size += len(data)

    def _rotate(self) -> None:
        self._file.close()
        stamp = self._clock.now().strftime("%Y-%m-%dT%H-%M-%S.%f")[:-3]
        path = self._path
        os.rename(path, path.with_name(f"{path.stem}-{stamp}{path.suffix}"))
        self._file = self._open()
        self._size = 0
        self._clean()

    def _clean(self) -> None:
        """Drops backups beyond the limits, packs the others when that is asked for."""
        path = self._path
        # Ours have a time in their names; audit-notes.log is somebody else's.
        backups = sorted((p for p in path.parent.iterdir() if _stamp(p, path)), reverse=True)
        kept = backups[: self._max_backups] if self._max_backups else backups
        if self._max_age:
            oldest = self._clock.now() - timedelta(days=self._max_age)
            kept = [p for p in kept if (at := _stamp(p, path)) and at >= oldest]
        for backup in backups:
            if backup not in kept:
                backup.unlink(missing_ok=True)
            elif self._compress and not backup.name.endswith(".gz"):
                with (
                    open(backup, "rb") as plain,
                    open(f"{backup}.gz", "wb", opener=_private) as file,
                    gzip.open(file, "wb") as packed,
                ):
                    shutil.copyfileobj(plain, packed)
                backup.unlink()

    def close(self) -> None:
        self._file.close()


def _private(name: str, flags: int) -> int:
    """Recorded bodies may hold secrets."""
    return os.open(name, flags, 0o600)


def _stamp(backup: Path, path: Path) -> datetime | None:
    """When this backup of ``path`` was made; None: it is no such file."""
    name = backup.name.removesuffix(".gz")
    if not (name.startswith(f"{path.stem}-") and name.endswith(path.suffix)):
        return None
    text = name.removesuffix(path.suffix).removeprefix(f"{path.stem}-")
    with contextlib.suppress(ValueError):
        return datetime.strptime(text, "%Y-%m-%dT%H-%M-%S.%f").replace(tzinfo=UTC)
    return None


class StandardOut:
    def write(self, data: bytes) -> None:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()

    def close(self) -> None:
        """It is not ours."""


class LogBackend:
    """One line an event."""

    name = "log"

    def __init__(
        self,
        out: RotatingFile | StandardOut,
        form: str,
        on_error: Callable[[str, BaseException, int], None],
    ) -> None:
        self._out = out
        self._legacy = form == "legacy"
        self._on_error = on_error

    async def start(self) -> None:
        """The file is open already."""

    def process(self, events: Sequence[Event]) -> bool:
        if self._legacy:
            lines = b"".join([event_line(event).encode() + b"\n" for event in events])
        else:
            options = orjson.OPT_APPEND_NEWLINE
            lines = b"".join([orjson.dumps(event, option=options) for event in events])
        try:
            self._out.write(lines)
        except OSError as error:
            self._on_error(self.name, error, len(events))
            return False
        return True

    async def close(self) -> None:
        self._out.close()


class IgnoringErrors:
    """Mode blocking: the answer waits for the event, but does not depend on it."""

    def __init__(self, delegate: Backend) -> None:
        self.name = delegate.name
        self._delegate = delegate
        self.start = delegate.start
        self.close = delegate.close

    def process(self, events: Sequence[Event]) -> bool:
        self._delegate.process(events)
        return True


class Truncating:
    """--audit-…-truncate-enabled: big events lose their objects, bigger ones are dropped."""

    def __init__(
        self,
        delegate: Backend,
        max_event: int,
        max_batch: int,
        on_error: Callable[[str, BaseException, int], None],
    ) -> None:
        self.name = delegate.name
        self._delegate = delegate
        self._max_event = max_event
        self._max_batch = max_batch
        self._on_error = on_error
        self.start = delegate.start
        self.close = delegate.close

    def process(self, events: Sequence[Event]) -> bool:
        batch: list[Event] = []
        size = 0
        success = True
        for event in events:
            fitting, length = self._fit(event)
            if fitting is None:
                error = ValueError("event is too large even after truncating")
                self._on_error("truncate", error, 1)
                continue
            if batch and size + length > self._max_batch:
                success = self._delegate.process(batch) and success
                batch, size = [], 0
            batch.append(fitting)
            size += length
        return (not batch or self._delegate.process(batch)) and success

    def _fit(self, event: Event) -> tuple[Event | None, int]:
        length = len(orjson.dumps(event))
        if length > self._max_event and event["level"] in ("Request", "RequestResponse"):
            event = {k: v for k, v in event.items() if k not in ("requestObject", "responseObject")}
            event["annotations"] = {**event.get("annotations", {}), _TRUNCATED: "true"}
            length = len(orjson.dumps(event))
        return (None, length) if length > self._max_event else (event, length)
