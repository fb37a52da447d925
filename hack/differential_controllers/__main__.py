"""python -m hack.differential_controllers [--record | --live | --stable] [--groups PREFIXES]
[--only PREFIXES]

Without options: ours against what was recorded of upstream. ``--record`` runs upstream's control
plane (hack/bench/build_reference.sh builds it) and writes tests/differential_controllers/recorded
(with ``--only``: those scenarios' part of it). ``--live`` runs both now; ``--stable`` upstream's
alone, against its own record. Exit code 1 when there are differences that known.json does not
explain.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from typing import Any

from hack.differential_controllers import records, runner, scenarios


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m hack.differential_controllers", description=__doc__
    )
    parser.add_argument("--record", action="store_true", help="write what upstream's does")
    parser.add_argument("--live", action="store_true", help="run upstream's, write nothing")
    parser.add_argument("--stable", action="store_true", help="upstream's against its record")
    parser.add_argument("--groups", default="", metavar="PREFIXES", help="comma-separated")
    parser.add_argument("--only", default="", metavar="PREFIXES", help="of scenarios")
    return asyncio.run(_main(parser.parse_args()))


async def _main(args: argparse.Namespace) -> int:
    known, count, differing = records.known(), 0, 0
    for group in scenarios.groups(args.groups):
        theirs = records.load(group.name)
        if args.record or args.live:
            found = await runner.in_upstreams(group, args.only)
            theirs = {n: s for n, s in theirs.items() if n in group.scenarios} | found
            if args.record:
                records.save(group.name, {n: theirs[n] for n in group.scenarios if n in theirs})
        began = time.monotonic()
        run = runner.in_upstreams if args.stable else runner.in_ours
        ours: dict[str, Any] = await run(group, args.only)
        print(f"{group.name}: {len(ours)} scenarios, {time.monotonic() - began:.1f} s")
        for name, seen in ours.items():
            count += 1
            different = records.compare(theirs.get(name) or {}, seen)
            if not different or f"{group.name}/{name}" in known:
                continue
            differing += 1
            print(f"{group.name}/{name}")
            for line in different:
                print(f"    {line}")
    print(f"{count} scenarios, {differing} differ")
    return 1 if differing else 0


if __name__ == "__main__":
    sys.exit(main())
