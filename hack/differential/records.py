"""Upstream's normal answers as files: ``tests/differential/recorded/<group>.json``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

RECORDED = Path(__file__).parents[2] / "tests" / "differential" / "recorded"
KNOWN = RECORDED.parent / "known.json"


ABSENT = "(absent)"


def save(group: str, answers: dict[str, Any]) -> None:
    """One line a request, so that a new recording shows what changed."""
    lines = (
        f"{json.dumps(name)}: {json.dumps(answer, sort_keys=True, separators=(',', ':'))}"
        for name, answer in answers.items()
    )
    RECORDED.mkdir(parents=True, exist_ok=True)
    (RECORDED / f"{group}.json").write_text("{\n" + ",\n".join(lines) + "\n}\n")


def load(group: str) -> dict[str, Any]:
    """By name of the request; empty when nothing was recorded."""
    path = RECORDED / f"{group}.json"
    return json.loads(path.read_text()) if path.exists() else {}


def known() -> dict[str, str]:
    """``group/request`` -> the word under which docs/compatibility.md says why it differs."""
    return json.loads(KNOWN.read_text()) if KNOWN.exists() else {}


def without_500(theirs: Any, ours: Any) -> Any:
    """Upstream's answer as it is expected here: where a client's mistake has no status (500 and
    no reason), with the code and reason of ours, if they blame the client."""
    if not isinstance(theirs, dict) or theirs.get("status") != 500:
        return theirs
    status, body = theirs.get("body"), ours.get("body") if isinstance(ours, dict) else None
    if not isinstance(status, dict) or not isinstance(body, dict) or "reason" in status:
        return theirs
    blame = (body.get("code"), body.get("reason"))
    if blame not in ((400, "BadRequest"), (413, "RequestEntityTooLarge")):
        return theirs
    code, reason = blame
    return theirs | {"status": code, "body": status | {"code": code, "reason": reason}}


def differences(theirs: Any, ours: Any, path: str = "") -> list[str]:
    """A line for each place where two answers differ."""
    if not path:
        theirs = without_500(theirs, ours)
    if isinstance(theirs, dict) and isinstance(ours, dict):
        found = []
        for key in sorted(theirs.keys() | ours.keys()):
            at = f"{path}.{key}"
            found += differences(theirs.get(key, ABSENT), ours.get(key, ABSENT), at)
        return found
    same_length = isinstance(theirs, list) and isinstance(ours, list) and len(theirs) == len(ours)
    if same_length and not path.endswith(".causes"):
        found = []
        for index, (one, two) in enumerate(zip(theirs, ours, strict=True)):
            found += differences(one, two, f"{path}[{index}]")
        return found
    if isinstance(theirs, list) and isinstance(ours, list):
        return _of_lists(theirs, ours, path)
    if theirs == ours and type(theirs) is type(ours):
        return []
    return [f"{path}: upstream {_short(theirs)}, ours {_short(ours)}"]


def _of_lists(theirs: list[Any], ours: list[Any], path: str) -> list[str]:
    missing, added = list(theirs), []
    for item in ours:
        if item in missing:
            missing.remove(item)
        else:
            added.append(item)
    if not missing and not added:
        return []
    return [f"{path}: upstream only {_short(missing)}, ours only {_short(added)}"]


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 1500 else f"{text[:1500]}..."
