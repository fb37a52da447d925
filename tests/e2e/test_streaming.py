"""kubectl (and other clients) against real processes: logs, exec, attach, cp, port-forward.

One in-process cluster with the process runtime for the whole module; every stream is tried over
WebSocket and over raw SPDY.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import pty
import re
import select
import shutil
import socket
import struct
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import transcripts

from pilothouse import Cluster
from pilothouse.kubeclient.resources import PODS

pytestmark = [pytest.mark.kubectl, pytest.mark.timeout(90)]
KUBECTLS = [str(path) for path in transcripts.kubectls().values()]
TRANSPORTS = [(kubectl, websocket) for kubectl in KUBECTLS for websocket in ("true", "false")]
SERVER = """
import http.server, sys
class Echo(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = (self.path.encode() + b'.') * 20000
        self.send_response(200)
        self.send_header('Content-Length', str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def do_POST(self):
        body = self.rfile.read(int(self.headers['Content-Length']))
        self.send_response(200)
        self.send_header('Content-Length', str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *args): pass
http.server.ThreadingHTTPServer(('127.0.0.1', int(sys.argv[1])), Echo).serve_forever()
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def pod(name: str, *command: str, **container: Any) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name},
        "spec": {
            "terminationGracePeriodSeconds": 0,
            "restartPolicy": "Never",
            "containers": [
                {"name": "c", "image": "busybox", "command": list(command), **container}
            ],
        },
    }


class Machine:
    """The cluster with its pods, and how to run kubectl against it."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.port = free_port()

    def create(self, *pods: dict[str, Any]) -> None:
        for each in pods:
            self.cluster.client.create(PODS, each, "default")

    def env(self, websocket: str) -> dict[str, str]:
        return {
            **os.environ,
            "KUBECONFIG": str(self.cluster.kubeconfig),
            "KUBECTL_REMOTE_COMMAND_WEBSOCKETS": websocket,
            "KUBECTL_PORT_FORWARD_WEBSOCKETS": websocket,
        }

    def run(
        self, *args: str, kubectl: str = KUBECTLS[0], websocket: str = "true", stdin: bytes = b""
    ) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            [kubectl, *args], env=self.env(websocket), input=stdin, capture_output=True, timeout=30
        )


@pytest.fixture(scope="module")
def machine() -> Iterator[Machine]:
    settings = {"pod_cidr": "10.244.0.0/16", "service_cidr": "10.96.0.0/16"}
    with Cluster(runtime="process", name="streaming", **settings) as cluster:
        machine = Machine(cluster)
        machine.create(
            pod("shell", "sh", "-c", "while true; do sleep 1; done"),
            pod("terminal", "sh", stdin=True, tty=True),
            pod("cat", "cat", stdin=True, stdinOnce=True),
            pod("mixed", "sh", "-c", "echo out; echo err >&2; printf 'no newline'; exit 3"),
            pod("slow", "sh", "-c", "for i in 1 2 3 4 5; do echo line $i; sleep 0.3; done"),
            pod("web", sys.executable, "-c", SERVER, str(machine.port)),
        )
        ready = ("pod/shell", "pod/terminal", "pod/cat", "pod/web")
        waited = machine.run("wait", "--for=condition=Ready", "--timeout=20s", *ready)
        assert waited.returncode == 0, waited.stderr
        yield machine


# -- logs --------------------------------------------------------------------------------


def test_log_of_a_finished_container(machine: Machine) -> None:
    machine.run("wait", "--for=jsonpath={.status.phase}=Failed", "--timeout=20s", "pod/mixed")
    everything = machine.run("logs", "mixed")
    assert sorted(everything.stdout.splitlines()) == [b"err", b"no newline", b"out"]
    stamped = machine.run("logs", "mixed", "--timestamps").stdout.splitlines()
    assert all(re.match(rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z ", line) for line in stamped)
    assert len(machine.run("logs", "mixed", "--tail=1").stdout.splitlines()) == 1
    assert machine.run("logs", "mixed", "--limit-bytes=2").stdout in (b"ou", b"er", b"no")


def test_following_ends_with_the_container(machine: Machine) -> None:
    followed = machine.run("logs", "-f", "slow")
    assert followed.returncode == 0
    assert followed.stdout == b"".join(b"line %d\n" % i for i in range(1, 6))


def test_there_is_no_previous_log(machine: Machine) -> None:
    refused = machine.run("logs", "-p", "shell")
    assert refused.returncode == 1
    assert b'previous terminated container "c" in pod "shell" not found' in refused.stderr


def test_one_stream_of_a_log(machine: Machine) -> None:
    """The API server's gate for ``stream`` is off by default; the kubelet knows it."""
    machine.run("wait", "--for=jsonpath={.status.phase}=Failed", "--timeout=20s", "pod/mixed")
    path = "/api/v1/nodes/streaming-1/proxy/containerLogs/default/mixed/c?stream="
    assert machine.run("get", "--raw", path + "Stderr").stdout == b"err\n"
    assert machine.run("get", "--raw", path + "Stdout").stdout == b"out\nno newline"


