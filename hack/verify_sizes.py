"""Budgets of style: files <= 500 lines, functions <= 60. Exceptions need a reason below."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

FILE_LINES = 500
FUNCTION_LINES = 60
EXCEPTIONS: dict[str, str] = {}


def main() -> int:
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.py"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    problems = []
    for name in listed:
        path = Path(name)
        if path.is_symlink() or not path.is_file():
            continue
        text = path.read_text()
        lines = text.count("\n")
        if lines > FILE_LINES and name not in EXCEPTIONS:
            problems.append(f"{name}: {lines} lines (at most {FILE_LINES})")
        for node in ast.walk(ast.parse(text)):
            if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                continue
            length = (node.end_lineno or 0) - node.lineno + 1
            if length > FUNCTION_LINES and f"{name}:{node.name}" not in EXCEPTIONS:
                problems.append(
                    f"{name}:{node.lineno} {node.name}: {length} lines (at most {FUNCTION_LINES})"
                )
    print("\n".join(problems) or "sizes are within budget")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
