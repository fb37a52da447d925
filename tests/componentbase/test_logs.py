"""klog's line format."""

from __future__ import annotations

import logging
import re
from pathlib import Path

from pilothouse.componentbase.logs import KEPT, KlogFormatter, RotatingHandler, numbered


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


def test_a_log_that_has_grown_too_big_is_put_aside(tmp_path: Path) -> None:
    path = tmp_path / "logs" / "x.log"
    path.parent.mkdir()
    with path.open("a") as stream:
        log = logging.Logger("x")
        log.addHandler(RotatingHandler(stream, path, max_bytes=2000))
        for number in range(200):
            log.info("%s", f"line {number}".ljust(99))
    files = sorted(file.name for file in path.parent.iterdir())
    assert files == ["x.log", "x.log.1", "x.log.2", "x.log.3"]
    lines = [int(line.split()[1]) for n in (3, 2, 1, 0) for line in _lines(path, n)]
    assert lines == list(range(lines[0], 200)), "nothing is lost but the oldest"
    assert all(numbered(path, n).stat().st_size < 2500 for n in range(KEPT + 1))
    assert path.stat().st_mode & 0o777 == 0o600


def _lines(path: Path, number: int) -> list[str]:
    return numbered(path, number).read_text().splitlines()
