"""The paths of the kubelet's API, over the fake runtime."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from random import Random
from typing import Any

import pytest

from pilothouse.apimachinery.testing import FakeClock
from pilothouse.kubelet import terminations
from pilothouse.kubelet.config import KubeletConfig
from pilothouse.kubelet.pod_cache import UID_LABEL, PodCache
from pilothouse.kubelet.runtime.fake import FakeRuntime
from pilothouse.kubelet.runtime.interfaces import ContainerConfig, PodSandboxConfig
from pilothouse.kubelet.server.handler import KubeletServer
from pilothouse.kubelet.server.interfaces import Response
from pilothouse.kubelet.server.spdy_frames import RstStream, SynReply
from pilothouse.kubelet.user_namespaces import UserNamespaces

from .conftest import Pair, SpdyClient, WebSocketClient

SPDY = {"connection": "Upgrade", "upgrade": "SPDY/3.1"}
STREAMS = "input=1&output=1&error=1"


class Host:
    """A kubelet with pod ``default/p``: container ``c`` runs, ``d`` has not been started."""

    def __init__(self, root: Path) -> None:
        self.config = KubeletConfig(node_name="n", root_dir=str(root))
        self.clock = FakeClock()
        self.runtime = FakeRuntime(self.clock, Random(1))
        self.cache = PodCache(self.runtime)
        self.problem: str | None = None
        self.terminations = terminations.counter()
        self.user_namespaces = UserNamespaces(str(root))
        self.pod: dict[str, Any] = {
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": "p", "namespace": "default", "uid": "u"},
            "spec": {"containers": [{"name": "c", "tty": True}, {"name": "d"}]},
        }  # fmt: skip
        self.sandbox = self.container = ""

    async def start(self) -> None:
        annotations = {"fake.pilothouse.dev/exec-output": "out"}
        sandbox = PodSandboxConfig("p", "default", "u", 0, "p", "/none", annotations=annotations)
        self.sandbox = await self.runtime.run_pod_sandbox(sandbox)
        image = await self.runtime.pull_image("busybox", None)
        config = ContainerConfig("c", 0, image, log_path="c/0.log", labels={UID_LABEL: "u"})
        self.container = await self.runtime.create_container(self.sandbox, config)
        await self.runtime.start_container(self.container)
        await self.cache.relist()
        self.pod["status"] = {
            "startTime": "2026-11-23T11:00:00Z",
            "containerStatuses": [
                {"name": "c", "state": {"running": {}}, "containerID": f"fake://{self.container}"},
                {"name": "d", "state": {"waiting": {"reason": "ContainerCreating"}}},
            ],
        }

    def find_pod(self, namespace: str, name: str) -> dict[str, Any] | None:
        return self.pod if (namespace, name) == ("default", "p") else None

    def pods(self) -> list[dict[str, Any]]:
        return [self.pod]

    def health(self) -> str | None:
        return self.problem


@pytest.fixture
async def host(tmp_path: Path) -> Host:
    made = Host(tmp_path)
    await made.start()
    return made


async def get(host: Host, path: str, query: str = "", method: str = "GET") -> Response:
    return await KubeletServer(host).request(method, path, query, {}, b"")


async def body(response: Response) -> str:
    chunks = [chunk async for chunk in response.chunks] if response.chunks is not None else []
    return (response.body + b"".join(chunks)).decode()


# -- plain requests ----------------------------------------------------------------------


async def test_healthz(host: Host) -> None:
    assert (await get(host, "/healthz")).body == b"ok"
    host.problem = "container runtime is down"
    sick = await get(host, "/healthz")
    assert sick.status == 500 and b"container runtime is down" in sick.body


async def test_pods(host: Host) -> None:
    for path in ("/pods", "/pods/", "/runningpods/"):
        listed = json.loads((await get(host, path)).body)
        assert listed["kind"] == "PodList"
        assert [item["metadata"]["name"] for item in listed["items"]] == ["p"]
        assert "kind" not in listed["items"][0]
    host.runtime.finish_container(host.container, 0)
    await host.cache.relist()
    assert json.loads((await get(host, "/runningpods/")).body)["items"] == []


async def test_logs(host: Host, tmp_path: Path) -> None:
    empty = await get(host, "/containerLogs/default/p/c")
    assert (empty.status, await body(empty)) == (200, "")


@pytest.mark.parametrize(
    ("path", "query", "status", "text"),
    [
        ("default/q/c", "", 404, 'pod "q" does not exist'),
        ("default/p/x", "", 404, 'container "x" not found in pod "p"'),
        ("default/p/d", "", 400, 'container "d" in pod "p" is waiting to start: ContainerCreating'),
        ("default/p/c", "previous=true", 400,
         'previous terminated container "c" in pod "p" not found'),
        ("default/p/c", "tailLines=-1", 422, '{"message": "Invalid request."}'),
    ],
)  # fmt: skip
async def test_refused_logs(host: Host, path: str, query: str, status: int, text: str) -> None:
    refused = await get(host, f"/containerLogs/{path}", query)
    assert (refused.status, refused.body.decode()) == (status, text)


@pytest.mark.parametrize(
    ("path", "query", "code", "text"),
    [
        ("default/p/c", "", 500, "checkpointing of default/p/c failed (rpc error: code = Unimpl"),
        ("default/p/c", "timeout=soon", 404, "cannot parse value of timeout parameter"),
        ("default/p/nope", "", 404, "container nope does not exist"),
        ("default/nope/c", "", 404, "pod does not exist"),
    ],
)
async def test_checkpoints_are_refused(
    host: Host, path: str, query: str, code: int, text: str
) -> None:
    answer = await get(host, f"/checkpoint/{path}", query, method="POST")
    assert answer.status == code
    assert text in answer.body.decode()


async def test_run(host: Host) -> None:
    for path in ("/run/default/p/c", "/run/default/p/u/c"):
        assert (await get(host, path, "cmd=ls+-l", "POST")).body == b"out"
    missing = await get(host, "/run/default/p/d", "cmd=ls", "POST")
    assert (missing.status, missing.body) == (500, b'container not found ("d")')
    assert (await get(host, "/run/default/p/other-uid/c", "cmd=ls", "POST")).status == 404
    assert (await get(host, "/run/default/p/c", "cmd=ls")).status == 404


async def test_stats_and_metrics(host: Host) -> None:
    summary = json.loads((await get(host, "/stats/summary")).body)
    assert summary["node"]["nodeName"] == "n"
    assert summary["node"]["memory"]["workingSetBytes"] == 0  # no processes: of its pods only
    (pod,) = summary["pods"]
    assert pod["podRef"] == {"name": "p", "namespace": "default", "uid": "u"}
    assert [container["name"] for container in pod["containers"]] == ["c"]
    assert pod["startTime"] == "2026-11-23T11:00:00Z"
    small = json.loads((await get(host, "/stats/summary", "only_cpu_and_memory=true")).body)
    assert "fs" not in small["node"] and "ephemeral-storage" not in small["pods"][0]
    own = (await get(host, "/metrics")).body.decode()
    assert 'kubelet_node_name{node="n"} 1\n' in own
    assert "kubelet_running_pods 1\n" in own
    assert "# TYPE kubelet_terminated_containers_total counter\n" in own
    assert 'kubelet_running_containers{container_state="running"} 1\n' in own
    assert "# TYPE process_resident_memory_bytes gauge\n" in own
    assert "[BETA] A metric with a constant '1' value" in own
    assert (await get(host, "/metrics/probes")).status == 200
    resource = await get(host, "/metrics/resource")
    labels = 'container="c",pod="p",namespace="default"'
    assert f"container_memory_working_set_bytes{{{labels}}} 0\n".encode() in resource.body
    assert b"resource_scrape_error 0\n" in resource.body
    assert b"# TYPE pod_memory_working_set_bytes gauge\n" in resource.body
    assert resource.content_type.startswith("text/plain; version=0.0.4")
    cadvisor = (await get(host, "/metrics/cadvisor")).body.decode()
    assert f'cpu="total",id="/{host.container}"' in cadvisor
    assert "machine_memory_bytes" in cadvisor


async def test_containers_without_processes_use_what_annotations_say(host: Host) -> None:
    prefix = "fake.pilothouse.dev"
    host.pod["metadata"]["annotations"] = {
        f"{prefix}/cpu-usage": "250m",
        f"{prefix}/c.memory-usage": "1Mi",
        f"{prefix}/memory-usage": "9Mi",
    }
    host.clock.advance(4)
    summary = json.loads((await get(host, "/stats/summary")).body)
    (container,) = summary["pods"][0]["containers"]
    for stats in (container, summary["pods"][0], summary["node"]):
        assert stats["cpu"]["usageNanoCores"] == 250_000_000
        assert stats["cpu"]["usageCoreNanoSeconds"] == 10**9
        assert stats["memory"]["workingSetBytes"] == 1 << 20
        assert stats["memory"]["rssBytes"] == 1 << 20
    host.pod["metadata"]["annotations"] = {f"{prefix}/cpu-usage": "a lot"}
    summary = json.loads((await get(host, "/stats/summary")).body)
    assert summary["pods"][0]["cpu"]["usageNanoCores"] == 0


async def test_a_container_whose_numbers_cannot_be_read(host: Host) -> None:
    await host.runtime.remove_container(host.container)  # the cache does not know yet
    assert json.loads((await get(host, "/stats/summary")).body)["pods"] == []
    assert b"resource_scrape_error 1\n" in (await get(host, "/metrics/resource")).body


async def test_configz(host: Host) -> None:
    settings = json.loads((await get(host, "/configz")).body)["kubeletconfig"]
    assert settings["maxPods"] == 110


async def test_node_logs(host: Host, tmp_path: Path) -> None:
    assert (await get(host, "/logs/")).body.count(b"<a ") == 0
    directory = tmp_path / "logs" / "default_p_u"
    directory.mkdir(parents=True)
    (directory / "0.log").write_text("line\n")
    (tmp_path / "secret").write_text("no")
    (directory / "link").symlink_to(tmp_path / "secret")
    assert b'<a href="default_p_u/">default_p_u/</a>' in (await get(host, "/logs/")).body
    moved = await get(host, "/logs/default_p_u")
    assert (moved.status, moved.headers) == (301, [("Location", "default_p_u/")])
    assert b"0.log" in (await get(host, "/logs/default_p_u/")).body
    assert (await get(host, "/logs/default_p_u/0.log")).body == b"line\n"
    for path in ("missing", "../secret", "default_p_u/../../secret", "default_p_u/link", "a\0b"):
        assert (await get(host, f"/logs/{path}")).status == 404, path


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/", 404),
        ("GET", "/nothing", 404),
        ("GET", "/containerLogs/default/p", 404),
        ("POST", "/pods", 405),
        ("DELETE", "/containerLogs/default/p/c", 405),
        ("POST", "/exec/default/p/c", 400),
        ("GET", "/portForward/default/p", 400),
    ],
)
async def test_other_paths(host: Host, method: str, path: str, status: int) -> None:
    assert (await get(host, path, method=method)).status == status


# -- upgrades ----------------------------------------------------------------------------


async def upgrade(
    host: Host, pair: Pair, path: str, query: str, headers: dict[str, str], method: str = "POST"
) -> tuple[Any, asyncio.Task[None]]:
    ours, theirs = await pair()
    task = asyncio.create_task(KubeletServer(host).upgrade(method, path, query, headers, *ours))
    return theirs, task


@pytest.mark.parametrize("path", ["/exec/default/p/c", "/exec/default/p/u/c"])
async def test_exec(host: Host, pair: Pair, path: str) -> None:
    headers = WebSocketClient.headers("v5.channel.k8s.io")
    theirs, task = await upgrade(host, pair, path, f"{STREAMS}&command=ls", headers, "GET")
    client = WebSocketClient(theirs)
    assert "101 Switching" in await client.head()
    await client.rest()
    await task
    assert client.data(1) == b"out"
    assert json.loads(client.data(3))["status"] == "Success"


async def test_attach_has_the_containers_terminal(host: Host, pair: Pair) -> None:
    attached = asyncio.Event()
    attach = host.runtime.attach

    async def watched(*args: Any, **streams: bool) -> Any:
        assert streams == {"tty": True, "stdin": True, "stdout": True, "stderr": False}
        stream = await attach(*args, **streams)
        attached.set()
        return stream

    host.runtime.attach = watched  # type: ignore[method-assign]
    headers = WebSocketClient.headers("v5.channel.k8s.io")
    theirs, task = await upgrade(host, pair, "/attach/default/p/c", STREAMS, headers, "GET")
    client = WebSocketClient(theirs)
    await client.head()
    await attached.wait()
    host.runtime.finish_container(host.container, 0)
    await client.rest()
    await task
    assert json.loads(client.data(3))["status"] == "Success"


@pytest.mark.parametrize("path", ["/portForward/default/p", "/portForward/default/p/u"])
async def test_port_forward(host: Host, pair: Pair, path: str) -> None:
    headers = SPDY | {"x-stream-protocol-version": "portforward.k8s.io"}
    theirs, task = await upgrade(host, pair, path, "", headers)
    client = SpdyClient(theirs)
    await client.head()
    error = client.open(streamType="error", port="80", requestID="1")
    data = client.open(streamType="data", port="80", requestID="1")
    await client.until(lambda: client.finished(error))
    assert client.frames[:2] == [SynReply(error), SynReply(data)]
    assert b"error forwarding port 80 to pod " + host.sandbox.encode() in client.data(error)
    await client.until(lambda: RstStream(data, 5) in client.frames)
    client.writer.close()
    await task


@pytest.mark.parametrize(
    ("path", "query", "headers", "status", "text"),
    [
        ("/exec/default/p/c", "command=ls", SPDY, 400, "at least 1 of stdin, stdout, stderr"),
        ("/exec/default/q/c", STREAMS, SPDY, 404, "pod does not exist"),
        ("/exec/default/p/other/c", STREAMS, SPDY, 404, "pod not found"),
        ("/exec/default/p/d", STREAMS, SPDY, 500, 'container not found ("d")'),
        ("/exec/default/p/c", STREAMS, SPDY, 400, "you must specify a command"),
        ("/exec/default/p/c", f"{STREAMS}&command=x", SPDY, 400, "X-Stream-Protocol-Version"),
        ("/attach/default/p/d", STREAMS, SPDY, 500, "container d not found in pod p_default"),
        ("/portForward/default/q", "", SPDY, 404, "pod does not exist"),
        ("/portForward/default/p", "", WebSocketClient.headers("v4.channel.k8s.io"), 400,
         'query parameter "port" is required'),
        ("/exec/default/p/c", f"{STREAMS}&command=x", WebSocketClient.headers("chat"), 403,
         "requested protocol(s) are not supported: [chat]"),
        ("/nothing", "", SPDY, 404, "Page Not Found"),
        ("/healthz", "", SPDY, 405, "Method Not Allowed"),
    ],
)  # fmt: skip
async def test_refused_upgrades(
    host: Host, pair: Pair, path: str, query: str, headers: dict[str, str], status: int, text: str
) -> None:
    (reader, _), task = await upgrade(host, pair, path, query, headers)
    answer = (await reader.read()).decode()
    await task
    head, _, said = answer.partition("\r\n\r\n")
    assert head.startswith(f"HTTP/1.1 {status} ")
    assert text in said
    assert f"Content-Length: {len(said)}" in head


async def test_an_upgrade_that_nobody_needs(host: Host, pair: Pair) -> None:
    (reader, _), task = await upgrade(host, pair, "/healthz", "", SPDY, "GET")
    assert (await reader.read()).endswith(b"\r\n\r\nok")
    await task


async def test_port_forward_to_a_pod_that_has_ended(host: Host, pair: Pair) -> None:
    await host.runtime.stop_pod_sandbox(host.sandbox)
    await host.cache.relist()
    (reader, _), task = await upgrade(host, pair, "/portForward/default/p", "", SPDY)
    assert b'pod not found ("p_default")' in await reader.read()
    await task
