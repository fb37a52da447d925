"""The runtimes' contract: sandboxes, containers, images."""

from __future__ import annotations

import asyncio
import os
from typing import Any

from pilothouse.kubelet.runtime import errors
from pilothouse.kubelet.runtime.interfaces import (
    ContainerConfig,
    Mount,
)
from pilothouse.kubelet.runtime.testing import (
    TIMEOUT,
    ContractEnvironment,
    exists,
    logged,
    needs,
    raises,
    read_text,
    write_text,
)


@needs()
async def sandbox_lifecycle(env: ContractEnvironment) -> None:
    sandbox_id = await env.sandbox(labels={"a": "b"}, annotations={"c": "d"})
    status = await env.runtime.pod_sandbox_status(sandbox_id)
    assert (status.state, status.name, status.uid) == ("ready", "pod-1", "uid-1") or env.count > 1
    assert (status.labels, status.annotations) == ({"a": "b"}, {"c": "d"})
    assert status.created_at > 0
    assert len(status.ips) == 1
    assert sandbox_id in [s.id for s in await env.runtime.list_pod_sandboxes()]
    for _ in range(2):
        await env.runtime.stop_pod_sandbox(sandbox_id)
        assert (await env.runtime.pod_sandbox_status(sandbox_id)).state == "notready"
    for _ in range(2):
        await env.runtime.remove_pod_sandbox(sandbox_id)
    with raises(errors.NotFound):
        await env.runtime.pod_sandbox_status(sandbox_id)
    assert await env.runtime.list_pod_sandboxes() == []


@needs()
async def a_stopped_sandbox_takes_no_container(env: ContractEnvironment) -> None:
    sandbox_id = await env.sandbox()
    await env.runtime.stop_pod_sandbox(sandbox_id)
    with raises(errors.StartError):
        await env.container(sandbox_id)


@needs()
async def removing_a_sandbox_ends_its_containers(env: ContractEnvironment) -> None:
    container_id = await env.running()
    status = await env.runtime.container_status(container_id)
    await env.runtime.stop_pod_sandbox(status.sandbox_id)
    assert (await env.runtime.container_status(container_id)).state == "exited"
    await env.runtime.remove_pod_sandbox(status.sandbox_id)
    assert await env.runtime.list_containers() == []
    assert not status.pid or not exists(f"/proc/{status.pid}")


@needs()
async def container_lifecycle(env: ContractEnvironment) -> None:
    sandbox_id = await env.sandbox()
    container_id = await env.container(sandbox_id, labels={"l": "1"}, annotations={"n": "2"})
    status = await env.runtime.container_status(container_id)
    assert (status.state, status.started_at, status.finished_at) == ("created", 0, 0)
    assert (status.sandbox_id, status.name, status.attempt) == (sandbox_id, "main", 0)
    assert (status.labels, status.annotations) == ({"l": "1"}, {"n": "2"})
    assert status.image_id == env.image
    assert status.log_path.endswith("/main/0.log")
    await env.runtime.start_container(container_id)
    status = await env.runtime.container_status(container_id)
    assert status.state == "running"
    assert status.started_at >= status.created_at > 0
    with raises(errors.StartError):
        await env.runtime.start_container(container_id)
    await env.runtime.stop_container(container_id, 0)
    status = await env.runtime.container_status(container_id)
    assert status.state == "exited"
    assert status.finished_at >= status.started_at
    await env.runtime.stop_container(container_id, 5)
    for _ in range(2):
        await env.runtime.remove_container(container_id)
    with raises(errors.NotFound):
        await env.runtime.container_status(container_id)


@needs()
async def exit_codes(env: ContractEnvironment) -> None:
    for code, reason in ((0, "Completed"), (7, "Error")):
        status = await env.finished(("sh", "-c", f"exit {code}"))
        assert (status.state, status.exit_code, status.reason) == ("exited", code, reason), status
        assert status.started_at > 0


@needs("real_processes")
async def stopping(env: ContractEnvironment) -> None:
    polite = await env.running(
        ("sh", "-c", "trap 'exit 3' TERM; echo up; while :; do sleep 0.02; done")
    )
    await logged(env, polite, "up")
    await env.runtime.stop_container(polite, TIMEOUT)
    assert (await env.runtime.container_status(polite)).exit_code == 3
    deaf = await env.running(("sh", "-c", "trap '' TERM; echo up; while :; do sleep 0.02; done"))
    await logged(env, deaf, "up")
    await env.runtime.stop_container(deaf, 0.1)
    status = await env.runtime.container_status(deaf)
    assert (status.exit_code, status.reason) == (137, "Error")
    other = await env.running(
        ("sh", "-c", "trap 'exit 5' INT; echo up; while :; do sleep 0.02; done"),
        stop_signal="SIGINT",
    )
    await logged(env, other, "up")
    await env.runtime.stop_container(other, TIMEOUT)
    assert (await env.runtime.container_status(other)).exit_code == 5


