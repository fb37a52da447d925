"""python -m hack.reviews [--record]

What webhooks are asked and what the audit log says: ours against what was recorded of upstream.
``--record`` asks upstream's kube-apiserver (hack/bench/build_reference.sh builds it) first.
"""

from __future__ import annotations

import argparse
import sys

from hack.differential.records import differences
from hack.reviews import records
from hack.reviews.recording import record


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m hack.reviews", description=__doc__)
    parser.add_argument("--record", action="store_true", help="write upstream's")
    if parser.parse_args().record:
        records.save(record("reference"))
    theirs, known = records.load(), records.known()
    differing = 0
    for name, answer in record("ours").items():
        found = differences(theirs.get(name), answer)
        if found and name not in known:
            differing += 1
            print("\n    ".join([name, *found]))
    print(f"{differing} requests differ")
    return 1 if differing else 0


if __name__ == "__main__":
    sys.exit(main())
