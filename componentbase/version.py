"""What /version and ``pilothouse version`` say: the Kubernetes version that we serve."""

from __future__ import annotations

import platform
import sys
from typing import Any

MAJOR, MINOR = "1", "37"
GIT_VERSION = "v1.37.2"
PILOTHOUSE_VERSION = "0.1.0"


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
        "gitVersion": GIT_VERSION,
        "gitCommit": f"pilothouse-{PILOTHOUSE_VERSION}",
        "gitTreeState": "clean",
        "buildDate": "2026-11-24T00:00:00Z",
        "goVersion": f"python{sys.version_info.major}.{sys.version_info.minor}",
        "compiler": platform.python_implementation().lower(),
        "platform": f"{sys.platform}/{machine}",
    }
