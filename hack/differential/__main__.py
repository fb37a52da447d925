"""python -m hack.differential [--record] [--groups PREFIXES] [--live]

Without options: ours against what was recorded of upstream. ``--record`` asks upstream's
kube-apiserver (hack/bench/build_reference.sh builds it) and writes tests/differential/recorded.
``--live`` asks both now. Exit code 1 when there are differences that known.json does not explain.
"""

from __future__ import annotations

import argparse
import sys
from typing import Any

from hack.differential import cases, records, servers


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m hack.differential", description=__doc__)
    parser.add_argument("--record", action="store_true", help="write upstream's answers")
    parser.add_argument("--live", action="store_true", help="ask upstream, write nothing")
    parser.add_argument("--groups", default="", metavar="PREFIXES", help="comma-separated")
    args = parser.parse_args()
    groups = cases.groups(args.groups)
    theirs: dict[str, Any] = {group.name: records.load(group.name) for group in groups}
    if args.record or args.live:
        with servers.reference() as connection:
            theirs = connection.run_all(groups)
    if args.record:
        for name, answers in theirs.items():
            records.save(name, answers)
    with servers.ours() as connection:
        ours = connection.run_all(groups)
    return _report(groups, theirs, ours)


def _report(groups: list[cases.Group], theirs: dict[str, Any], ours: dict[str, Any]) -> int:
    known, count, differing = records.known(), 0, 0
    for group in groups:
        for name, answer in ours[group.name].items():
            count += 1
            found = records.differences(theirs[group.name].get(name), answer)
            if not found or f"{group.name}/{name}" in known:
                continue
            differing += 1
            print(f"{group.name}/{name}")
            for line in found:
                print(f"    {line}")
    print(f"{count} requests, {differing} answers differ")
    return 1 if differing else 0


if __name__ == "__main__":
    sys.exit(main())
