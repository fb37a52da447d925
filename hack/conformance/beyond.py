"""The official tests beyond Conformance: which there are, and which are left out and why.

run.py asks this module what `--suite e2e` means; beyond_report.py writes docs/e2e.md with it.
"""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from hack.conformance.catalog import Test
from hack.conformance.suite import BIN

HERE = Path(__file__).resolve().parent
REASONS = HERE / "beyond_reasons.tsv"
# What runs when no name is asked for.
SIGS = (
    "api-machinery", "apps", "architecture", "auth", "autoscaling", "cli", "etcd",
    "instrumentation", "scheduling", "testing",
)  # fmt: skip
SPEC = re.compile(r"^ +\S+\.go:\d+: (\[sig-.*)$")


def names() -> list[str]:
    """All tests of e2e.test that aren't conformance tests, sorted."""
    done = subprocess.run(
        [BIN / "e2e.test", "--list-tests"], stdout=subprocess.PIPE, text=True, check=True
    )
    found = {match[1] for match in map(SPEC.match, done.stdout.splitlines()) if match}
    return sorted(name for name in found if "[Conformance]" not in name)


def sig_of(name: str) -> str:
    return name[len("[sig-") : name.index("]")]


def reasons() -> list[tuple[re.Pattern[str], str, str]]:
    """Patterns of names, `left out`, `fails` or `not run`, and why: beyond_reasons.tsv."""
    lines = REASONS.read_text().splitlines()
    rows = [line.split("\t") for line in lines if line and not line.startswith("#")]
    return [(re.compile(pattern), what, why) for pattern, what, why in rows]


def reason(name: str, what: str) -> str:
    """Why this test is `left out`, `fails` or is `not run`; empty when no row says so."""
    return next((why for p, kind, why in reasons() if kind == what and p.search(name)), "")


def matching(focus: str = "", skip: str = "") -> list[Test]:
    """Tests whose names match `focus` (without one: of SIGS) and not `skip`, less the left out."""
    found = [name for name in names() if focus or sig_of(name) in SIGS]
    if focus:
        found = [name for name in found if re.search(focus, name)]
    if skip:
        found = [name for name in found if not re.search(skip, name)]
    return [Test(name, "", "") for name in found if not reason(name, "left out")]


def named(wanted: list[str]) -> list[Test]:
    """These tests, whether or not they are left out otherwise."""
    return [Test(name, "", "") for name in wanted]
