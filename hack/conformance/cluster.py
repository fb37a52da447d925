"""A cluster for the tests, started by the command that users run, with files of its own.

With the oci runtime everything, e2e.test too (it talks to pods and nodes), runs in a box: new
namespaces for network, mounts and processes. When the box's first process ends, so does all that
was started in it.
"""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from hack.conformance.suite import BIN, LAYOUT

PILOTHOUSE = Path(sys.executable).with_name("pilothouse")
IN_BOX = "PILOTHOUSE_CONFORMANCE_BOX"


def enter_box() -> None:
    """Runs this program again inside namespaces of its own; inside them it only returns."""
    if os.environ.get(IN_BOX):
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
        # As where systemd runs: what is mounted on the node must reach the containers' side.
        subprocess.run(["mount", "--make-rshared", "/"], check=True)
        return
    box = "unshare --pid --fork --kill-child --mount-proc --mount --net --propagation private"
    command = [*box.split(), sys.executable, "-m", "hack.conformance.run", *sys.argv[1:]]
    os.execvpe(command[0], command, os.environ | {IN_BOX: "1"})


@contextmanager
def cluster(
    folder: Path, *, runtime: str, nodes: int, keep: bool = False, more: Sequence[str] = ()
) -> Iterator[Path]:
    """Starts a cluster in `folder` (`more`: flags of `up`), gives its kubeconfig, and removes it
    afterwards."""
    # Namespace files and cgroups are named after the cluster and outlive boxes: two runs at once
    # must not share them.
    name = f"conformance-{secrets.token_hex(3)}"
    kubeconfig = folder / "kubeconfig"
    env = os.environ | {"PILOTHOUSE_HOME": str(folder), "KUBECONFIG": str(kubeconfig)}
    if runtime != "fake":
        pilothouse(env, "image", "import", str(LAYOUT))
    proxy = "none" if runtime == "fake" else "iptables"
    options = {"--runtime": runtime, "--nodes": str(nodes), "--port": "0", "--proxy-mode": proxy}
    if runtime == "fake":
        options |= {"--service-cidr": "10.96.0.0/16", "--pod-cidr": "10.244.0.0/16"}
    try:
        words = [word for pair in options.items() for word in pair]
        pilothouse(env, "up", "--name", name, *words, *more)
        yield kubeconfig
    finally:
        if not keep:
            pilothouse(env, "down", "--name", name, "--delete", check=False)


def label_zones(kubeconfig: Path, zones: int) -> None:
    """Spreads the nodes over zones of one region, as a cloud's controller would say it."""
    kubectl = [str(BIN / "kubectl"), f"--kubeconfig={kubeconfig}"]
    found = subprocess.run(
        [*kubectl, "get", "nodes", "-o", "name"], stdout=subprocess.PIPE, text=True, check=True
    )
    for index, node in enumerate(found.stdout.split()):
        zone = f"topology.kubernetes.io/zone=zone-{index % zones + 1}"
        labels = [zone, "topology.kubernetes.io/region=region-1"]
        subprocess.run([*kubectl, "label", node, *labels], stdout=sys.stderr, check=True)


def pilothouse(env: dict[str, str], *words: str, check: bool = True) -> None:
    subprocess.run(
        [PILOTHOUSE, *words], env=env, check=check, stdout=sys.stderr, stdin=subprocess.DEVNULL
    )
