"""The families of a Prometheus exposition, and how two sets of them differ."""

from __future__ import annotations

import re
from typing import Any

Family = dict[str, Any]
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')
_SUFFIXES = ("_bucket", "_sum", "_count")


def parse(text: str) -> dict[str, Family]:
    """By name: type, help, the names of its labels (without ``le``), a histogram's bounds."""
    families: dict[str, Family] = {}
    for line in text.splitlines():
        if line.startswith("# HELP "):
            _, _, name, help_text = (
                line.split(" ", 3) if line.count(" ") > 2 else (*line.split(" "), "")
            )
            families[name] = {"help": help_text, "labels": [], "type": ""}
        elif line.startswith("# TYPE "):
            _, _, name, kind = line.split(" ")
            families.setdefault(name, {"help": "", "labels": []})["type"] = kind
        elif line and not line.startswith("#"):
            _sample(families, line)
    return families


def _sample(families: dict[str, Family], line: str) -> None:
    name = re.split(r"[{ ]", line, maxsplit=1)[0]
    family = families.get(name)
    if family is None:
        for suffix in _SUFFIXES:
            family = families.get(name.removesuffix(suffix))
            if name.endswith(suffix) and family is not None:
                break
    if family is None:
        return
    labels = dict(_LABEL.findall(line))
    bound = labels.pop("le", None)
    if bound is not None:
        bounds = family.setdefault("buckets", [])
        if bound not in bounds:
            bounds.append(bound)
    labels.pop("quantile", None)
    family["labels"] = sorted(set(family["labels"]) | set(labels))


def differences(theirs: dict[str, Family], ours: dict[str, Family]) -> list[str]:
    """A line for each family of theirs that ours lacks or has in another form."""
    found = []
    for name, family in sorted(theirs.items()):
        mine = ours.get(name)
        if mine is None:
            found.append(f"{name}: missing ({family['type']}, {', '.join(family['labels'])})")
            continue
        for key in ("type", "help", "labels", "buckets"):
            if key == "buckets" and key not in mine:
                continue  # no series yet
            if family.get(key) != mine.get(key):
                found.append(f"{name}: {key}: upstream {family.get(key)}, ours {mine.get(key)}")
    return found
