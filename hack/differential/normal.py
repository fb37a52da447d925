"""What two answers have in common: without what differs from run to run."""

from __future__ import annotations

import hashlib
import json
import re
from typing import Any

_OBJECT = r'[{[](?:[^"]|"(?:[^"\\]|\\.)*")*?[}\]]|null|\{\}|\[\]'
_TEXTS = [
    (r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", "UID"),
    (r"20[2-9]\d-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|\+00:00)", "TIME"),
    (r"20[2-9]\d-\d\d-\d\d \d\d:\d\d:\d\d(\.\d+)? \+0000 UTC( m=[+-][\d.]+)?", "TIME"),
    (r"\b10\.96\.\d+\.\d+\b", "IP"),
    (r"\beyJ[\w-]+\.[\w-]+\.[\w-]+", "JWT"),
    (r"resource version: \d+(, current: \d+| \(\d+\))?", "resource version: RV"),
    (r"https?://127\.0\.0\.1:\d+|\b127\.0\.0\.1:\d+", "SERVER"),
    (r"\b0x[0-9a-f]{6,}", "ADDRESS"),
    (r"\bkube-api-access-[a-z0-9]{5}\b", "kube-api-access-RANDOM"),
    (r"\bBad_[a-z0-9]{5}\b", "Bad_RANDOM"),
    (r'(resourceVersion\\?":\\?")\d+', r"\1RV"),
    (r"\b(\d+):3\d{4}/(TCP|UDP)", r"\1:PORT/\2"),
    # A patched object that did not fit, whole, in the order of Go's fields.
    (r'Invalid value: "\{\\"(.|\n)*\}": ', "Invalid value: OBJECT: "),
    (r"\bgenerated-[a-z0-9]{5}\b", "generated-RANDOM"),
    (r"(ResourceVersion in object meta: )\d+", r"\1RV"),
    # Immutable fields: upstream often shows null.
    (r"Invalid value: .*?: field is immutable", "Invalid value: OBJECT: field is immutable"),
    (r"in record \(\d+\)", "in record (RV)"),
    # What an update changed, as we print it.
    (r"\n  \{\n(.|\n)*", ""),
    # An object as the bad value: upstream prints its internal struct, or null for an empty map.
    (rf"((?:Invalid|Unsupported|Duplicate) value: )(?:{_OBJECT})(?=: |$)", r"\1OBJECT"),
    (r"\?hash=[0-9A-F]+", "?hash=HASH"),
    # Go's naming of schemes depends on how the program was built.
    (r'in scheme \\?"[^"]*"', "in scheme SCHEME"),
    # What a pod's update changed, as Go prints its own structs.
    (r"\n@@ (.|\n)*", ""),
]
_NULLS = ("rules", "endpoints", "ports", "limits", "drivers", "requests", "currentMetrics")
"""Lists that upstream writes as null when they are empty; ours are absent or empty."""
_NULL_TIMES = (
    *("f:lastProbeTime", "f:lastTransitionTime", "f:lastUpdateTime", "f:lastHeartbeatTime"),
    *(
        "f:startedAt",
        "f:running",
        "f:timeAdded",
    ),
)
"""Upstream writes a time that nobody has set as null, and somebody manages that null; ``timeAdded``
is a default, which we set later."""
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
    if ("openapi" in value or "swagger" in value) and "paths" in value:
        return _openapi(value)
    made = {key: normal(item, key) for key, item in value.items() if item is not None}
    for key in _NULLS:
        if made.get(key) == []:
            del made[key]
    if isinstance(made.get("extra"), dict):  # a certificate's digest: ours is asked with a token
        made["extra"].pop("authentication.kubernetes.io/credential-id", None)
        if not made["extra"]:
            del made["extra"]
    if "f:acceptedNames" in made and isinstance(made.get("f:conditions"), dict):
        made["f:conditions"].pop(".", None)  # null before they are set: somebody managed that
    for key in _NULL_TIMES:
        if made.get(key) == {}:
            del made[key]
    if made.get("kind") == "PartialObjectMetadataList":
        made.setdefault("items", [])
    entries = made.get("managedFields")
    if isinstance(entries, list):
        entries.sort(
            key=lambda e: [
                str(e.get(k)) for k in ("manager", "operation", "subresource", "fieldsV1")
            ]
        )
    if made.get("kind") == "Status" and isinstance(made.get("details"), dict):
        _status(made)
    if isinstance(made.get("generateName"), str) and isinstance(made.get("name"), str):
        made["name"] = re.sub(r"[a-z0-9]{5}$", "RANDOM", made["name"])
    if made.get("kind") == "Table":
        _ages(made)
    for key in ("resourceRules", "nonResourceRules"):  # in the order of a Go map
        if isinstance(made.get(key), list):
            made[key].sort(key=str)
    return made


def _status(made: dict[str, Any]) -> None:
    """Causes come in the order in which Go walks maps, and so does what the message makes of
    them."""
    causes = made["details"].get("causes")
    if isinstance(causes, list) and len(causes) > 1:
        causes.sort(key=str)
        made["message"] = f"{str(made.get('message')).partition('[')[0]}[...]"


def _ages(table: dict[str, Any]) -> None:
    for row in table.get("rows") or []:
        for index, cell in enumerate(row["cells"]):
            if re.fullmatch(r"(\d+[smhd])+", str(cell)):
                row["cells"][index] = "AGE"


_TOLD_BY_DOCUMENTS = ("description", "x-kubernetes-selectable-fields", "example")


def _digest(value: Any) -> str:
    text = json.dumps(_structure(value), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _structure(value: Any) -> Any:
    """Without texts; a description is one only where it is no property's name."""
    if isinstance(value, list):
        return [_structure(item) for item in value]
    if not isinstance(value, dict):
        return value
    return {
        key: _structure(item)
        for key, item in value.items()
        if not (key in _TOLD_BY_DOCUMENTS and isinstance(item, str))
    }


def _parameters(
    path: dict[str, Any], operation: dict[str, Any], shared: dict[str, Any]
) -> list[str]:
    """Names, of the path's and the operation's together."""
    found = (*(path.get("parameters") or ()), *(operation.get("parameters") or ()))
    items = (shared.get(item.get("$ref", "").rpartition("/")[2], item) for item in found)
    return sorted({item["name"] for item in items})


def _openapi(document: dict[str, Any]) -> dict[str, Any]:
    """Operations with their parameters, and definitions, each as a digest of its structure."""
    schemas = document.get("definitions") or document.get("components", {}).get("schemas") or {}
    operations = {
        f"{method.upper()} {path}": " ".join(
            _parameters(item, operation, document.get("parameters") or {})
        )
        for path, item in document.get("paths", {}).items()
        for method, operation in item.items()
        if method != "parameters"
    }
    definitions = {name: _digest(schema) for name, schema in schemas.items()}
    return {"operations": operations, "definitions": definitions}
