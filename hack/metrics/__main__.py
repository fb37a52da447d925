"""python -m hack.metrics [--record]

Compares our metric families with upstream's: names, types, help, labels, buckets. ``--record``
starts kube-apiserver, kube-scheduler and kube-controller-manager (hack/bench/build_reference.sh
builds them), asks the first one the same requests, and writes tests/differential/metrics: the
families, and which of them we lack.
"""

from __future__ import annotations

import argparse
import ssl
import sys
from pathlib import Path
from typing import Any

from hack.bench import targets
from hack.differential.client import Connection
from hack.metrics import families, ours, records, requests


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m hack.metrics", description=__doc__)
    parser.add_argument("--record", action="store_true", help="write upstream's")
    recording = parser.parse_args().record
    if recording:
        for component, found in upstream().items():
            records.save(component, found)
    mine = ours.all_families()
    lacking: dict[str, list[str]] = {}
    for component in records.COMPONENTS:
        theirs = records.load(component)
        lacking[component] = sorted(theirs.keys() - mine[component].keys())
        shared = {name: theirs[name] for name in theirs.keys() & mine[component].keys()}
        for line in families.differences(shared, mine[component]):
            print(f"{component}: {line}")
        print(f"{component}: {len(shared)} of {len(theirs)} families")
    if recording:
        records.save_absent(lacking)
    return 0


def upstream() -> dict[str, dict[str, Any]]:
    target = targets.reference("scheduler", "controller-manager")
    try:
        pki = Path(target.ca).parent

        def connect(port: int, *, known: bool) -> Connection:
            context = ssl.create_default_context(cafile=target.ca)
            if not known:  # these made their certificates themselves
                context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            context.load_cert_chain(pki / "admin.crt", pki / "admin.key")
            return Connection("127.0.0.1", port, context)

        api = connect(target.port, known=True)
        requests.send(api.call)
        scheduler, manager = (connect(_port_of(pid), known=False) for pid in target.pids[2:4])
        connections = (api, manager, scheduler)
        pairs = zip(records.COMPONENTS, connections, strict=True)
        return {name: families.parse(_scrape(connection)) for name, connection in pairs}
    finally:
        target.close()


def _port_of(pid: int) -> int:
    words = Path(f"/proc/{pid}/cmdline").read_text().split("\0")
    return int(words[words.index("--secure-port") + 1])


def _scrape(connection: Connection) -> str:
    status, _, data = connection.call("GET", "/metrics", None, {"Accept": "text/plain"})
    if status != 200:
        raise SystemExit(f"/metrics of port {connection.port}: {status} {data[:200]!r}")
    return data.decode()


if __name__ == "__main__":
    sys.exit(main())
