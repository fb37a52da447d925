"""Runs the contract over the oci runtime inside namespaces of its own; a line a check.

Not a test module: test_contract.py starts it under unshare.
``inside.py contract|recovery DIR CGROUP``
"""

from __future__ import annotations

import asyncio
import os
import select
import signal
import sys
import traceback

from pilothouse.apimachinery.clock import RealClock
from pilothouse.kubelet.images.registry import RegistryClient
from pilothouse.kubelet.images.service import LocalImageService
from pilothouse.kubelet.images.store import ImageStore
from pilothouse.kubelet.network.namespaces import create_netns, run_in_netns
from pilothouse.kubelet.network.node_network import prepare_node_namespace
from pilothouse.kubelet.runtime import testing
from pilothouse.kubelet.runtime.interfaces import ContainerStatus
from pilothouse.kubelet.runtime.oci import OCIRuntime
from pilothouse.kubelet.runtime.shim_client import ShimConfig

NETNS = "/run/netns/node-1"


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


async def make(directory: str, cgroup: str) -> tuple[OCIRuntime, LocalImageService]:
    images = LocalImageService(ImageStore(f"{directory}/images"), RegistryClient(RealClock()))
    assert not await images.prepare()
    config = ShimConfig(
        f"{directory}/node-1",
        netns=NETNS,
        pod_cidr="10.244.0.0/24",
        node_ip="172.30.0.2",
        cgroup_root=cgroup,
    )
    runtime = OCIRuntime(config, images)
    await runtime.start()
    return runtime, images


async def environment(runtime: OCIRuntime, directory: str) -> testing.ContractEnvironment:
    image = await runtime.image_status("busybox")
    assert image
    capabilities = (await runtime.info()).capabilities
    return testing.ContractEnvironment(runtime, image.id, f"{directory}/logs", capabilities)


async def contract(directory: str, cgroup: str) -> None:
    runtime, images = await make(directory, cgroup)
    await runtime.self_test()
    env = await environment(runtime, directory)
    for name in testing.all_checks():
        if not testing.applicable(name, env.capabilities):
            print("SKIP", name, flush=True)
            continue
        try:
            async with asyncio.timeout(60):
                await testing.run(name, env)
            print("PASS", name, flush=True)
        except Exception:
            print("FAIL", name, traceback.format_exc().replace("\n", "\\n"), flush=True)
    await finish(runtime, images, directory)


async def finish(runtime: OCIRuntime, images: LocalImageService, directory: str) -> None:
    pidfd = os.pidfd_open(await runtime.shim_pid())
    await runtime.shutdown(everything=True)
    await images.close()
    await asyncio.to_thread(select.select, [pidfd], [], [], 10)
    print("LEFT", processes(), flush=True)
    with open(f"{directory}/node-1/shim.log") as log:  # noqa: ASYNC230
        print("LOG", log.read().replace("\n", "\\n"), flush=True)


async def go_on(env: testing.ContractEnvironment, survivor: ContainerStatus, shared: str) -> None:
    """What a shim that has started again does for containers of the one before."""
    runtime = env.runtime
    assert (await runtime.exec_sync(survivor.id, ["hostname"], 5))[0] == b"pod-1\n"
    with open(survivor.log_path) as log:  # noqa: ASYNC230
        size = len(log.read())
        async with asyncio.timeout(10):
            while not log.read():
                await runtime.exec_sync(survivor.id, ["sleep", "0.05"], 5)
    assert size
    second = await env.container(survivor.sandbox_id, name="again", log_path="again/0.log")
    await runtime.start_container(second)
    address = (await runtime.pod_sandbox_status(survivor.sandbox_id)).ips[0]
    out = (await runtime.exec_sync(second, ["ip", "addr", "show", "eth0"], 5))[0].decode()
    assert f" {address}/24 " in out, out
    fresh = await env.sandbox()
    assert (await runtime.pod_sandbox_status(fresh)).ips[0] != address
    joined = await env.container(shared, name="two", log_path="two/0.log")
    await runtime.start_container(joined)
    listing = ["sh", "-c", "cat /proc/[0-9]*/cmdline"]
    assert b"/pause" in (await runtime.exec_sync(joined, listing, 5))[0]
    async with env.ending(survivor.id) as status:
        await runtime.stop_container(survivor.id, 0.1)
    assert (status[0].exit_code, status[0].reason) == (255, "Unknown")


async def recovery(directory: str, cgroup: str) -> None:
    """A kubelet that starts again finds its shim; a shim that starts again finds its pods."""
    runtime, images = await make(directory, cgroup)
    env = await environment(runtime, directory)
    shim = await runtime.shim_pid()
    script = "i=0; while :; do i=$((i+1)); echo line $i; sleep 0.01; done"
    survivor = await env.running(("sh", "-c", script))
    victim = await env.running()
    shared = await env.sandbox(share_process_namespace=True)
    in_shared = await env.container(shared)
    await runtime.start_container(in_shared)
    empty = await env.sandbox()
    done = await env.finished(("sh", "-c", "exit 3"))
    before = {c.id: c for c in await runtime.list_containers()}

    await runtime.close()
    runtime, images_2 = await make(directory, cgroup)
    assert await runtime.shim_pid() == shim
    assert {c.id: c for c in await runtime.list_containers()} == before
    print("PASS kubelet", flush=True)

    events = runtime.events()
    pidfd = os.pidfd_open(shim)
    os.kill(shim, signal.SIGKILL)
    await asyncio.to_thread(select.select, [pidfd], [], [], 10)
    async for _ in events:  # ends with the shim
        pass
    os.kill(before[victim].pid, signal.SIGKILL)
    after = {c.id: c for c in await runtime.list_containers()}
    assert await runtime.shim_pid() != shim
    assert after[survivor] == before[survivor]
    assert after[done.id] == before[done.id]
    lost = after[victim]
    assert (lost.state, lost.exit_code, lost.reason) == ("exited", 255, "Unknown"), lost
    states = {s.id: s.state for s in await runtime.list_pod_sandboxes()}
    assert states[before[survivor].sandbox_id] == "ready"
    assert states[shared] == "ready"
    assert states[empty] == "notready"
    print("PASS shim", flush=True)

    env.runtime = runtime
    await go_on(env, before[survivor], shared)
    print("PASS afterwards", flush=True)
    await images_2.close()
    await finish(runtime, images, directory)


async def main(mode: str, directory: str, cgroup: str) -> None:
    create_netns(NETNS)
    run_in_netns(NETNS, prepare_node_namespace)
    await {"contract": contract, "recovery": recovery}[mode](directory, cgroup)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], sys.argv[3]))
