"""docs/e2e-node-network-storage.md: the official tests of these SIGs beyond Conformance.

As with docs/e2e.md (beyond_report.py) the file is the memory of earlier runs. Tests that are left
out or had no turn yet are only counted: there are more of them than anybody reads.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from hack.conformance import beyond
from hack.conformance.beyond_report import TABLE, kind, row
from hack.conformance.report import Line, read
from hack.conformance.suite import FAILED, NOT_RUN, PASSED, Result

SIGS = ("node", "network", "storage")
LEFT_OUT, SKIPPED = "left out", "skipped"
LABEL = re.compile(r"\[[^]]*] ?")
KINDS = 22  # of tests without a turn that have a line of their own
BY_HAND = "## Mended on the way"  # this section and what follows it stay as they are
HEAD = """# More official tests: node, network, storage

`e2e.test` v1.37.2 holds {all} tests of these three SIGs beyond Conformance. What needs nothing
that a cluster of two Linux nodes with IPv4 and without CSI lacks is run against such a cluster.
The date is that of a test's last run, which may have been of an earlier commit than others'.
`hack/conformance/run.sh --suite e2e --runtime oci --focus REGEX` runs them and changes their
lines here. Why a test is left out or fails stands in `hack/conformance/beyond_reasons.tsv`.

**{summary}.**

| SIG | tests | left out | passed | failed | skipped by the test | not yet |
|---|---|---|---|---|---|---|"""


def belongs(name: str) -> bool:
    """Whether the test is one of this document's."""
    return beyond.sig_of(name) in SIGS


def write(path: Path, names: Iterable[str], results: Iterable[Result], *, date: str) -> str:
    """Writes the document and returns its first sentence."""
    here = [name for name in names if belongs(name)]
    lines = read(path)
    for result in results:
        lines[result.test.name] = Line(result.outcome, date, result.note)
    groups: dict[str, list[str]] = {g: [] for g in (LEFT_OUT, PASSED, FAILED, SKIPPED, NOT_RUN)}
    for name in here:
        groups[group(name, lines.get(name))].append(name)
    count = {title: len(found) for title, found in groups.items()}
    summary = (
        f"{count[PASSED]} passed, {count[FAILED]} failed, {count[SKIPPED]} skip themselves, "
        f"{count[NOT_RUN]} had no turn yet, {count[LEFT_OUT]} are left out"
    )
    parts = [HEAD.format(all=f"{len(here):,}", summary=summary), *by_sig(here, groups), ""]
    for title, which in (("Failed", FAILED), ("Skipped by the tests themselves", SKIPPED)):
        parts += [f"## {title}\n", TABLE, *rows(groups[which], lines), ""]
    reasons = Counter(beyond.reason(name, LEFT_OUT) for name in groups[LEFT_OUT])
    parts += ["## Left out\n", *counts("why", reasons.most_common()), ""]
    if groups[NOT_RUN]:
        parts += ["## Not yet\n", *counts("of", kinds(groups[NOT_RUN])), ""]
    parts += ["## Passed\n", TABLE, *rows(groups[PASSED], lines), "", by_hand(path)]
    path.write_text("\n".join(parts).rstrip("\n") + "\n")
    return summary


def group(name: str, line: Line | None) -> str:
    """Like `beyond_report.kind`, but a test that ran and skipped itself is told from others."""
    if line is not None and line.outcome == NOT_RUN and line.date:
        return SKIPPED
    return kind(name, line)


def rows(names: Iterable[str], lines: dict[str, Line]) -> list[str]:
    return [row(name, lines[name].outcome, lines[name]) for name in names]


def by_sig(here: list[str], groups: dict[str, list[str]]) -> Iterable[str]:
    count = {title: Counter(map(beyond.sig_of, found)) for title, found in groups.items()}
    total = Counter(map(beyond.sig_of, here))
    for sig in SIGS:
        numbers = [total[sig], *(count[title][sig] for title in groups)]
        yield f"| {sig} | {' | '.join(map(str, numbers))} |"
    numbers = [len(here), *(len(found) for found in groups.values())]
    yield f"| total | {' | '.join(map(str, numbers))} |"


def counts(what: str, found: Iterable[tuple[str, int]]) -> Iterable[str]:
    yield f"| tests | {what} |\n|---|---|"
    for title, number in found:
        yield f"| {number} | {title} |"


def kinds(names: Iterable[str]) -> Iterable[tuple[str, int]]:
    """How many tests begin with the same words; labels in brackets don't count as words."""
    words = ((name, LABEL.sub("", name).split()[:3]) for name in names)
    found = Counter(f"{beyond.sig_of(name)}: {' '.join(w)} …" for name, w in words).most_common()
    yield from found[:KINDS]
    if found[KINDS:]:
        yield "others", sum(number for _, number in found[KINDS:])


def by_hand(path: Path) -> str:
    text = path.read_text() if path.exists() else ""
    return text[text.index(BY_HAND) :] if BY_HAND in text else ""
