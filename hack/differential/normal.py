"""What two answers have in common: without what differs from run to run."""

from __future__ import annotations

import re
from typing import Any

_TEXTS = [
    (r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", "UID"),
    (r"20[2-9]\d-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|\+00:00)", "TIME"),
    (r"20[2-9]\d-\d\d-\d\d \d\d:\d\d:\d\d(\.\d+)? \+0000 UTC( m=[+-][\d.]+)?", "TIME"),
    (r"\b10\.96\.\d+\.\d+\b", "IP"),
    (r"\beyJ[\w-]+\.[\w-]+\.[\w-]+", "JWT"),
    (r"resource version: \d+( \(\d+\))?", "resource version: RV"),
    (r"https?://127\.0\.0\.1:\d+|\b127\.0\.0\.1:\d+", "SERVER"),
    (r"\b0x[0-9a-f]{6,}", "ADDRESS"),
    (r"\bkube-api-access-[a-z0-9]{5}\b", "kube-api-access-RANDOM"),
    (r"\bBad_[a-z0-9]{5}\b", "Bad_RANDOM"),
    (r'(resourceVersion\\?":\\?")\d+', r"\1RV"),
    (r"\b(\d+):3\d{4}/(TCP|UDP)", r"\1:PORT/\2"),
    # What a pod's update changed, as Go prints its own structs.
    (r"\n@@ (.|\n)*", ""),
]
_TOLD = ("uid", "resourceVersion", "continue")


def normal(value: Any, key: str = "") -> Any:
    """``value`` with uids, times, revisions and allocated numbers replaced."""
    if isinstance(value, dict):
        return _object(value)
    if isinstance(value, list):
        return [normal(item) for item in value]
    if key in _TOLD and isinstance(value, str) and value:
        return "CONTINUE" if key == "continue" else _identity(value, key)
    if key in ("nodePort", "healthCheckNodePort") and isinstance(value, int) and value >= 30000:
        return "PORT"
    if key == "age" or not isinstance(value, str):
        return value
    for pattern, replacement in _TEXTS:
        value = re.sub(pattern, replacement, value)
    return value


def _identity(value: str, key: str) -> str:
    if key == "uid":
        return "UID" if re.fullmatch(r"[0-9a-f-]{36}", value) else value
    return "RV" if value.isdecimal() and value != "0" else value


def _object(value: dict[str, Any]) -> dict[str, Any]:
    made = {key: normal(item, key) for key, item in value.items()}
    entries = made.get("managedFields")
    if isinstance(entries, list):
        entries.sort(key=lambda e: [str(e.get(k)) for k in ("manager", "operation", "subresource", "fieldsV1")])
    if made.get("kind") == "Status" and isinstance(made.get("details"), dict):
        _status(made)
    if isinstance(made.get("generateName"), str) and isinstance(made.get("name"), str):
        made["name"] = re.sub(r"[a-z0-9]{5}$", "RANDOM", made["name"])
    if "columnDefinitions" in made:
        _ages(made)
    return made


def _status(made: dict[str, Any]) -> None:
    """Causes come in the order in which Go walks maps, and so does what the message makes of
    them."""
    causes = made["details"].get("causes")
    if isinstance(causes, list) and len(causes) > 1:
        causes.sort(key=str)
        made["message"] = re.sub(r"\[.*\]", "[...]", str(made.get("message")), flags=re.S)


def _ages(table: dict[str, Any]) -> None:
    columns = [item.get("name") for item in table["columnDefinitions"] or []]
    for row in table.get("rows") or []:
        for index, name in enumerate(columns):
            cell = row["cells"][index] if index < len(row["cells"]) else None
            if name in ("Age", "Last Seen", "Duration") and re.fullmatch(r"(\d+[smh])+", str(cell)):
                row["cells"][index] = "AGE"
