"""The scripts are asked as a shell asks them."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from pilothouse.cli import COMMANDS, main
from pilothouse.cli.completion import words_of


def completed(script: str, typed: list[str], home: Path) -> list[str]:
    words = " ".join(f"'{word}'" for word in ["pilothouse", *typed])
    ask = f"COMP_WORDS=({words}); COMP_CWORD={len(typed)}; _pilothouse; echo ${{COMPREPLY[@]}}"
    done = subprocess.run(
        ["bash", "-euc", f"{script}\n{ask}"], capture_output=True, text=True, check=True,
        env={"PATH": "/usr/bin:/bin", "PILOTHOUSE_HOME": str(home)},
    )  # fmt: skip
    return done.stdout.split()


def test_bash(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "clusters" / "mine").mkdir(parents=True)
    assert main(["completion", "bash"]) == 0
    script = capsys.readouterr().out
    assert completed(script, ["sta"], tmp_path) == ["status"]
    assert set(completed(script, [""], tmp_path)) == set(COMMANDS)
    assert completed(script, ["up", "--runti"], tmp_path) == ["--runtime"]
    assert completed(script, ["up", "--runtime", "p"], tmp_path) == ["process"]
    assert completed(script, ["down", "--name", "m"], tmp_path) == ["mine"]
    assert "import" in completed(script, ["image", ""], tmp_path)


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_others_name_every_command(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", shell]) == 0
    script = capsys.readouterr().out
    assert all(command in script for command in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_words(command: str) -> None:
    assert "--help" in words_of(command)
