"""Logging of a process: klog-like lines, one handler, an in-memory default of warnings.

``setup`` is for commands only; code logs through ``logging.getLogger(__name__)`` and a process
that never calls ``setup`` (a test, somebody's operator) keeps its own configuration.
"""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path
from typing import TextIO

_LETTERS = {
    logging.DEBUG: "D",
    logging.INFO: "I",
    logging.WARNING: "W",
    logging.ERROR: "E",
    logging.CRITICAL: "F",
}

_CONTROLS = {code: f"\\x{code:02x}" for code in (*range(32), 127, 0x85, 0x2028, 0x2029)} | {
    ord("\t"): "\t", ord("\n"): "\\n", ord("\r"): "\\r",
}  # fmt: skip
"""What clients send gets into messages: it may neither look like a line of ours nor steer the
terminal of who reads them."""


class KlogFormatter(logging.Formatter):
    """``I1124 08:15:30.123456   12345 scheduler/scheduler.py:42] message``

    The part before the slash is the component, by which ``pilothouse logs COMPONENT`` selects.
    """

    def format(self, record: logging.LogRecord) -> str:
        letter = _LETTERS.get(record.levelno, "I")
        moment = self.formatTime(record, "%m%d %H:%M:%S")
        text = (
            f"{letter}{moment}.{int(record.msecs * 1000):06d} {record.process or 0:7d} "
            f"{_component(record.name)}{record.filename}:{record.lineno}] "
            f"{record.getMessage().translate(_CONTROLS)}"
        )
        if record.exc_info:
            text = f"{text}\n{self.formatException(record.exc_info)}"
        return text


def _component(logger: str) -> str:
    parts = logger.split(".")
    return f"{parts[1]}/" if parts[0] == "pilothouse" and len(parts) > 1 else ""


MAX_BYTES = 10 << 20
KEPT = 3
"""Log files besides the one that is written to: ``…log.1`` is the newest of them."""


class RotatingHandler(logging.StreamHandler[TextIO]):
    """Writes to ``stream``, this process's standard error, which goes to the file ``path``. A file
    that has grown too big is put aside, and standard output and error go on in a new one: so does
    what others print there, and what children that are started later do."""

    def __init__(self, stream: TextIO, path: Path, max_bytes: int = MAX_BYTES) -> None:
        super().__init__(stream)
        self._path = path
        self._max = max_bytes
        self._size = os.fstat(stream.fileno()).st_size

    def emit(self, record: logging.LogRecord) -> None:
        super().emit(record)
        self._size += 200  # about a line; the truth is asked for when it may be too much
        if self._size > self._max:
            self._size = os.fstat(self.stream.fileno()).st_size
            if self._size > self._max:
                self._rotate()

    def _rotate(self) -> None:
        try:
            for number in range(KEPT, 0, -1):
                older = numbered(self._path, number - 1)
                if older.exists():
                    older.replace(numbered(self._path, number))
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
            new = os.open(self._path, flags, 0o600)
        except OSError:
            self._size = 0  # a full or read-only disk: the old file goes on for a while
            return
        error = self.stream.fileno()
        os.dup2(new, error)
        if error == 2:
            os.dup2(new, 1)
        os.close(new)
        self._size = 0


def numbered(path: Path, number: int) -> Path:
    return path.with_name(f"{path.name}.{number}") if number else path


def setup(verbosity: int = 0, stream: TextIO | None = None, path: Path | None = None) -> None:
    """Sends the log of this process to ``stream`` (default: standard error); ``path``: the file
    that this leads to, which is not to grow for ever."""
    handler: logging.StreamHandler[TextIO]
    if stream is not None and path is not None:
        handler = RotatingHandler(stream, path)
    else:
        handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(KlogFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.DEBUG if verbosity >= 4 else logging.INFO)
