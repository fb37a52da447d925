"""Removes what a killed cluster left on the machine: pods, shims, namespaces.

A cluster that was stopped properly has left nothing, and this finds nothing to do.
"""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path


def clean_up(name: str, directory: Path) -> None:
    """Idempotent. Files of the cluster stay."""
    if os.geteuid() != 0:
        return
    try:
        networks = json.loads((directory / "network.json").read_bytes())
    except (FileNotFoundError, ValueError):
        networks = {}
    sockets = sorted(directory.glob("nodes/*/shim/shim.sock"))
    if networks or sockets:
        asyncio.run(_clean_up(name, networks, sockets))


async def _clean_up(name: str, networks: dict[str, str], sockets: list[Path]) -> None:
    for path in sockets:
        await _end_shim(path)
    if networks:
        from pilothouse.kubelet.network.node_network import ClusterNetwork

        network = ClusterNetwork(
            name, node_subnet=networks["nodeSubnet"], service_cidr=networks["serviceCIDR"]
        )
        await asyncio.to_thread(network.teardown)


async def _end_shim(socket: Path) -> None:
    """Ends the shim's pods and the shim; where it has died another one finds its pods."""
    from pilothouse.kubelet.runtime.errors import RuntimeFailure
    from pilothouse.kubelet.runtime.shim_client import ShimClient, ShimConfig

    # What is not said here is as the shim before had it: a dead one's successor does the work.
    client = ShimClient(ShimConfig(state_dir=str(socket.parent), cgroup_root="", cgroups=""))
    try:
        await client.connect()
        await client.call("shutdown", everything=True)
    except (RuntimeFailure, OSError):
        pass
    finally:
        client.close()


if __name__ == "__main__":
    import sys

    clean_up(sys.argv[1], Path(sys.argv[2]))
