"""Results → tables: on the terminal, as JSON, and in docs/performance.md."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from hack.bench.goals import ABSOLUTE, MEMORY_RATIOS, RATIOS, met

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "performance.md"
BEGIN, END = "<!-- hack.bench begin -->", "<!-- hack.bench end -->"


def machine() -> dict[str, Any]:
    """What it ran on and with."""
    model = ""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    memory = Path("/proc/meminfo").read_text().split()[1]
    packages = {}
    for name in ("uvloop", "httptools", "orjson", "cryptography"):
        try:
            packages[name] = version(name)
        except PackageNotFoundError:
            packages[name] = "-"
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    ).stdout.strip()
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "cpus": os.cpu_count(),
        "cpu": model,
        "memory_gb": round(int(memory) / 1024 / 1024),
        "kernel": platform.release(),
        "python": sys.version.split()[0],
        "packages": packages,
        "commit": commit,
        "load": [round(value, 2) for value in os.getloadavg()],
    }


def describe(about: dict[str, Any]) -> str:
    packages = ", ".join(f"{name} {value}" for name, value in about["packages"].items())
    return (
        f"{about['date']}, commit {about['commit']}; {about['cpus']} CPUs ({about['cpu']}), "
        f"{about['memory_gb']} GB, Linux {about['kernel']}; Python {about['python']}, {packages}; "
        f"load average at the start {about['load'][0]}."
    )


def api_table(rows: list[dict[str, Any]]) -> list[list[str]]:
    table = [["operation", "conns", "CPU µs ours", "reference", "ratio", "goal", "met",
              "per s ours", "reference", "p50 ms ours", "reference", "p99 ms ours",
              "reference"]]  # fmt: skip
    for row in rows:
        ours = row["targets"].get("pilothouse") or next(iter(row["targets"].values()))
        theirs = row["targets"].get("reference")
        ratio = row.get("ratio")
        goals = RATIOS.get(row["operation"])
        goal = ""
        if goals:
            goal = " / ".join(f"{g:g}" for g in goals if g is not None)
        cells = [row["operation"], str(row["connections"])]
        cells += _pair(ours, theirs, "cpu_us", "{:,.0f}")
        cells.append(f"{ratio:.2f}" if ratio is not None else "")
        cells += [goal, met(ratio, row["operation"]) if ratio is not None else ""]
        for key, form in (("rate", "{:,.0f}"), ("p50_ms", "{:.2f}"), ("p99_ms", "{:.1f}")):
            cells += _pair(ours, theirs, key, form)
        for side in (ours, theirs):
            if side and side["failures"]:
                cells[0] += f" ({side['failures']} failed)"
            if side and side["expected"] > side["operations"]:
                lost = side["expected"] - side["operations"]
                cells[0] += f" ({lost} of {side['expected']} events not seen, {side['cut']} cut)"
        table.append(cells)
    return table


def _pair(ours: Any, theirs: Any, key: str, form: str) -> list[str]:
    return [form.format(side[key]) if side else "" for side in (ours, theirs)]


def figure_table(figures: dict[str, dict[str, Any]]) -> list[list[str]]:
    table = [["figure", "ours", "reference", "goal", "met"]]
    for name, values in figures.items():
        ours, theirs = values.get("pilothouse"), values.get("reference")
        goal = ABSOLUTE.get(name)
        if name in MEMORY_RATIOS and ours and theirs:
            limit, ratio = MEMORY_RATIOS[name], ours / theirs
            reached = f"{'yes' if ratio <= limit else 'no'} ({ratio:.2f})"
            table.append([name, _number(ours), _number(theirs), f"≤ {limit:g} of it", reached])
            continue
        reached = ""
        if goal and isinstance(ours, int | float):
            limit, less = goal
            reached = "yes" if (ours <= limit if less else ours >= limit) else "no"
        sign = "" if goal is None else "≤ " if goal[1] else "≥ "
        table.append(
            [name, _number(ours), _number(theirs), f"{sign}{goal[0]:g}" if goal else "", reached]
        )
    return table


def _number(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    return f"{value:,.0f}" if value >= 100 else f"{value:.2f}" if value < 10 else f"{value:.1f}"


def text_table(table: list[list[str]]) -> str:
    widths = [max(len(row[n]) for row in table) for n in range(len(table[0]))]
    lines = []
    for number, row in enumerate(table):
        cells = [cell.ljust(w) if n == 0 else cell.rjust(w)
                 for n, (cell, w) in enumerate(zip(row, widths, strict=True))]  # fmt: skip
        lines.append("  ".join(cells).rstrip())
        if not number:
            lines.append("  ".join("-" * width for width in widths))
    return "\n".join(lines)


def markdown_table(table: list[list[str]]) -> str:
    lines = ["| " + " | ".join(table[0]) + " |",
             "| --- |" + " ---: |" * (len(table[0]) - 1)]  # fmt: skip
    lines += ["| " + " | ".join(row) + " |" for row in table[1:]]
    return "\n".join(lines)


def text(results: dict[str, Any]) -> str:
    return _render(results, text_table)


def _render(results: dict[str, Any], form: Any) -> str:
    parts = [describe(results["machine"])]
    if results.get("targets"):
        parts.append("; ".join(f"{n}: {v}" for n, v in results["targets"].items() if v))
    if results.get("rows"):
        parts.append(form(api_table(results["rows"])))
    if results.get("figures"):
        parts.append(form(figure_table(results["figures"])))
    return "\n\n".join(parts)


def write(results: dict[str, Any]) -> Path:
    """Puts the tables between the marks of docs/performance.md; the rest is written by hand."""
    old = DOCUMENT.read_text() if DOCUMENT.exists() else f"# Performance\n\n{BEGIN}\n{END}\n"
    before, _, rest = old.partition(BEGIN)
    _, _, after = rest.partition(END)
    tables = _render(results, markdown_table)
    DOCUMENT.parent.mkdir(exist_ok=True)
    DOCUMENT.write_text(f"{before}{BEGIN}\n{tables}\n{END}{after}")
    return DOCUMENT
