"""What upstream's control plane left behind: ``tests/differential_controllers/recorded``.

A scenario is a file's key, its value what was seen: by label of the look, objects by kind, Events
and what the API answered instead of an object.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from hack.differential.records import differences

RECORDED = Path(__file__).parents[2] / "tests" / "differential_controllers" / "recorded"
KNOWN = RECORDED.parent / "known.json"


def save(group: str, seen: dict[str, Any]) -> None:
    """One line a look and kind, so that a new recording shows what changed."""
    RECORDED.mkdir(parents=True, exist_ok=True)
    text = json.dumps({name: _lines(looks) for name, looks in seen.items()}, indent=0)
    (RECORDED / f"{group}.json").write_text(f"{text}\n")


def _lines(looks: dict[str, Any]) -> dict[str, list[str]]:
    return {label: [_line(item) for item in items] for label, items in looks.items()}


def _line(item: Any) -> str:
    return json.dumps(item, sort_keys=True, separators=(",", ":"))


def load(group: str) -> dict[str, Any]:
    path = RECORDED / f"{group}.json"
    if not path.exists():
        return {}
    found = json.loads(path.read_text())
    return {
        name: {label: [json.loads(line) for line in lines] for label, lines in looks.items()}
        for name, looks in found.items()
    }


def known() -> dict[str, str]:
    """``group/scenario`` -> why it differs."""
    return dict(json.loads(KNOWN.read_text())) if KNOWN.exists() else {}


def compare(theirs: dict[str, Any], ours: dict[str, Any]) -> list[str]:
    """A line for each place where two runs of a scenario differ."""
    found = []
    for label in [*theirs, *(label for label in ours if label not in theirs)]:
        for kind, one, two in _pairs(theirs.get(label) or [], ours.get(label) or []):
            found += differences(one, two, f"{label}: {kind}")
    return found


def _pairs(theirs: list[Any], ours: list[Any]) -> list[tuple[str, Any, Any]]:
    """Things that are alike go together; of those that are left, those with the same title."""
    left = list(ours)
    missing = []
    for item in theirs:
        if item in left:
            left.remove(item)
        else:
            missing.append(item)
    pairs = []
    for item in missing:
        partner = next((other for other in left if title(other) == title(item)), None)
        if partner is not None:
            left.remove(partner)
        pairs.append((title(item), item, partner))
    return pairs + [(title(item), None, item) for item in left]


def title(item: Any) -> str:
    if "about" in item:
        about = item["about"]
        return f"Event {about.get('kind')} {about.get('name')} {item['reason']}"
    if "error" in item:
        return f"answer {item['step']}"
    return f"{item.get('kind')} {item['metadata']['name']}"
