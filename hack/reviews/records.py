"""Upstream's reviews and events as files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parents[2] / "tests" / "differential" / "reviews"


def save(answers: dict[str, Any]) -> None:
    """One line a request."""
    lines = (
        f"{json.dumps(name)}: {json.dumps(answer, sort_keys=True, separators=(',', ':'))}"
        for name, answer in answers.items()
    )
    FOLDER.mkdir(parents=True, exist_ok=True)
    (FOLDER / "recorded.json").write_text("{\n" + ",\n".join(lines) + "\n}\n")


def load() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((FOLDER / "recorded.json").read_text())
    return found


def known() -> dict[str, str]:
    """Requests that differ, and why."""
    found: dict[str, str] = json.loads((FOLDER / "known.json").read_text())
    return found
