"""Runs official conformance tests against a cluster of its own and writes docs/conformance.md.

Without a choice of tests the whole Conformance label runs (with --runtime fake only what doesn't
need containers that run). --check runs the tests of known_green.txt and fails when one fails.
--suite e2e runs the official tests beyond Conformance instead, and writes docs/e2e.md
or docs/e2e-node-network-storage.md.
"""

from __future__ import annotations

import argparse
import os
import shlex
import signal
import sys
import tempfile
from collections import Counter
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path

from hack.conformance import beyond, beyond_report, catalog, cluster, more_report, report
from hack.conformance.suite import FAILED, PASSED, Result, Suite, merge_junit

DOCS = Path(__file__).resolve().parents[2] / "docs"
DOCUMENT = DOCS / "conformance.md"
BEYOND_DOCUMENT = DOCS / "e2e.md"
MORE_DOCUMENT = DOCS / "e2e-node-network-storage.md"


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="hack/conformance/run.sh", description=__doc__)
    choice = parser.add_argument_group("which tests").add_argument
    choice("--suite", choices=("conformance", "e2e"), default="conformance")
    choice("--check", action="store_true", help="known_green.txt's; fail when one fails")
    choice("--quick", action="store_true", help="quick.txt's; fail when one fails")
    choice("--tests", type=Path, metavar="FILE", help="those of a file, a name a line")
    choice("--focus", default="", metavar="REGEX", help="names that match")
    choice("--skip", default="", metavar="REGEX", help="names that don't match")
    choice("--layer", default="", metavar="abcde", help="layers, e.g. ab")
    choice("--need", default="", metavar="LIST", help="of a kubelet: none,status,real")
    choice("--failed", action="store_true", help="not yet passed in the suite's document")
    add = parser.add_argument
    add("--list", action="store_true", help="print the names and stop")
    add("--update", action="store_true", help="add tests that pass to known_green.txt")
    add("--no-document", action="store_true", help="leave the suite's document alone")
    add("--parallel", type=int, default=2, metavar="N", help="tests at once (2)")
    add("--timeout", type=int, default=600, metavar="S", help="seconds for a test (600)")
    add("--runtime", choices=("fake", "oci"), default="fake")
    add("--nodes", type=int, default=2)
    add("--zones", type=int, default=0, metavar="N", help="give the nodes labels of N zones")
    add("--up", default="", metavar="FLAGS", help="more flags for `pilothouse up`")
    add("--reports", type=Path, help="folder for junit and logs (a new one in /tmp)")
    add("--kubeconfig", type=Path, help="use this cluster instead of starting one")
    return parser.parse_args()


def choose(args: argparse.Namespace) -> list[catalog.Test]:
    if args.suite == "e2e":
        return choose_beyond(args)
    if args.check:
        green = catalog.named(catalog.read_names(catalog.KNOWN_GREEN))
        return [test for test in green if args.runtime != "fake" or test.need != catalog.REAL]
    if args.quick:
        return catalog.named(catalog.read_names(catalog.QUICK))
    if args.tests:
        return catalog.named(catalog.read_names(args.tests))
    needs = args.need or ("none,status" if args.runtime == "fake" else "")
    tests = catalog.matching(args.focus, args.skip, args.layer, needs)
    return not_passed(tests, DOCUMENT) if args.failed else tests


def choose_beyond(args: argparse.Namespace) -> list[catalog.Test]:
    if args.tests:
        return beyond.named(catalog.read_names(args.tests))
    tests = beyond.matching(args.focus, args.skip)
    return not_passed(tests, BEYOND_DOCUMENT, MORE_DOCUMENT) if args.failed else tests


def not_passed(tests: list[catalog.Test], *documents: Path) -> list[catalog.Test]:
    lines = [line for document in documents for line in report.read(document).items()]
    passed = {name for name, line in lines if line.outcome == PASSED}
    return [test for test in tests if test.name not in passed]


def tell(result: Result) -> None:
    note = f"  ({result.note[:160]})" if result.note else ""
    print(f"{result.outcome:8}{result.seconds:6.0f} s  {result.test.name}{note}", flush=True)


def run(args: argparse.Namespace, tests: list[catalog.Test]) -> list[Result]:
    """All results; after Ctrl-C those that there are."""
    reports = args.reports or Path(tempfile.mkdtemp(prefix="conformance-"))
    results: list[Result] = []

    def on_result(result: Result) -> None:
        results.append(result)
        tell(result)

    with ExitStack() as stack:
        kubeconfig = args.kubeconfig
        if kubeconfig is None:
            home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ph-conformance-")))
            own = cluster.cluster(
                home, runtime=args.runtime, nodes=args.nodes, more=shlex.split(args.up)
            )
            kubeconfig = stack.enter_context(own)
            if args.zones:
                cluster.label_zones(kubeconfig, args.zones)
        suite = Suite(kubeconfig, reports, timeout=args.timeout, on_result=on_result)
        try:
            suite.run(tests, args.parallel)
        except KeyboardInterrupt:
            print("interrupted", file=sys.stderr)
    print(f"junit: {merge_junit(reports)}")
    return results


def write_document(args: argparse.Namespace, results: list[Result]) -> None:
    date = datetime.now(UTC).date().isoformat()
    if args.suite == "e2e":
        write_beyond(results, date)
        return
    report.write(
        DOCUMENT,
        catalog.all_tests(),
        results,
        date=date,
        command=shlex.join(["hack/conformance/run.sh", *sys.argv[1:]]),
        runtime=args.runtime,
    )


def write_beyond(results: list[Result], date: str) -> None:
    """Each of the two documents gets the results of its SIGs, and only those that have any."""
    more = [result for result in results if more_report.belongs(result.test.name)]
    rest = [result for result in results if result not in more]
    names = beyond.names()
    if more:
        more_report.write(MORE_DOCUMENT, names, more, date=date)
    if rest:
        beyond_report.write(BEYOND_DOCUMENT, names, rest, date=date)


def main() -> int:
    args = arguments()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    tests = choose(args)
    if args.list:
        print("\n".join(test.name for test in tests))
        return 0
    if args.runtime == "oci" and args.kubeconfig is None and os.geteuid() == 0:
        cluster.enter_box()
    results = run(args, tests)
    if not args.no_document:
        write_document(args, results)
    if args.update and args.suite == "conformance":
        new = catalog.add_known_green(r.test.name for r in results if r.outcome == PASSED)
        print(f"{len(new)} new in known_green.txt")
    count = Counter(result.outcome for result in results)
    print(", ".join(f"{number} {outcome}" for outcome, number in sorted(count.items())))
    return 1 if count[FAILED] and (args.check or args.quick) else 0


if __name__ == "__main__":
    sys.exit(main())
