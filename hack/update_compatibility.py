"""Writes the table of resources in docs/compatibility.md from apis/resources.py.

usage: update_compatibility.py [--verify]       --verify: fails when the document is out of date
"""

from __future__ import annotations

import sys
from pathlib import Path

from pilothouse.apis.resources import BUILT_IN

DOCUMENT = Path(__file__).parent.parent / "docs" / "compatibility.md"
BEGIN, END = "<!-- resources begin -->", "<!-- resources end -->"


def table() -> str:
    lines = [
        "| group/version | resource | short | verbs | sub-resources |",
        "|---|---|---|---|---|",
    ]
    full = {"create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"}
    for row in sorted(BUILT_IN, key=lambda r: (r.group, r.version, r.name)):
        verbs = "all" if set(row.verbs) == full else " ".join(row.verbs) or "-"
        subresources = " ".join(s.name for s in row.subresources) or "-"
        short = " ".join(row.short_names)
        lines.append(f"| {row.api_version} | {row.name} | {short} | {verbs} | {subresources} |")
    return "\n".join(lines)


def main() -> int:
    text = DOCUMENT.read_text()
    head, _, rest = text.partition(BEGIN)
    tail = rest.partition(END)[2]
    made = f"{head}{BEGIN}\n{table()}\n{END}{tail}"
    if "--verify" in sys.argv[1:]:
        if made != text:
            print("docs/compatibility.md is out of date: run hack/update_compatibility.py")
            return 1
        return 0
    DOCUMENT.write_text(made)
    return 0


if __name__ == "__main__":
    sys.exit(main())
