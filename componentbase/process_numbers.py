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
        limit = resource.getrlimit(resource.RLIMIT_AS)[0]
        found["virtual_memory_max_bytes"] = 2.0**64 if limit < 0 else float(limit)
    with contextlib.suppress(OSError, ValueError, KeyError):
        octets = _network_octets()
        found["network_receive_bytes_total"] = octets["InOctets"]
        found["network_transmit_bytes_total"] = octets["OutOctets"]
    return found


def _network_octets() -> dict[str, float]:
    """Of the process's network namespace."""
    rows = [row.split() for row in Path("/proc/self/net/netstat").read_text().splitlines()]
    names, values = (row for row in rows if row[0] == "IpExt:")
    return dict(zip(names[1:], map(float, values[1:]), strict=True))


def _boot_time() -> float:
    for line in Path("/proc/stat").read_text().splitlines():
        if line.startswith("btime "):
            return float(line.split()[1])
    return 0.0
