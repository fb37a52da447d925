"""Runs the contract over the oci runtime inside namespaces of its own; a line a check.

Not a test module: test_contract.py starts it under unshare. ``inside.py STATE_DIR CGROUP [names]``
"""

from __future__ import annotations

import asyncio
import os
import sys
import traceback

from pilothouse.apimachinery.clock import RealClock
from pilothouse.kubelet.images.registry import RegistryClient
from pilothouse.kubelet.images.service import LocalImageService
from pilothouse.kubelet.images.store import ImageStore
from pilothouse.kubelet.network.namespaces import create_netns, run_in_netns
from pilothouse.kubelet.network.netlink import Netlink
from pilothouse.kubelet.runtime import testing
from pilothouse.kubelet.runtime.oci import OCIRuntime
from pilothouse.kubelet.runtime.shim_client import ShimConfig


def up() -> None:
    with Netlink() as netlink:
        netlink.set_up(netlink.link_index("lo"))


def processes() -> list[str]:
    """Commands of everything in this PID namespace but ourselves and our parents."""
    ours = {os.getpid(), os.getppid(), 1}
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit() and int(entry) not in ours:
            try:
                with open(f"/proc/{entry}/cmdline", encoding="utf-8") as file:
                    found.append(file.read().replace("\0", " "))
            except OSError:
                continue
    return [command for command in found if command]


async def main(directory: str, cgroup: str, names: list[str]) -> None:
    netns = "/run/netns/node-1"
    create_netns(netns)
    run_in_netns(netns, up)
    images = LocalImageService(ImageStore(f"{directory}/images"), RegistryClient(RealClock()))
    assert not await images.prepare()
    config = ShimConfig(
        f"{directory}/node-1",
        netns=netns,
        pod_cidr="10.244.0.0/24",
        node_ip="172.30.0.2",
        cgroup_root=cgroup,
    )
    runtime = OCIRuntime(config, images)
    await runtime.start()
    image = await runtime.image_status("busybox")
    assert image
    capabilities = (await runtime.info()).capabilities
    env = testing.ContractEnvironment(runtime, image.id, f"{directory}/logs", capabilities)
    for name in names or testing.all_checks():
        if not testing.applicable(name, capabilities):
            print("SKIP", name, flush=True)
            continue
        try:
            async with asyncio.timeout(60):
                await testing.run(name, env)
            print("PASS", name, flush=True)
        except Exception:
            print("FAIL", name, traceback.format_exc().replace("\n", "\\n"), flush=True)
    await runtime.shutdown(everything=True)
    await images.close()
    await asyncio.sleep(0.2)  # the shim answers before it ends
    print("LEFT", processes(), flush=True)
    with open(f"{directory}/node-1/shim.log") as log:  # noqa: ASYNC230
        print("LOG", log.read().replace("\n", "\\n"), flush=True)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], sys.argv[3:]))
