"""What /version and ``pilothouse version`` say: the Kubernetes version that we serve."""

from __future__ import annotations

import platform
import re
import sys
from typing import Any

MAJOR, MINOR = "1", "37"
GIT_VERSION = "v1.37.2"
PILOTHOUSE_VERSION = "0.1.0"
_SEMANTIC = re.compile(
    r"v?(\d+)\.(\d+)\.(\d+)(?:-[0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*)?(?:\+[0-9A-Za-z.-]+)?"
)
_reported = [GIT_VERSION]
"""What this process says that it is: a fact of the program, as upstream's, not of a cluster."""


def report_version(text: str) -> None:
    """From now on this process reports version ``text`` (``--version=v1.37.2-mine``).

    :raises ValueError: no semantic version, or not one of our release.
    """
    found = _SEMANTIC.fullmatch(text)
    if found is None:
        raise ValueError(f'could not parse "{text}" as version')
    if ".".join(found.groups()) != GIT_VERSION.removeprefix("v"):
        raise ValueError(
            f'version "{text}" must match major/minor/patch of default version "{GIT_VERSION}"'
        )
    _reported[0] = text


def version_info() -> dict[str, Any]:
    """version.Info. Fields that a Go build would fill are as true as they can be here."""
    machine = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
    return {
        "major": MAJOR,
        "minor": MINOR,
        "emulationMajor": MAJOR,
        "emulationMinor": MINOR,
        "minCompatibilityMajor": MAJOR,
        "minCompatibilityMinor": str(int(MINOR) - 1),
        "gitVersion": _reported[0],
        "gitCommit": f"pilothouse-{PILOTHOUSE_VERSION}",
        "gitTreeState": "clean",
        "buildDate": "2026-11-24T00:00:00Z",
        "goVersion": f"python{sys.version_info.major}.{sys.version_info.minor}",
        "compiler": platform.python_implementation().lower(),
        "platform": f"{sys.platform}/{machine}",
    }
