"""Numbers about this process from /proc, for its own ``/metrics``."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path


def process_numbers() -> dict[str, float]:
    """By the names of client_golang's process collector; empty where there is no /proc."""
    found: dict[str, float] = {}
    with contextlib.suppress(OSError, ValueError, IndexError):
        text = Path("/proc/self/stat").read_text()
        fields = text[text.rindex(")") + 2 :].split()
        ticks = os.sysconf("SC_CLK_TCK")
        found["cpu_seconds_total"] = (int(fields[11]) + int(fields[12])) / ticks
        found["virtual_memory_bytes"] = float(fields[20])
        found["resident_memory_bytes"] = float(int(fields[21]) * os.sysconf("SC_PAGE_SIZE"))
        found["start_time_seconds"] = _boot_time() + int(fields[19]) / ticks
    with contextlib.suppress(OSError):
        found["open_fds"] = float(len(os.listdir("/proc/self/fd")))
    with contextlib.suppress(ImportError, OSError):
        import resource

        found["max_fds"] = float(resource.getrlimit(resource.RLIMIT_NOFILE)[0])
    return found


def _boot_time() -> float:
    for line in Path("/proc/stat").read_text().splitlines():
        if line.startswith("btime "):
            return float(line.split()[1])
    return 0.0
