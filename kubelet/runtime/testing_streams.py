"""The runtimes' contract: logs, exec, attach, port-forward."""

from __future__ import annotations

import asyncio
import os

from pilothouse.kubelet.runtime import errors
from pilothouse.kubelet.runtime.testing import (
    TIMEOUT,
    ContractEnvironment,
    needs,
    raises,
    read_all,
    read_text,
)


@needs("real_processes")
async def logs_are_in_cri_format(env: ContractEnvironment) -> None:
    script = "echo one; echo two >&2; printf %020000d 0; echo; printf tail"
    status = await env.finished(("sh", "-c", script))
    lines = read_text(status.log_path).splitlines()
    parsed = [line.split(" ", 3) for line in lines]
    stdout = [(tag, text) for _, stream, tag, text in parsed if stream == "stdout"]
    assert stdout[0] == ("F", "one")
    assert [(tag, len(text)) for tag, text in stdout[1:3]] == [("P", 16384), ("F", 20000 - 16384)]
    assert stdout[3] == ("P", "tail")
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
    assert "before" in read_text(f"{path}.old")
    assert "after" in read_text(path)
    assert "before" not in read_text(path)


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
        rest = await read_all(stream.stdout)
        assert len(first) + len(rest) == 200_000
        assert await stream.wait() == 9
    await stream.kill()
    stream = await env.runtime.exec(
        container_id, ["sleep", "60"], tty=False, stdin=False, stdout=True, stderr=True
    )
    await stream.kill()
    async with asyncio.timeout(TIMEOUT):
        assert await stream.wait() == 137


@needs("real_processes", "tty")
async def exec_with_a_terminal(env: ContractEnvironment) -> None:
    container_id = await env.running()
    stream = await env.runtime.exec(
        container_id, ["sh"], tty=True, stdin=True, stdout=True, stderr=False
    )
    await stream.resize(101, 33)
    stream.stdin.write(b"test -t 0 && stty size; exit 6\n")
    async with asyncio.timeout(TIMEOUT):
        assert b"33 101" in await read_all(stream.stdout)
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
            output = await read_all(stream.stdout)
        assert b"22 77" in output, output
    assert status[0].exit_code == 8
    assert "22 77" in read_text(status[0].log_path)
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
