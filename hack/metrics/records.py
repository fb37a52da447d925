"""Upstream's metric families as files: ``tests/differential/metrics/<component>.json``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parents[2] / "tests" / "differential" / "metrics"
COMPONENTS = ("kube-apiserver", "kube-controller-manager", "kube-scheduler")


def save(component: str, families: dict[str, Any]) -> None:
    """One line a family; Go's runtime is nobody's business."""
    lines = (
        f"{json.dumps(name)}: {json.dumps(family, sort_keys=True)}"
        for name, family in sorted(families.items())
        if not name.startswith("go_")
    )
    FOLDER.mkdir(parents=True, exist_ok=True)
    (FOLDER / f"{component}.json").write_text("{\n" + ",\n".join(lines) + "\n}\n")


def load(component: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((FOLDER / f"{component}.json").read_text())
    return found


def absent() -> dict[str, list[str]]:
    """Families that are not there, by component."""
    found: dict[str, list[str]] = json.loads((FOLDER / "absent.json").read_text())
    return found


def save_absent(found: dict[str, list[str]]) -> None:
    (FOLDER / "absent.json").write_text(json.dumps(found, indent=1) + "\n")
