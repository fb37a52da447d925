"""Which tests there are and which were passed before: tests.tsv, known_green.txt, quick.txt.

run.py asks this module what to run; report.py asks it what to list.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
KNOWN_GREEN = HERE / "known_green.txt"
QUICK = HERE / "quick.txt"
REAL = "real"  # processes run, files, logs or traffic are looked at


@dataclass(frozen=True)
class Test:
    """One conformance test: its full name, its layer (a to e) and what it asks of a kubelet."""

    name: str
    layer: str
    need: str

    @property
    def serial(self) -> bool:
        """Whether it must run alone."""
        return "[Serial]" in self.name or "[Disruptive]" in self.name


class UnknownTest(Exception):
    """A file names a test that the suite doesn't hold."""


def all_tests() -> list[Test]:
    lines = (HERE / "tests.tsv").read_text().splitlines()
    rows = [line.split("\t") for line in lines if line and not line.startswith("#")]
    return [Test(name, layer, need) for name, layer, need in rows]


def read_names(path: Path) -> list[str]:
    """The test names of a file: one a line, empty lines and lines with # left out."""
    lines = path.read_text().splitlines() if path.exists() else []
    return [line.strip() for line in lines if line.strip() and not line.startswith("#")]


def named(names: Iterable[str]) -> list[Test]:
    """The tests of these names, in their order. Raises UnknownTest."""
    by_name = {test.name: test for test in all_tests()}
    unknown = [name for name in names if name not in by_name]
    if unknown:
        raise UnknownTest(f"not a conformance test: {unknown[0]}")
    return [by_name[name] for name in names]


def matching(focus: str = "", skip: str = "", layers: str = "", needs: str = "") -> list[Test]:
    """Tests of these layers and needs whose names match `focus` and don't match `skip`."""
    tests = all_tests()
    if focus:
        tests = [test for test in tests if re.search(focus, test.name)]
    if skip:
        tests = [test for test in tests if not re.search(skip, test.name)]
    if layers:
        tests = [test for test in tests if test.layer in layers]
    if needs:
        tests = [test for test in tests if test.need in needs.split(",")]
    return tests


def add_known_green(passed: Iterable[str]) -> list[str]:
    """Adds names to known_green.txt, sorted; nothing is ever removed. Returns the new ones."""
    before = set(read_names(KNOWN_GREEN))
    new = sorted(set(passed) - before)
    if new:
        head = "# Tests that passed once and must go on passing: hack/conformance/run.sh --check\n"
        KNOWN_GREEN.write_text(head + "".join(f"{name}\n" for name in sorted(before | set(new))))
    return new
