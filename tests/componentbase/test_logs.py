"""klog's line format."""

from __future__ import annotations

import logging
import re

from pilothouse.componentbase.logs import KlogFormatter


def test_lines_look_like_klogs() -> None:
    record = logging.LogRecord("x", logging.WARNING, "/a/server.py", 42, "hello %s", ("w",), None)
    line = KlogFormatter().format(record)
    assert re.fullmatch(r"W\d{4} \d\d:\d\d:\d\d\.\d{6} +\d+ server\.py:42\] hello w", line), line


def test_what_clients_send_makes_no_lines_and_steers_no_terminal() -> None:
    name = "a\nI1124 08:15:30 fake.py:1] root logged in\x1b[2J\u2028end\ttab"
    record = logging.LogRecord("x", logging.INFO, "/a/b.py", 1, "no pod %s", (name,), None)
    line = KlogFormatter().format(record)
    assert len(line.splitlines()) == 1
    assert line.endswith(
        "no pod a\\nI1124 08:15:30 fake.py:1] root logged in\\x1b[2J\\x2028end\ttab"
    )
