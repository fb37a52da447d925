"""docs/kubectl-test-cmd.md: which functions of Kubernetes' command-line suite pass.

The document is the memory of earlier runs: a run of some functions changes only their lines.
``notes.tsv`` says, by hand, why a function fails, or when.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

HERE = Path(__file__).parent
ROW = re.compile(r"^\| `(run_\w+)` \| (passed|failed|not run) \| (\S*) \|")
OUTCOMES = {"pass": "passed", "FAIL": "failed"}
HEAD = """\
# Kubernetes' command-line suite

Upstream tests kubectl and the API server together with "test-cmd": shell scripts (`test/cmd` of
Kubernetes v1.37.2) that drive a stock kubectl against a bare kube-apiserver and
kube-controller-manager, without kubelets. Here the same scripts run against
`pilothouse`'s API server and controllers, started with upstream's flags:
**{passed} of {total} functions pass{others}**.

`hack/testcmd/run.sh` takes the scripts and kubectl from the Go module of the release and makes
this file; `hack/testcmd/run.sh FUNCTION...` runs some and changes only their lines, and
`--reference` runs them against upstream's own programs. The `run_inline_…` functions are
parts that upstream's script runs outside of any function. What differs from upstream's start:
versions need not be of the same commit (`ALLOW_SKEW`, upstream's switch); the controllers get no
`--kube-api-content-type` (they talk JSON) and have an HTTP health port; `--runtime-config`,
`--service-account-lookup` and `--storage-media-type` are accepted without effect. The one file
that a script takes from GitHub comes from this machine.

| Function | Result | Last run | Note |
|---|---|---|---|
"""


@dataclass(frozen=True)
class Line:
    """What the document says of one function."""

    outcome: str = "not run"
    date: str = ""


def earlier(path: Path) -> dict[str, Line]:
    """The lines of the document as it is."""
    text = path.read_text() if path.exists() else ""
    found = (ROW.match(line) for line in text.splitlines())
    return {m[1]: Line(m[2], m[3]) for m in found if m}


def results(path: Path, date: str) -> dict[str, Line]:
    """What the driver wrote: function, pass or FAIL, seconds."""
    rows = (line.split("\t") for line in path.read_text().splitlines())
    return {name: Line(OUTCOMES[outcome], date) for name, outcome, _ in rows}


def notes() -> dict[str, str]:
    rows = (HERE / "notes.tsv").read_text().splitlines()
    return dict(line.split("\t", 1) for line in rows if line and not line.startswith("#"))


def document(names: list[str], lines: dict[str, Line], why: dict[str, str]) -> str:
    outcomes = [lines.get(name, Line()).outcome for name in names]
    counts = [(outcome, outcomes.count(outcome)) for outcome in ("failed", "not run")]
    others = "".join(f", {count} {outcome}" for outcome, count in counts if count)
    rows = []
    for name in names:
        line = lines.get(name, Line())
        rows.append(f"| `{name}` | {line.outcome} | {line.date} | {why.get(name, '')} |\n")
    head = HEAD.format(passed=outcomes.count("passed"), total=len(names), others=others)
    return head + "".join(rows)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m hack.testcmd.report", description=__doc__)
    parser.add_argument("results", type=Path)
    parser.add_argument("--document", type=Path)
    args = parser.parse_args()
    found = results(args.results, f"{datetime.now(UTC):%Y-%m-%d}")
    failed = [name for name, line in found.items() if line.outcome == "failed"]
    print(f"{len(found) - len(failed)} of {len(found)} functions pass")
    for name in failed:
        print(f"failed: {name}, see {args.results.parent / name}.log")
    if not found:
        print(f"nothing ran, see {args.results.parent / 'driver.log'}")
    if args.document:
        listed = subprocess.run(
            [HERE / "run.sh", "--list"], check=True, capture_output=True, text=True
        ).stdout.split()
        names = list(dict.fromkeys(listed))
        args.document.write_text(document(names, earlier(args.document) | found, notes()))
    return 0 if found and not failed else 1


if __name__ == "__main__":
    sys.exit(main())
