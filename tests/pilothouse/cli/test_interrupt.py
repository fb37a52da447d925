"""Ctrl-C while `pilothouse up` waits: the cluster that was starting ends, too."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from pilothouse.cli import main, up


def test_ctrl_c_ends_the_daemon(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PILOTHOUSE_HOME", str(tmp_path))
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "kubeconfig"))
    started: list[subprocess.Popen[bytes]] = []

    def interrupted(config: Any, process: Any, reading: int, *rest: Any) -> int:
        started.append(process)
        assert b"progress" in os.read(reading, 65536)  # it is on its way
        raise KeyboardInterrupt

    monkeypatch.setattr(up, "wait_ready", interrupted)
    assert main(["up", "--runtime", "fake", "--port", "0"]) == 130
    assert "stopping the cluster that was starting" in capsys.readouterr().err
    assert started[0].returncode == 0


def test_ctrl_c_while_modules_load(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(name: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("importlib.import_module", interrupted)
    assert main(["up"]) == 130