# -- exec --------------------------------------------------------------------------------


@pytest.mark.parametrize(("kubectl", "websocket"), TRANSPORTS)
def test_exec(machine: Machine, kubectl: str, websocket: str) -> None:
    how = {"kubectl": kubectl, "websocket": websocket}
    both = machine.run("exec", "shell", "--", "sh", "-c", "echo o; echo e >&2; exit 7", **how)
    assert (both.returncode, both.stdout) == (7, b"o\n")
    assert both.stderr.splitlines()[0] == b"e"
    assert b"command terminated with exit code 7" in both.stderr
    ended = machine.run("exec", "-i", "shell", "--", "sh", "-c", "cat; echo end", stdin=b"x\n")
    assert (ended.returncode, ended.stdout) == (0, b"x\nend\n")
    missing = machine.run("exec", "shell", "--", "/does/not/exist", **how)
    assert missing.returncode == 1
    assert b"error executing command in container" in missing.stderr


@pytest.mark.parametrize("websocket", ["true", "false"])
def test_exec_carries_every_byte(machine: Machine, websocket: str) -> None:
    data = os.urandom(4 << 20)
    echoed = machine.run("exec", "-i", "shell", "--", "cat", websocket=websocket, stdin=data)
    assert hashlib.sha256(echoed.stdout).digest() == hashlib.sha256(data).digest()


@pytest.mark.parametrize("websocket", ["true", "false"])
def test_exec_in_a_terminal_that_changes_its_size(machine: Machine, websocket: str) -> None:
    terminal = Terminal(machine, websocket, "exec", "-it", "shell", "--", "sh")
    try:
        terminal.resize(101, 37)
        terminal.send("stty size; tty\n")
        terminal.expect(rb"37 101\r\n.*/dev/")
        terminal.resize(80, 25)
        terminal.send("stty size\n")
        terminal.expect(rb"25 80\r\n")
        terminal.send("exit 5\n")
        assert terminal.process.wait(15) == 5
    finally:
        terminal.close()


