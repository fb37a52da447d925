"""The contract of RuntimeService and ImageService, as checks that any implementation must pass.

A check is an async function of a :class:`ContractEnvironment`; ``@needs`` names the capabilities
without which it says nothing. ``applicable(capabilities)`` gives the names to run, ``run`` runs
one. Every check cleans up what it made.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pilothouse.kubelet.runtime import errors
from pilothouse.kubelet.runtime.interfaces import (
    Capabilities,
    ContainerConfig,
    ContainerStatus,
    Mount,
    PodSandboxConfig,
    PortMapping,
    Resources,
    SecurityContext,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

TIMEOUT = 20.0
FOREVER = ("sh", "-c", "trap 'exit 3' TERM; while :; do sleep 0.02; done")


@dataclass(slots=True)
class ContractEnvironment:
    """``runtime`` implements both services; ``image`` is the id of a busybox image of it."""

    runtime: Any
    image: str
    directory: str
    capabilities: Capabilities
    count: int = 0
    made: list[str] = field(default_factory=list)

    async def sandbox(self, **changes: Any) -> str:
        self.count += 1
        name = f"pod-{self.count}"
        config: dict[str, Any] = {
            "name": name,
            "namespace": "default",
            "uid": f"uid-{self.count}",
            "attempt": 0,
            "hostname": name,
            "log_directory": os.path.join(self.directory, name),
            **changes,
        }
        sandbox_id: str = await self.runtime.run_pod_sandbox(PodSandboxConfig(**config))
        self.made.append(sandbox_id)
        return sandbox_id

    async def container(
        self, sandbox_id: str, command: tuple[str, ...] = FOREVER, **changes: Any
    ) -> str:
        """Created, not started."""
        values: dict[str, Any] = {"name": "main", "attempt": 0, "log_path": "main/0.log", **changes}
        config = ContainerConfig(image=self.image, command=command, **values)
        created: str = await self.runtime.create_container(sandbox_id, config)
        return created

    async def running(self, command: tuple[str, ...] = FOREVER, **changes: Any) -> str:
        container_id = await self.container(await self.sandbox(), command, **changes)
        await self.runtime.start_container(container_id)
        return container_id

    async def finished(self, command: tuple[str, ...], **changes: Any) -> ContainerStatus:
        """Runs ``command`` to its end."""
        container_id = await self.container(await self.sandbox(), command, **changes)
        async with self.ending(container_id) as status:
            await self.runtime.start_container(container_id)
        return status[0]

    @contextlib.asynccontextmanager
    async def ending(self, container_id: str) -> AsyncIterator[list[ContainerStatus]]:
        """Waits, after the block, until the container has exited; its status is in the list."""
        status: list[ContainerStatus] = []
        events = self.runtime.events()
        try:
            yield status
            async with asyncio.timeout(TIMEOUT):
                status.append(await self._exited(container_id, events))
        finally:
            await events.aclose()

    async def _exited(self, container_id: str, events: AsyncIterator[Any]) -> ContainerStatus:
        status: ContainerStatus = await self.runtime.container_status(container_id)
        while status.state != "exited":
            await anext(events)
            status = await self.runtime.container_status(container_id)
        return status

    async def clean(self) -> None:
        for sandbox_id in self.made:
            await self.runtime.remove_pod_sandbox(sandbox_id)
        self.made.clear()


_CHECKS: dict[str, tuple[Callable[[ContractEnvironment], Awaitable[None]], tuple[str, ...]]] = {}


def needs(
    *capabilities: str,
) -> Callable[
    [Callable[[ContractEnvironment], Awaitable[None]]],
    Callable[[ContractEnvironment], Awaitable[None]],
]:
    """Registers a check that only says something about runtimes with ``capabilities``."""

    def register(
        check: Callable[[ContractEnvironment], Awaitable[None]],
    ) -> Callable[[ContractEnvironment], Awaitable[None]]:
        _CHECKS[check.__name__] = (check, capabilities)
        return check

    return register


def all_checks() -> list[str]:
    return list(_CHECKS)


def applicable(name: str, capabilities: Capabilities) -> bool:
    return all(getattr(capabilities, need) for need in _CHECKS[name][1])


async def run(name: str, environment: ContractEnvironment) -> None:
    """Runs one check and cleans up; an assertion or exception is the failure."""
    try:
        await _CHECKS[name][0](environment)
    finally:
        await environment.clean()


@contextlib.contextmanager
def raises(kind: type[BaseException]) -> Any:
    try:
        yield
    except kind:
        return
    raise AssertionError(f"{kind.__name__} was not raised")


# --- sandboxes


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
    assert not status.pid or not _exists(f"/proc/{status.pid}")


# --- containers


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
    await _logged(env, polite, "up")
    await env.runtime.stop_container(polite, TIMEOUT)
    assert (await env.runtime.container_status(polite)).exit_code == 3
    deaf = await env.running(("sh", "-c", "trap '' TERM; echo up; while :; do sleep 0.02; done"))
    await _logged(env, deaf, "up")
    await env.runtime.stop_container(deaf, 0.1)
    status = await env.runtime.container_status(deaf)
    assert (status.exit_code, status.reason) == (137, "Error")
    other = await env.running(
        ("sh", "-c", "trap 'exit 5' INT; echo up; while :; do sleep 0.02; done"),
        stop_signal="SIGINT",
    )
    await _logged(env, other, "up")
    await env.runtime.stop_container(other, TIMEOUT)
    assert (await env.runtime.container_status(other)).exit_code == 5


async def _logged(env: ContractEnvironment, container_id: str, text: str) -> None:
    """Waits until the log has ``text``: attached output would miss what came before."""
    path = (await env.runtime.container_status(container_id)).log_path
    async with asyncio.timeout(TIMEOUT):
        while text not in _read(path):
            await env.runtime.exec_sync(container_id, ["sleep", "0.02"], 5)


def _exists(path: str) -> bool:
    return os.path.exists(path)


def _write(path: str, text: str) -> None:
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)


def _read(path: str) -> str:
    with open(path, encoding="utf-8") as file:
        return file.read()


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
    _write(f"{shared}/in", "from the host")
    mounts = (Mount(shared, "/mnt/rw"), Mount(shared, "/mnt/rw/ro", readonly=True))
    os.makedirs(f"{shared}/ro", exist_ok=True)
    container_id = await env.running(mounts=mounts, working_dir="/mnt/rw")
    script = "pwd; cat in; echo back > out; touch ro/x 2>/dev/null || echo ' readonly'"
    out, err, _ = await env.runtime.exec_sync(container_id, ["sh", "-c", script], 5)
    assert out == b"/mnt/rw\nfrom the host readonly\n", (out, err)
    assert _read(f"{shared}/out") == "back\n"


# --- logs


@needs("real_processes")
async def logs_are_in_cri_format(env: ContractEnvironment) -> None:
    script = "echo one; echo two >&2; printf %020000d 0; echo; printf tail"
    status = await env.finished(("sh", "-c", script))
    lines = _read(status.log_path).splitlines()
    parsed = [line.split(" ", 3) for line in lines]
    stdout = [(tag, text) for _, stream, tag, text in parsed if stream == "stdout"]
    assert stdout[0] == ("F", "one")
    assert [(tag, len(text)) for tag, text in stdout[1:3]] == [("P", 16384), ("F", 20000 - 16384)]
    assert stdout[3] == ("F", "tail")
    assert [(tag, text) for _, stream, tag, text in parsed if stream == "stderr"] == [("F", "two")]
    for when, *_ in parsed:
        assert len(when) == 30, when
        assert when.endswith("Z")
        assert when[10] == "T"


@needs("real_processes")
async def logs_can_be_rotated(env: ContractEnvironment) -> None:
    container_id = await env.running(("sh", "-c", "while read x; do echo $x; done"), stdin=True)
    stream = await env.runtime.attach(
        container_id, tty=False, stdin=True, stdout=True, stderr=False
    )
    path = (await env.runtime.container_status(container_id)).log_path
    for word in ("before", "after"):
        stream.stdin.write(f"{word}\n".encode())
        async with asyncio.timeout(TIMEOUT):
            assert await stream.stdout.readline() == f"{word}\n".encode()
        if word == "before":
            os.rename(path, f"{path}.old")
            await env.runtime.reopen_container_log(container_id)
    await stream.kill()
    assert "before" in _read(f"{path}.old")
    assert "after" in _read(path)
    assert "before" not in _read(path)


# --- exec, attach, port-forward


@needs("real_processes")
async def exec_sync_gives_output_and_code(env: ContractEnvironment) -> None:
    container_id = await env.running()
    script = ["sh", "-c", "echo out; echo err >&2; exit 4"]
    answer = await env.runtime.exec_sync(container_id, script, 5)
    assert answer == (b"out\n", b"err\n", 4), answer
    with raises(errors.ExecTimeout):
        await env.runtime.exec_sync(container_id, ["sleep", "30"], 0.1)
    with raises(errors.StartError):
        await env.runtime.exec_sync(container_id, ["no-such-program"], 5)
    big = ["sh", "-c", "head -c 300000 /dev/zero"]
    assert len((await env.runtime.exec_sync(container_id, big, 10))[0]) == 300_000
    await env.runtime.stop_container(container_id, 0)
    with raises(errors.NotFound):
        await env.runtime.exec_sync(container_id, ["true"], 5)


@needs()
async def exec_sync_succeeds(env: ContractEnvironment) -> None:
    container_id = await env.running()
    assert (await env.runtime.exec_sync(container_id, ["true"], 5))[2] == 0


@needs("real_processes")
async def exec_streams(env: ContractEnvironment) -> None:
    container_id = await env.running()
    stream = await env.runtime.exec(
        container_id, ["sh", "-c", "cat; exit 9"], tty=False, stdin=True, stdout=True, stderr=False
    )
    assert stream.stderr is None
    stream.stdin.write(b"x" * 200_000)
    reading = asyncio.gather(stream.stdout.read(200_000 + 1), stream.stdin.drain())
    async with asyncio.timeout(TIMEOUT):
        first = (await reading)[0]
        await stream.close_stdin()
        rest = await _read_all(stream.stdout)
        assert len(first) + len(rest) == 200_000
        assert await stream.wait() == 9
    await stream.kill()
    stream = await env.runtime.exec(
        container_id, ["sleep", "60"], tty=False, stdin=False, stdout=True, stderr=True
    )
    await stream.kill()
    async with asyncio.timeout(TIMEOUT):
        assert await stream.wait() == 137


async def _read_all(reader: asyncio.StreamReader) -> bytes:
    data = b""
    while piece := await reader.read(1 << 16):
        data += piece
    return data


@needs("real_processes", "tty")
async def exec_with_a_terminal(env: ContractEnvironment) -> None:
    container_id = await env.running()
    stream = await env.runtime.exec(
        container_id, ["sh"], tty=True, stdin=True, stdout=True, stderr=False
    )
    await stream.resize(101, 33)
    stream.stdin.write(b"test -t 0 && stty size; exit 6\n")
    async with asyncio.timeout(TIMEOUT):
        assert b"33 101" in await _read_all(stream.stdout)
        assert await stream.wait() == 6
    await stream.kill()


@needs("real_processes")
async def attach_sees_output_and_feeds_input(env: ContractEnvironment) -> None:
    script = "while read x; do echo got $x; echo err $x >&2; done; exit 2"
    container_id = await env.running(("sh", "-c", script), stdin=True, stdin_once=True)
    async with env.ending(container_id) as status:
        stream = await env.runtime.attach(
            container_id, tty=False, stdin=True, stdout=True, stderr=True
        )
        stream.stdin.write(b"one\n")
        async with asyncio.timeout(TIMEOUT):
            assert await stream.stdout.readline() == b"got one\n"
            assert await stream.stderr.readline() == b"err one\n"
        await stream.close_stdin()
        async with asyncio.timeout(TIMEOUT):
            assert await stream.wait() == 0
    assert status[0].exit_code == 2
    await stream.kill()


@needs("real_processes", "tty")
async def attach_to_a_terminal(env: ContractEnvironment) -> None:
    container_id = await env.running(("sh",), stdin=True, tty=True)
    stream = await env.runtime.attach(container_id, tty=True, stdin=True, stdout=True, stderr=False)
    async with env.ending(container_id) as status:
        await stream.resize(77, 22)
        stream.stdin.write(b"stty size; exit 8\n")
        async with asyncio.timeout(TIMEOUT):
            output = await _read_all(stream.stdout)
        assert b"22 77" in output, output
    assert status[0].exit_code == 8
    assert "22 77" in _read(status[0].log_path)
    await stream.kill()


@needs("real_processes")
async def port_forward_reaches_a_port(env: ContractEnvironment) -> None:
    script = "nc -lp 18080 -e cat || busybox nc -lp 18080 -e cat"
    container_id = await env.running(("sh", "-c", f"{script}; sleep 60"))
    sandbox_id = (await env.runtime.container_status(container_id)).sandbox_id
    async with asyncio.timeout(TIMEOUT):
        while True:
            try:
                reader, writer = await env.runtime.port_forward(sandbox_id, 18080)
                break
            except ConnectionError:
                await env.runtime.exec_sync(container_id, ["sleep", "0.02"], 5)
        writer.write(b"ping\n")
        assert await reader.readline() == b"ping\n"
    writer.close()
    with raises(ConnectionError):
        await env.runtime.port_forward(sandbox_id, 18081)


# --- isolation


@needs("pod_network")
async def pods_have_addresses_and_reach_each_other(env: ContractEnvironment) -> None:
    server = await env.running(("sh", "-c", "nc -lp 8080 -e echo hi; sleep 60"))
    client = await env.running()
    ips = []
    for container_id in (server, client):
        sandbox_id = (await env.runtime.container_status(container_id)).sandbox_id
        ips.append((await env.runtime.pod_sandbox_status(sandbox_id)).ips[0])
    assert ips[0] != ips[1]
    script = f"for i in 1 2 3 4 5 6 7 8 9; do nc {ips[0]} 8080 && exit 0; sleep 0.1; done; exit 1"
    out, err, code = await env.runtime.exec_sync(client, ["sh", "-c", script], 10)
    assert (out, code) == (b"hi\n", 0), err


@needs("pod_network")
async def a_host_port_leads_to_its_pod(env: ContractEnvironment) -> None:
    mappings = (PortMapping("TCP", 8080, 18088), PortMapping("TCP", 8080, 18089, "127.0.0.1"))
    sandbox_id = await env.sandbox(port_mappings=mappings)
    server = await env.container(sandbox_id, ("sh", "-c", "nc -ll -p 8080 -e echo hi"))
    client_sandbox = await env.sandbox(host_network=True)
    client = await env.container(client_sandbox)
    for container_id in (server, client):
        await env.runtime.start_container(container_id)
    script = "for i in 1 2 3 4 5 6 7 8 9; do nc 127.0.0.1 $0 && exit 0; sleep 0.1; done; exit 1"
    for port in ("18088", "18089"):
        out, err, code = await env.runtime.exec_sync(client, ["sh", "-c", script, port], 10)
        assert (out, code) == (b"hi\n", 0), err
    await env.runtime.stop_pod_sandbox(sandbox_id)
    command = ["nc", "127.0.0.1", "18088"]
    assert (await env.runtime.exec_sync(client, command, 10))[2] != 0


@needs("pod_network")
async def a_sandbox_has_its_own_hostname_and_sysctls(env: ContractEnvironment) -> None:
    sysctls = {"net.ipv4.ip_unprivileged_port_start": "0", "kernel.shm_rmid_forced": "1"}
    sandbox_id = await env.sandbox(hostname="my-host", sysctls=sysctls)
    container_id = await env.container(sandbox_id)
    await env.runtime.start_container(container_id)
    script = "hostname; cat /etc/hostname /proc/sys/net/ipv4/ip_unprivileged_port_start"
    script += " /proc/sys/kernel/shm_rmid_forced"
    out = (await env.runtime.exec_sync(container_id, ["sh", "-c", script], 5))[0]
    assert out == b"my-host\nmy-host\n0\n1\n"


@needs("image_filesystem", "pod_network")
async def containers_of_a_pod_share_memory_and_processes(env: ContractEnvironment) -> None:
    sandbox_id = await env.sandbox(share_process_namespace=True)
    first = await env.container(sandbox_id, ("sleep", "1000"), name="one", log_path="one/0.log")
    second = await env.container(sandbox_id, FOREVER, name="two", log_path="two/0.log")
    for container_id in (first, second):
        await env.runtime.start_container(container_id)
    await env.runtime.exec_sync(first, ["sh", "-c", "echo shared > /dev/shm/x"], 5)
    script = ["sh", "-c", "cat /dev/shm/x; cat /proc/[0-9]*/cmdline | tr '\\0' ' '"]
    out = (await env.runtime.exec_sync(second, script, 5))[0]
    assert out.startswith(b"shared\n")
    assert b"sleep 1000" in out
    assert b"/pause" in out


@needs("image_filesystem")
async def a_readonly_root_is_readonly(env: ContractEnvironment) -> None:
    container_id = await env.running(security=SecurityContext(readonly_rootfs=True))
    out, _, code = await env.runtime.exec_sync(container_id, ["touch", "/x"], 5)
    assert code != 0, out
    other = await env.running()
    assert (await env.runtime.exec_sync(other, ["touch", "/x"], 5))[2] == 0


@needs("user_ids")
async def users_groups_and_capabilities(env: ContractEnvironment) -> None:
    security = SecurityContext(
        run_as_user=1234, run_as_group=2345, supplemental_groups=(3456,), no_new_privileges=True
    )
    container_id = await env.running(security=security)
    script = "id -u; id -g; id -G; grep -E 'CapEff|NoNewPrivs' /proc/self/status"
    out = (await env.runtime.exec_sync(container_id, ["sh", "-c", script], 5))[0].decode()
    uid, gid, groups, capabilities, privileges = out.splitlines()
    assert (uid, gid, set(groups.split())) == ("1234", "2345", {"2345", "3456"})
    assert int(capabilities.split()[1], 16) == 0
    assert privileges.split()[1] == "1"
    security = SecurityContext(
        add_capabilities=("NET_ADMIN",), drop_capabilities=("ALL",), run_as_username="daemon"
    )
    container_id = await env.running(security=security)
    script = "id -un; grep CapBnd /proc/self/status"
    out = (await env.runtime.exec_sync(container_id, ["sh", "-c", script], 5))[0].decode()
    user, bounding = out.splitlines()
    assert user == "daemon"
    assert int(bounding.split()[1], 16) == 1 << 12
    with raises(errors.StartError):
        await env.running(security=SecurityContext(run_as_username="nobody-knows"))


@needs("user_ids")
async def privileged_and_default_profile(env: ContractEnvironment) -> None:
    strong = await env.running(security=SecurityContext(privileged=True))
    weak = await env.running(security=SecurityContext(seccomp_unconfined=False))
    script = ["sh", "-c", "mount -t tmpfs none /mnt 2>/dev/null || mkdir /mnt2; ls /dev/null"]
    assert (await env.runtime.exec_sync(strong, script, 5))[2] == 0
    probe = ["sh", "-c", "grep -E '^Seccomp:' /proc/self/status; unshare -m true"]
    out, _, code = await env.runtime.exec_sync(weak, probe, 5)
    assert out.split()[1] == b"2"
    assert code != 0


# --- resources


@needs("oom_detection")
async def out_of_memory(env: ContractEnvironment) -> None:
    status = await env.finished(
        ("sh", "-c", "tail /dev/zero"), resources=Resources(memory_limit=20 << 20)
    )
    assert (status.exit_code, status.reason) == (137, "OOMKilled"), status


@needs("resource_limits")
async def limits_and_their_change(env: ContractEnvironment) -> None:
    resources = Resources(cpu_shares=256, cpu_quota=20_000, memory_limit=64 << 20, pids_limit=50)
    container_id = await env.running(resources=resources)
    await _limits_are(env, container_id, 20_000, 64 << 20)
    changed = Resources(cpu_shares=512, cpu_quota=40_000, memory_limit=128 << 20)
    await env.runtime.update_container_resources(container_id, changed)
    await _limits_are(env, container_id, 40_000, 128 << 20)
    stats = await env.runtime.container_stats(container_id)
    assert stats.memory_usage_bytes > 0
    assert stats.cpu_usage_core_nanoseconds > 0


async def _limits_are(env: ContractEnvironment, container_id: str, quota: int, memory: int) -> None:
    script = "cd /sys/fs/cgroup; cat cpu/cpu.cfs_quota_us memory/memory.limit_in_bytes"
    script += " || cat cpu.max memory.max"
    out = (await env.runtime.exec_sync(container_id, ["sh", "-c", script], 5))[0].split()
    assert str(quota).encode() in out
    assert str(memory).encode() in out


@needs("real_processes")
async def stats_of_a_container(env: ContractEnvironment) -> None:
    container_id = await env.running()
    stats = await env.runtime.container_stats(container_id)
    assert stats.id == container_id
    assert stats.timestamp > 0


# --- images


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
