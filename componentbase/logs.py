"""Logging of a process: klog-like lines, one handler, an in-memory default of warnings.

``setup`` is for commands only; code logs through ``logging.getLogger(__name__)`` and a process
that never calls ``setup`` (a test, somebody's operator) keeps its own configuration.
"""

from __future__ import annotations

import logging
import sys
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


def setup(verbosity: int = 0, stream: TextIO | None = None) -> None:
    """Sends the log of this process to ``stream`` (default: standard error)."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(KlogFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.DEBUG if verbosity >= 4 else logging.INFO)