def test_a_killed_client_ends_its_process(machine: Machine) -> None:
    process = subprocess.Popen(
        [KUBECTLS[0], "exec", "shell", "--", "sh", "-c", "echo $$; exec sleep 1000"],
        env=machine.env("true"), stdout=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    pid = int(process.stdout.readline())
    assert os.path.exists(f"/proc/{pid}")
    process.kill()
    process.wait()
    process.stdout.close()
    deadline = time.monotonic() + 10
    while _alive(pid) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not _alive(pid)


def _alive(pid: int) -> bool:
    try:
        return "(sleep)" in Path(f"/proc/{pid}/stat").read_text().split(" Z ")[0]
    except OSError:
        return False


# -- attach ------------------------------------------------------------------------------


@pytest.mark.parametrize("websocket", ["true", "false"])
def test_attach_to_a_terminal(machine: Machine, websocket: str) -> None:
    terminal = Terminal(machine, websocket, "attach", "-it", "terminal")
    try:
        terminal.send("echo $((6 * 7))\n")
        terminal.expect(rb"\n42\r\n")
    finally:
        terminal.close()


def test_attach_with_stdin_once_ends_the_container(machine: Machine) -> None:
    attached = machine.run("attach", "-i", "cat", stdin=b"one\ntwo\n")
    assert attached.stdout == b"one\ntwo\n"


def test_run_in_the_foreground(machine: Machine) -> None:
    ran = machine.run(
        "run", "once", "--rm", "-i", "--restart=Never", "--image=busybox", "--", "sh", "-c",
        "read word; echo got $word", stdin=b"hello\n",
    )  # fmt: skip
    assert b"got hello" in ran.stdout, ran


# -- cp ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("kubectl", "websocket"), TRANSPORTS)
def test_cp_both_ways(machine: Machine, kubectl: str, websocket: str, tmp_path: Path) -> None:
    how = {"kubectl": kubectl, "websocket": websocket}
    source, back = tmp_path / "source", tmp_path / "back"
    (source / "deep").mkdir(parents=True)
    (source / "data").write_bytes(os.urandom(1 << 20))
    (source / "deep" / "file").write_text("text")
    remote = f"{tmp_path}/remote"
    copied = machine.run("cp", str(source), f"shell:{remote}", **how)
    assert copied.returncode == 0, copied.stderr
    fetched = machine.run("cp", f"shell:{remote}", str(back), **how)
    assert fetched.returncode == 0, fetched.stderr
    assert (back / "data").read_bytes() == (source / "data").read_bytes()
    assert (back / "deep" / "file").read_text() == "text"
    shutil.rmtree(tmp_path)


# -- port-forward ------------------------------------------------------------------------


class Forward:
    def __init__(self, machine: Machine, kubectl: str, websocket: str, port: int) -> None:
        self.process = subprocess.Popen(
            [kubectl, "port-forward", "pod/web", f":{port}"],
            env=machine.env(websocket), stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        match = re.search(rb"127\.0\.0\.1:(\d+) ->", line)
        assert match, line
        self.port = int(match[1])
        self.lines: list[bytes] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        self.lines.extend(self.process.stdout)

    def __enter__(self) -> Forward:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.process.kill()
        self.process.wait()
        self._reader.join()
        assert self.process.stdout is not None
        self.process.stdout.close()


def http(port: int, path: str, body: bytes | None = None) -> bytes:
    import http.client

    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        connection.request("GET" if body is None else "POST", path, body)
        return connection.getresponse().read()
    finally:
        connection.close()


@pytest.mark.parametrize(("kubectl", "websocket"), TRANSPORTS)
def test_port_forward_with_many_connections(machine: Machine, kubectl: str, websocket: str) -> None:
    with Forward(machine, kubectl, websocket, machine.port) as forward:
        with ThreadPoolExecutor(16) as pool:
            paths = [f"/{number}" for number in range(60)]
            bodies = list(pool.map(lambda path: http(forward.port, path), paths))
        assert bodies == [(path.encode() + b".") * 20000 for path in paths]
        data = os.urandom(3 << 20)
        assert http(forward.port, "/", data) == data


@pytest.mark.parametrize("websocket", ["true", "false"])
def test_port_forward_to_a_closed_port(machine: Machine, websocket: str) -> None:
    with Forward(machine, KUBECTLS[0], websocket, free_port()) as forward:
        with socket.create_connection(("127.0.0.1", forward.port), 5) as connection:
            connection.settimeout(10)
            try:
                assert connection.recv(1) == b""
            except ConnectionResetError:
                pass
        forward.process.wait(10)
    assert any(b"connection refused" in line for line in forward.lines)


# -- other clients -----------------------------------------------------------------------


def test_python_client(machine: Machine) -> None:
    """The ``kubernetes`` package: v4.channel.k8s.io over websocket-client."""
    from kubernetes import client, config
    from kubernetes.stream import portforward, stream

    api_client = config.new_client_from_config(str(machine.cluster.kubeconfig))
    try:
        api = client.CoreV1Api(api_client)
        arguments = {"stderr": True, "stdin": False, "stdout": True, "tty": False}
        command = ["sh", "-c", "echo out; echo err >&2"]
        text = stream(
            api.connect_get_namespaced_pod_exec, "shell", "default", command=command, **arguments
        )
        assert sorted(text.split()) == ["err", "out"]
        session = stream(
            api.connect_get_namespaced_pod_exec, "shell", "default",
            command=["sh", "-c", "read x; echo got $x; exit 4"],
            **{**arguments, "stdin": True}, _preload_content=False,
        )  # fmt: skip
        session.write_stdin("word\n")
        session.run_forever(timeout=10)
        assert session.read_stdout() == "got word\n"
        assert session.returncode == 4
        session.close()
        forwarded = portforward(
            api.connect_get_namespaced_pod_portforward, "web", "default", ports=str(machine.port)
        )
        connection = forwarded.socket(machine.port)
        connection.setblocking(True)
        connection.sendall(b"GET /x HTTP/1.0\r\n\r\n")
        answer = b""
        while chunk := connection.recv(65536):
            answer += chunk
        connection.close()
        assert answer.endswith(b"/x." * 20000)
    finally:
        api_client.close()


def test_node_proxy(machine: Machine) -> None:
    base = "/api/v1/nodes/streaming-1/proxy"
    assert machine.run("get", "--raw", f"{base}/healthz").stdout == b"ok"
    summary = json.loads(machine.run("get", "--raw", f"{base}/stats/summary").stdout)
    assert summary["node"]["cpu"]["usageNanoCores"] > 0 and summary["pods"]
    assert all("usageNanoCores" in pod["cpu"] for pod in summary["pods"])
    listing = machine.run("get", "--raw", f"{base}/logs/").stdout
    assert b"default_shell_" in listing


class Terminal:
    """kubectl on a pseudo-terminal."""

    def __init__(self, machine: Machine, websocket: str, *args: str) -> None:
        self.master, slave = pty.openpty()
        self.resize_fd(100, 30)
        self.process = subprocess.Popen(
            [KUBECTLS[0], *args], env=machine.env(websocket), stdin=slave, stdout=slave,
            stderr=slave, start_new_session=True, preexec_fn=self._control,
        )  # fmt: skip
        os.close(slave)
        self.seen = b""
        self.send("\n")
        self.expect(rb"[#$] ")

    @staticmethod
    def _control() -> None:
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)

    def resize_fd(self, width: int, height: int) -> None:
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", height, width, 0, 0))

    def resize(self, width: int, height: int) -> None:
        """kubectl hears of it by SIGWINCH; there is no answer to wait for but the effect."""
        self.resize_fd(width, height)
        for _ in range(100):
            self.seen = b""
            self.send("stty size\n")
            if f"{height} {width}\r\n".encode() in self.expect(rb"\d+ \d+\r\n"):
                self.seen = b""
                return
        raise AssertionError("the new size never arrived")

    def send(self, text: str) -> None:
        os.write(self.master, text.encode())

    def expect(self, pattern: bytes) -> bytes:
        deadline = time.monotonic() + 15
        while not re.search(pattern, self.seen, re.DOTALL):
            ready, _, _ = select.select([self.master], [], [], deadline - time.monotonic())
            assert ready, (pattern, self.seen)
            self.seen += os.read(self.master, 65536)
        return self.seen

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self.master)
