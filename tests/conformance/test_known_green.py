"""The quick part of the official conformance tests that are known to pass (the ratchet)."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CACHE = Path(os.environ.get("PILOTHOUSE_CACHE", Path.home() / ".cache" / "pilothouse"))
PROGRAMS = [CACHE / "conformance" / "bin" / name for name in ("e2e.test", "kubectl")]
MISSING = [path.name for path in PROGRAMS if not os.access(path, os.X_OK)]


@pytest.mark.machine
@pytest.mark.timeout(400)
@pytest.mark.skipif(
    bool(MISSING),
    reason=f"{', '.join(MISSING)} not built (hack/conformance/build.sh programs, 10 minutes)",
)
def test_quick_conformance_tests_pass(tmp_path):
    command = ["-m", "hack.conformance.run", "--quick", "--no-document", "--timeout", "90"]
    done = subprocess.run(
        [sys.executable, *command, "--parallel", "3", "--reports", tmp_path],
        cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL, check=False,
    )  # fmt: skip
    failed = [line for line in done.stdout.splitlines() if line.startswith(("failed", "not run"))]
    assert not failed, "\n".join(failed)
    assert done.returncode == 0, done.stdout[-2000:]
