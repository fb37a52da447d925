"""klog's line format."""

from __future__ import annotations

import logging
import re

from pilothouse.componentbase.logs import KlogFormatter


def test_lines_look_like_klogs() -> None:
    record = logging.LogRecord("x", logging.WARNING, "/a/server.py", 42, "hello %s", ("w",), None)
    line = KlogFormatter().format(record)
    assert re.fullmatch(r"W\d{4} \d\d:\d\d:\d\d\.\d{6} +\d+ server\.py:42\] hello w", line), line
