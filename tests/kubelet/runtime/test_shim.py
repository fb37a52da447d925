"""The shim's pure and small parts: OCI configs, users, log format, frames, children, timers."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import threading
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import pilothouse
from pilothouse.kubelet.network import host_ports
from pilothouse.kubelet.runtime.interfaces import (
    ContainerConfig,
    Mount,
    Resources,
    SecurityContext,
)
from pilothouse.kubelet.runtime.shim import cgroups, protocol
from pilothouse.kubelet.runtime.shim.__main__ import UsageError, complete, parse
from pilothouse.kubelet.runtime.shim.logs import MAX_LINE, format_lines, timestamp
from pilothouse.kubelet.runtime.shim.loop import Loop, Workers
from pilothouse.kubelet.runtime.shim.reaper import Reaper
from pilothouse.kubelet.runtime.shim.spec import (
    DEFAULT_CAPABILITIES,
    Machine,
    Place,
    build_spec,
    command_line,
    container_capabilities,
)
from pilothouse.kubelet.runtime.shim.stdio import parse_signal
from pilothouse.kubelet.runtime.shim.users import UnknownUser, User, resolve_user

PLACE = Place("/rootfs", "/kubepods/podx/y", "host", {"network": "/n", "pid": "", "mount": ""})


def config(**changes: Any) -> dict[str, Any]:
    values: dict[str, Any] = {"name": "c", "attempt": 0, "image": "i", "command": ("run",)}
    return asdict(ContainerConfig(**{**values, **changes}))


def spec(machine: Machine | None = None, **changes: Any) -> dict[str, Any]:
    image = {"Env": ["A=image", "PATH=/x"], "WorkingDir": "/w"}
    return build_spec(config(**changes), image, PLACE, User(1, 2, [2]), machine or Machine())


# --- OCI configs


@pytest.mark.parametrize(
    ("command", "args", "expected"),
    [
        (None, None, ["entry", "cmd"]),
        (("c",), None, ["c"]),
        (None, ("a",), ["entry", "a"]),
        (("c",), ("a",), ["c", "a"]),
    ],
)
def test_command_lines(command: Any, args: Any, expected: list[str]) -> None:
    image = {"Entrypoint": ["entry"], "Cmd": ["cmd"]}
    assert command_line(config(command=command, args=args), image) == expected


def test_environment_and_process() -> None:
    process = spec(envs=(("A", "pod"), ("B", "x=y")), tty=True)["process"]
    assert process["env"] == [
        "PATH=/x", "HOSTNAME=host", "TERM=xterm", "A=pod", "B=x=y", "HOME=/",
    ]  # fmt: skip
    assert process["cwd"] == "/w"
    assert process["user"] == {"uid": 1, "gid": 2, "additionalGids": [2]}
    assert spec(working_dir="/mine")["process"]["cwd"] == "/mine"


def test_own_mounts_replace_standard_ones_and_parents_come_first() -> None:
    mounts = spec(
        mounts=(
            Mount("/h/deep", "/data/a/b", readonly=True),
            Mount("/h/top", "/data", propagation="host_to_container"),
            Mount("/h/shm", "/dev/shm/"),
        )
    )["mounts"]
    by_path = [m["destination"] for m in mounts]
    assert by_path.count("/dev/shm") + by_path.count("/dev/shm/") == 1
    assert by_path.index("/data") < by_path.index("/data/a/b")
    options = {m["destination"]: m["options"] for m in mounts}
    assert options["/data"] == ["rbind", "rw", "rslave"]
    assert options["/data/a/b"] == ["rbind", "ro", "rprivate"]


def test_capabilities() -> None:
    def of(**security: Any) -> list[str]:
        return container_capabilities(asdict(SecurityContext(**security)), Machine())

    assert set(of()) == set(DEFAULT_CAPABILITIES)
    assert of(drop_capabilities=("ALL",)) == []
    assert of(drop_capabilities=("all",), add_capabilities=("net_admin",)) == ["CAP_NET_ADMIN"]
    assert "CAP_CHOWN" not in of(drop_capabilities=("CHOWN",))
    assert "CAP_SYS_ADMIN" in of(add_capabilities=("ALL",))
    assert "CAP_BPF" in of(privileged=True)
    weak = Machine(capabilities=0b1)
    assert container_capabilities(asdict(SecurityContext(privileged=True)), weak) == ["CAP_CHOWN"]


def test_limits_and_protections() -> None:
    resources = Resources(100, 5000, 100_000, 1 << 20, 7, -997)
    linux = spec(resources=resources)["linux"]
    assert linux["resources"]["memory"] == {"limit": 1 << 20}
    assert linux["resources"]["cpu"] == {"shares": 100, "quota": 5000, "period": 100_000}
    assert linux["resources"]["pids"] == {"limit": 7}
    assert "/proc/kcore" in linux["maskedPaths"]
    assert spec(Machine(cgroups="disabled"), resources=resources)["linux"]["resources"] == {}
    floor = spec(Machine(oom_score_adj_floor=0), resources=resources)
    assert floor["process"]["oomScoreAdj"] == 0
    privileged = spec(security=SecurityContext(privileged=True))["linux"]
    assert "maskedPaths" not in privileged
    assert "seccomp" in spec(security=SecurityContext(seccomp_unconfined=False))["linux"]
    assert spec(Machine(rootless=True))["process"]["user"] == {"uid": 1, "gid": 2}


# --- users


@pytest.fixture
def root(tmp_path: Path) -> str:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/passwd").write_text(
        "root:x:0:0:root:/root:/bin/sh\nweb:x:33:44:web:/var/www:/bin/false\nbroken\n"
    )
    (tmp_path / "etc/group").write_text("root:x:0:\nextra:x:55:web,other\nnamed:x:66:\n")
    return str(tmp_path)


@pytest.mark.parametrize(
    ("image", "security", "expected"),
    [
        ("", {}, (0, 0, [0], "/root")),
        ("web", {}, (33, 44, [44, 55], "/var/www")),
        ("33", {}, (33, 44, [44, 55], "/var/www")),
        ("web:named", {}, (33, 66, [55, 66], "/var/www")),
        ("1000:7", {}, (1000, 7, [7], "/")),
        ("web", {"run_as_user": 0}, (0, 0, [0], "/root")),
        (
            "",
            {"run_as_user": 99, "run_as_group": 9, "supplemental_groups": [5]},
            (99, 9, [5, 9], "/"),
        ),
        ("", {"run_as_username": "web"}, (33, 44, [44, 55], "/var/www")),
        (
            "web",
            {"strict_groups": True, "supplemental_groups": [5]},
            (33, 44, [5, 44], "/var/www"),
        ),
    ],
)
def test_users(root: str, image: str, security: dict[str, Any], expected: Any) -> None:
    user = resolve_user(root, image, security)
    assert (user.uid, user.gid, user.groups, user.home) == expected


def test_unknown_users_are_refused(root: str, tmp_path: Path) -> None:
    for name in ("ghost", "web:ghosts"):
        with pytest.raises(UnknownUser):
            resolve_user(root, name, {})
    (tmp_path / "etc/passwd").unlink()
    (tmp_path / "etc/passwd").symlink_to("/proc/self/../../etc/passwd")
    with pytest.raises(UnknownUser):  # the machine's own passwd has this name, the image not
        resolve_user(root, "daemon", {})


# --- logs


def test_timestamps() -> None:
    assert timestamp(1_795_510_475_000_000_123) == b"2026-11-24T08:54:35.000000123Z"


@given(st.lists(st.binary(max_size=300), max_size=20), st.integers(1, 50))
def test_log_lines_give_the_output_back(pieces: list[bytes], limit: int) -> None:
    import pilothouse.kubelet.runtime.shim.logs as logs

    text, pending = b"", b""
    old, logs.MAX_LINE = logs.MAX_LINE, limit
    try:
        for piece in pieces:
            out, pending = format_lines(b"stdout", b"T", pending, piece)
            text += out
    finally:
        logs.MAX_LINE = old
    back = b""
    for line in text.split(b"\n")[:-1]:
        when, stream, tag, content = line.split(b" ", 3)
        assert (when, stream) == (b"T", b"stdout")
        assert len(content) <= limit
        back += content + (b"\n" if tag == b"F" else b"")
    assert back + pending == b"".join(pieces)
    assert len(pending) < max(limit, 1)
    assert MAX_LINE == 16384


# --- the wire


@given(
    st.lists(st.dictionaries(st.text(max_size=5), st.text(max_size=50), max_size=3), max_size=8),
    st.integers(1, 64),
)
def test_frames_survive_any_cutting(messages: list[dict[str, str]], size: int) -> None:
    data = b"".join(protocol.encode({"m": message}) for message in messages)
    ours, theirs = socket.socketpair()
    reader, found = protocol.FrameReader(), []
    with ours, theirs:
        for start in range(0, len(data), size):
            ours.send(data[start : start + size])
            reader.receive(theirs)
            found += [message["m"] for message, _ in reader.messages()]
    assert found == messages


def test_descriptors_belong_to_their_frames() -> None:
    ours, theirs = socket.socketpair()
    reader = protocol.FrameReader()
    read, write = os.pipe()
    with ours, theirs:
        ours.send(protocol.encode({"n": 1}))
        socket.send_fds(ours, [protocol.encode({"n": 2}, (write,))], [write])
        os.close(write)
        found = []
        while len(found) < 2:
            assert reader.receive(theirs)
            found += reader.messages()
    assert [message for message, _ in found] == [{"n": 1}, {"n": 2}]
    assert found[0][1] == []
    os.write(found[1][1][0], b"x")
    assert os.read(read, 1) == b"x"
    os.close(read)
    os.close(found[1][1][0])


def test_a_huge_frame_is_refused() -> None:
    ours, theirs = socket.socketpair()
    reader = protocol.FrameReader()
    with ours, theirs:
        ours.send(b"\xff\xff\xff\xff")
        reader.receive(theirs)
        with pytest.raises(protocol.ProtocolError):
            reader.messages()


def test_long_socket_paths(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 100) / ("e" * 60)
    deep.mkdir(parents=True)
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as client:
        with protocol.short_path(f"{deep}/s.sock") as path:
            listener.bind(path)
        listener.listen(1)
        with protocol.short_path(f"{deep}/s.sock") as path:
            client.connect(path)
    assert (deep / "s.sock").exists()


# --- processes and the loop


def test_the_reaper_gives_every_status_once() -> None:
    reaper = Reaper()
    script = "exit 7"
    early = os.posix_spawn("/bin/sh", ["sh", "-c", script], {})
    os.waitid(os.P_PID, early, os.WEXITED | os.WNOWAIT)
    reaper.reap()
    assert reaper.wait(early) == 7  # it had ended before anyone asked
    late = os.posix_spawn("/bin/sh", ["sh", "-c", "kill -9 $$"], {})
    results: list[int] = []
    reaper.watch(late, results.append)
    os.waitid(os.P_PID, late, os.WEXITED | os.WNOWAIT)
    reaper.reap()
    assert results == [137]


def test_the_loop_runs_calls_timers_and_descriptors() -> None:
    loop, seen = Loop(), []
    read, write = os.pipe()
    loop.watch(read, 1, lambda _: (seen.append(os.read(read, 10)), loop.unwatch(read)))
    loop.later(0.02, lambda: (seen.append("timer"), loop.stop()))
    cancelled = loop.later(0.01, lambda: seen.append("never"))
    cancelled.cancel()
    thread = threading.Thread(target=lambda: loop.soon(lambda: seen.append("soon")))
    thread.start()
    os.write(write, b"x")
    loop.run()
    thread.join()
    assert sorted(map(str, seen)) == ["b'x'", "soon", "timer"]
    os.close(read)
    os.close(write)


def test_workers_run_side_by_side_up_to_their_limit() -> None:
    workers, barrier, done = Workers(3), threading.Barrier(3, timeout=5), threading.Semaphore(0)
    for _ in range(6):
        workers.submit(lambda: (barrier.wait(), done.release()))
    for _ in range(6):
        assert done.acquire(timeout=5)


@pytest.mark.parametrize(
    ("text", "number"), [("SIGINT", 2), ("int", 2), ("9", 9), ("SIGRTMIN+3", 37), ("x", 15)]
)
def test_signals(text: str, number: int) -> None:
    assert parse_signal(text) == number


def test_host_ports_are_taken_back_exactly() -> None:
    mappings = [
        {"protocol": "TCP", "container_port": 80, "host_port": 8080, "host_ip": ""},
        {"protocol": "UDP", "container_port": 53, "host_port": 53, "host_ip": "10.0.0.1"},
    ]
    added = host_ports.added("id", "10.244.0.2", mappings)
    removed = host_ports.removed("id", "10.244.0.2", mappings)
    own = host_ports.chain_of("id")
    made = {line[3:] for line in added.splitlines() if re.match(rf"-A (?!{own})", line)}
    gone = {line[3:] for line in removed.splitlines() if line.startswith("-D ")}
    assert made == gone
    assert "-d 10.0.0.1/32 -p udp -m udp --dport 53" in added
    assert f"-X {own}" in removed


# --- the process


def test_flags() -> None:
    options = parse(["--socket=/s", "--state-dir", "/d", "--cgroups=v1"])
    assert (options["--socket"], options["--state-dir"], options["--cgroups"]) == ("/s", "/d", "v1")
    assert "--netns" not in options
    for argv in (["--socket=/s"], ["--nope=1"], ["--socket"]):
        with pytest.raises(UsageError):
            parse(argv)


def test_a_later_shim_remembers(tmp_path: Path) -> None:
    netns = tmp_path / "netns"
    netns.touch()
    given = {"--socket": "/s", "--netns": str(netns), "--cgroup-root": "/pods"}
    assert complete(given, str(tmp_path))["--cgroups"] == "auto"
    later = complete({"--socket": "/t"}, str(tmp_path))
    assert (later["--netns"], later["--cgroup-root"]) == (str(netns), "/pods")
    assert later["--socket"] == "/t"
    netns.unlink()
    assert complete({"--socket": "/t"}, str(tmp_path))["--netns"] == ""


def test_the_shim_needs_the_standard_library_only_and_starts_quickly() -> None:
    source = str(Path(pilothouse.__file__).parents[1])
    script = (
        "import time; t = time.perf_counter(); import pilothouse.kubelet.runtime.shim.__main__;"
        "import sys; print(time.perf_counter() - t, 'asyncio' in sys.modules,"
        "'aiohttp' in sys.modules)"
    )
    command = [sys.executable, "-S", "-s", "-c", script]
    started = time.perf_counter()
    result = subprocess.run(
        command, env={"PYTHONPATH": source}, capture_output=True, text=True, check=True
    )
    took = time.perf_counter() - started
    _, uses_asyncio, uses_aiohttp = result.stdout.split()
    assert (uses_asyncio, uses_aiohttp) == ("False", "False")
    assert took < 2, result.stdout


def test_processes_of_other_namespaces_are_never_signalled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "pids").mkdir()
    (tmp_path / "pids" / "pod").mkdir()
    (tmp_path / "pids" / "pod" / "cgroup.procs").write_text("0\n12\n0\n")
    monkeypatch.setattr(cgroups, "ROOT", str(tmp_path))
    signalled: list[int] = []
    monkeypatch.setattr(os, "kill", lambda pid, number: signalled.append(pid))
    cgroups.Cgroups("v1").kill_all("/pod")
    assert signalled == [12]
