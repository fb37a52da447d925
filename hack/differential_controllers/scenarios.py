"""The scenarios' files: their settings, nodes, templates and steps."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from hack.differential_controllers.worlds import Settings

FOLDER = Path(__file__).parent / "scenarios"


@dataclass(frozen=True)
class Group:
    """A file: scenarios that share a control plane.

    ``alone``: one scenario after the other, each with nodes of its own that end with it. Else they
    run side by side in namespaces of their own on the file's ``nodes``.
    """

    name: str
    settings: Settings
    alone: bool
    nodes: list[dict[str, Any]]
    templates: dict[str, Any]
    scenarios: dict[str, list[dict[str, Any]]]


def groups(prefixes: str = "") -> list[Group]:
    """All, or those whose names begin with one of the comma-separated prefixes."""
    names = sorted(path.stem for path in FOLDER.glob("*.yaml") if path.stem != "templates")
    wanted = tuple(prefixes.split(",")) if prefixes else ("",)
    return [_group(name) for name in names if name.startswith(wanted)]


def _group(name: str) -> Group:
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    text = (FOLDER / "templates.yaml").read_text()
    templates = yaml.load(text, loader)
    file = yaml.load((FOLDER / f"{name}.yaml").read_text(), loader)
    settings = Settings(file.get("controllers") or {}, file.get("scheduler") or "")
    return Group(
        name,
        settings,
        bool(file.get("alone")),
        file.get("nodes") or [],
        templates | (file.get("templates") or {}),
        file["scenarios"],
    )
