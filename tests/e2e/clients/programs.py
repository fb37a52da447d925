"""Building the client programs of this folder."""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

HERE = Path(__file__).parent
CACHE = Path(os.environ.get("PILOTHOUSE_CACHE") or Path.home() / ".cache" / "pilothouse")
BUILD_SECONDS = 400
TEST_SECONDS = BUILD_SECONDS + 120
Run = Callable[[list[str]], str]


def built(language: str, tool: str, build: Callable[[Path, Path], None]) -> Path:
    """The folder with what ``build(sources, into)`` made of ``clients/<language>``."""
    if shutil.which(tool) is None:
        pytest.skip(f"{tool} is not installed")
    sources = HERE / language
    digest = hashlib.sha256()
    for path in sorted(p for p in sources.rglob("*") if p.is_file()):
        digest.update(path.relative_to(sources).as_posix().encode() + b"\0" + path.read_bytes())
    into = CACHE / "clients" / f"{language}-{digest.hexdigest()[:16]}"
    into.parent.mkdir(parents=True, exist_ok=True)
    with open(into.parent / f"{language}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (into / "built").exists():
            shutil.rmtree(into, ignore_errors=True)
            into.mkdir()
            build(sources, into)
            (into / "built").touch()
    return into


_UNREACHABLE = re.compile(
    "dial tcp|i/o timeout|TLS handshake timeout|no such host|ould not resolve host|"
    "Could not transfer artifact|Unknown host|onnection (timed out|refused|reset)|"
    "network error|failed to download|ETIMEDOUT|ENOTFOUND|ECONNREFUSED|EAI_AGAIN"
)


def shell(*command: str, cwd: Path, **environment: str) -> None:
    """Builds, with whatever it downloads; where that can't be had the test is skipped."""
    try:
        done = subprocess.run(
            command, cwd=cwd, env=os.environ | environment, capture_output=True, text=True,
            timeout=BUILD_SECONDS,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        pytest.skip(f"{command[0]} took longer than {BUILD_SECONDS} s")
    said = done.stdout + done.stderr
    if done.returncode and (found := _UNREACHABLE.search(said)):
        pytest.skip(f"{command[0]} could not download: {found[0]}")
    assert done.returncode == 0, f"{' '.join(command)}: {said}"