@needs("real_processes")
async def a_missing_program_is_a_start_error(env: ContractEnvironment) -> None:
    container_id = await env.container(await env.sandbox(), ("/no/such/program",))
    with raises(errors.StartError):
        await env.runtime.start_container(container_id)
    status = await env.runtime.container_status(container_id)
    assert (status.state, status.exit_code, status.reason) == ("exited", 128, "StartError")
    assert "/no/such/program" in status.message
    assert status.finished_at > 0


@needs()
async def events_tell_every_step(env: ContractEnvironment) -> None:
    events = env.runtime.events()
    container_id = await env.running()
    sandbox_id = (await env.runtime.container_status(container_id)).sandbox_id
    await env.runtime.stop_container(container_id, 0)
    await env.runtime.remove_container(container_id)
    await env.runtime.remove_pod_sandbox(sandbox_id)
    seen: list[Any] = []
    async with asyncio.timeout(TIMEOUT):
        while not seen or (seen[-1].type, seen[-1].container_id) != ("deleted", ""):
            seen.append(await anext(events))
    await events.aclose()
    assert {event.sandbox_id for event in seen} == {sandbox_id}
    assert {event.pod_uid for event in seen} == {f"uid-{env.count}"}
    kinds = [event.type for event in seen if event.container_id == container_id]
    assert kinds == ["created", "started", "stopped", "deleted"]
    assert seen[0].type == "sandbox"


@needs()
async def unknown_ids_are_not_found(env: ContractEnvironment) -> None:
    runtime, nobody = env.runtime, "f" * 64
    for call in (
        lambda: runtime.pod_sandbox_status(nobody),
        lambda: runtime.stop_pod_sandbox(nobody),
        lambda: env.container(nobody),
        lambda: runtime.container_status(nobody),
        lambda: runtime.start_container(nobody),
        lambda: runtime.stop_container(nobody, 1),
        lambda: runtime.exec_sync(nobody, ["true"], 1),
        lambda: runtime.container_stats(nobody),
        lambda: runtime.reopen_container_log(nobody),
        lambda: runtime.port_forward(nobody, 80),
    ):
        with raises(errors.NotFound):
            await call()
    await runtime.remove_container(nobody)
    await runtime.remove_pod_sandbox(nobody)


@needs("real_processes")
async def environment_and_directory(env: ContractEnvironment) -> None:
    container_id = await env.running(envs=(("GREETING", "hello world"), ("EMPTY", "")))
    command = ["sh", "-c", 'echo "$GREETING|$EMPTY|$HOSTNAME"']
    out, _, code = await env.runtime.exec_sync(container_id, command, 5)
    assert (out, code) == (f"hello world||pod-{env.count}\n".encode(), 0)


@needs("image_filesystem")
async def working_directory_and_mounts(env: ContractEnvironment) -> None:
    shared = os.path.join(env.directory, "shared")
    os.makedirs(shared, exist_ok=True)
    write_text(f"{shared}/in", "from the host")
    mounts = (Mount(shared, "/mnt/rw"), Mount(shared, "/mnt/rw/ro", readonly=True))
    os.makedirs(f"{shared}/ro", exist_ok=True)
    container_id = await env.running(mounts=mounts, working_dir="/mnt/rw")
    script = "pwd; cat in; echo back > out; touch ro/x 2>/dev/null || echo ' readonly'"
    if not env.capabilities.pod_network:  # no namespaces, so nothing can be made read-only
        script = "pwd; cat in; echo back > out; echo ' readonly'"
    out, err, _ = await env.runtime.exec_sync(container_id, ["sh", "-c", script], 5)
    assert out == b"/mnt/rw\nfrom the host readonly\n", (out, err)
    assert read_text(f"{shared}/out") == "back\n"


@needs()
async def images(env: ContractEnvironment) -> None:
    image = await env.runtime.image_status("busybox")
    assert image is not None
    assert image.id == env.image
    assert "docker.io/library/busybox:latest" in image.repo_tags
    assert image.size > 0
    assert await env.runtime.image_status(env.image) == image
    assert await env.runtime.image_status("no-such-image:1") is None
    assert image.id in [found.id for found in await env.runtime.list_images()]
    with raises(errors.ImagePullError):
        await env.runtime.pull_image("localhost:1/invalid/nonexistent:404", None)
    with raises(errors.ImagePullError):
        await env.runtime.pull_image("Not A Reference", None)
    await env.runtime.remove_image("no-such-image:1")
    with raises(errors.NotFound):
        config = ContainerConfig(name="x", attempt=0, image="sha256:" + "0" * 64)
        await env.runtime.create_container(await env.sandbox(), config)
