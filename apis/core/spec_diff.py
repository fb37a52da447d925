"""The text that upstream appends when an update changes what it must not: a diff of the specs.

Upstream prints go-cmp's diff; here the same idea in the same layout (``  `` kept, ``- `` old,
``+ `` new), made of the wire form, with unchanged parts left out.
"""

from __future__ import annotations

import json
from typing import Any


def go_diff(old: Any, new: Any) -> str:
    """Lines that begin with two blanks, ``- `` or ``+ ``; ends without a newline."""
    return "\n".join(_lines(old, new, "", ""))


def _lines(old: Any, new: Any, label: str, indent: str) -> list[str]:
    prefix = f"{label}: " if label else ""
    if isinstance(old, dict) and isinstance(new, dict):
        body = _dict_lines(old, new, indent + "\t")
        return [f"  {indent}{prefix}{{", *body, f"  {indent}}}{',' if label else ''}"]
    if isinstance(old, list) and isinstance(new, list):
        body = _list_lines(old, new, indent + "\t")
        return [f"  {indent}{prefix}[", *body, f"  {indent}]{',' if label else ''}"]
    return [f"- {indent}{prefix}{_text(old)},", f"+ {indent}{prefix}{_text(new)},"]


def _dict_lines(old: dict[str, Any], new: dict[str, Any], indent: str) -> list[str]:
    lines: list[str] = []
    same = 0
    for key in sorted(old.keys() | new.keys()):
        before, after = old.get(key), new.get(key)
        if before == after:
            same += 1
        elif key not in old:
            lines.append(f"+ {indent}{key}: {_text(after)},")
        elif key not in new:
            lines.append(f"- {indent}{key}: {_text(before)},")
        else:
            lines.extend(_lines(before, after, key, indent))
    if same:
        lines.append(f"  {indent}... // {same} identical fields")
    return lines


def _list_lines(old: list[Any], new: list[Any], indent: str) -> list[str]:
    lines: list[str] = []
    for i in range(max(len(old), len(new))):
        if i >= len(old):
            lines.append(f"+ {indent}{_text(new[i])},")
        elif i >= len(new):
            lines.append(f"- {indent}{_text(old[i])},")
        elif old[i] == new[i]:
            lines.append(f"  {indent}... // 1 identical element")
        else:
            lines.extend(_lines(old[i], new[i], str(i), indent))
    return lines


def _text(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, sort_keys=True)
