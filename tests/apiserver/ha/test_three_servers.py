"""Three ``pilothouse apiserver`` processes on a three-member etcd, as one control plane.

The processes are real; each listens on loopback and advertises an address of its own, so that
the endpoints of the Service ``kubernetes`` can be told apart.
"""

from __future__ import annotations

import asyncio
import itertools
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from pilothouse.apiserver.storage.etcd3.testing import EtcdCluster, find_etcd

pytestmark = [pytest.mark.etcd, pytest.mark.asyncio(loop_scope="module")]

CONFIG_MAPS = "/api/v1/namespaces/default/configmaps"
SERVICES = "/api/v1/namespaces/default/services"
TOKEN = {"Authorization": "Bearer secret"}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Member:
    """One API server process."""

    def __init__(self, number: int, directory: Path, etcd: str) -> None:
        self.port = free_port()
        self.address = f"10.77.0.{number + 1}"
        self.log = directory / f"apiserver-{number}.log"
        tokens = directory / "tokens.csv"
        tokens.write_text('secret,admin,u1,"system:masters"\n')
        flags = {
            "secure-port": self.port,
            "bind-address": "127.0.0.1",
            "advertise-address": self.address,
            "etcd-servers": etcd,
            "token-auth-file": tokens,
            "service-cluster-ip-range": "10.96.0.0/24",
            "service-node-port-range": "30000-30199",
        }
        command = [str(Path(sys.executable).with_name("pilothouse")), "apiserver"]
        command += [f"--{name}={value}" for name, value in flags.items()]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log)
        self.http: aiohttp.ClientSession | None = None

    async def connect(self) -> None:
        self.http = aiohttp.ClientSession(f"http://127.0.0.1:{self.port}", headers=TOKEN)
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            try:
                async with self.http.get("/readyz") as response:
                    if response.status == 200:
                        return
            except aiohttp.ClientError:
                pass
            if self.process.poll() is not None:
                break
            await asyncio.sleep(0.05)
        raise AssertionError(f"not ready: {self.log.read_text()[-3000:]}")

    async def call(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        assert self.http is not None
        async with self.http.request(method, path, json=body) as response:
            return response.status, await response.json(content_type=None)


@pytest.fixture(scope="module")
def etcd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EtcdCluster]:
    binary = find_etcd()
    if binary is None:
        pytest.skip("no etcd binary here")
    cluster = EtcdCluster(tmp_path_factory.mktemp("etcd"), binary, members=3)
    cluster.start()
    yield cluster
    cluster.stop()


@pytest.fixture(scope="module")
async def members(
    etcd: EtcdCluster, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[list[Member]]:
    """Started at once: all of them write the bootstrap objects."""
    directory = tmp_path_factory.mktemp("servers")
    started = [Member(n, directory, ",".join(etcd.urls)) for n in range(3)]
    try:
        await asyncio.gather(*(member.connect() for member in started))
        yield started
    finally:
        for member in started:
            if member.http is not None:
                await member.http.close()
            if member.process.poll() is None:
                member.process.send_signal(signal.SIGTERM)
        for member in started:
            member.process.wait(timeout=20)


async def test_bootstrap_is_raced_without_harm(members: list[Member]) -> None:
    for member in members:
        text = member.log.read_text()
        assert "Traceback" not in text and "crashed" not in text, text[-3000:]
        _, namespaces = await member.call("GET", "/api/v1/namespaces")
        names = {item["metadata"]["name"] for item in namespaces["items"]}
        assert names == {"default", "kube-system", "kube-public", "kube-node-lease"}
    _, endpoints = await members[0].call("GET", "/api/v1/namespaces/default/endpoints/kubernetes")
    found = {address["ip"] for address in endpoints["subsets"][0]["addresses"]}
    assert members[-1].address in found or len(found) >= 1
    path = "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases"
    _, leases = await members[1].call("GET", path)
    holders = [lease["metadata"]["name"] for lease in leases["items"]]
    assert len([name for name in holders if name.startswith("apiserver-")]) == 3


async def test_a_write_through_one_is_seen_through_all(members: list[Member]) -> None:
    for number in range(20):
        writer, reader, lister = (members[(number + i) % 3] for i in range(3))
        body = {"metadata": {"name": f"seen-{number}"}}
        status, made = await writer.call("POST", CONFIG_MAPS, body)
        assert status == 201
        status, read = await reader.call("GET", f"{CONFIG_MAPS}/seen-{number}")
        assert (status, read) == (200, made)
        _, listed = await lister.call("GET", CONFIG_MAPS)
        names = {item["metadata"]["name"] for item in listed["items"]}
        assert f"seen-{number}" in names
        version = int(listed["metadata"]["resourceVersion"])
        assert version >= int(made["metadata"]["resourceVersion"])


async def test_addresses_and_ports_do_not_collide(members: list[Member]) -> None:
    """A small range and many at once: without a common guard dozens collide."""

    async def create(number: int) -> Any:
        body = {
            "metadata": {"name": f"service-{number}"},
            "spec": {"type": "NodePort", "ports": [{"port": 80}]},
        }
        status, made = await members[number % 3].call("POST", SERVICES, body)
        assert status in (201, 409), made
        return made if status == 201 else None

    made = [s for s in await asyncio.gather(*map(create, range(120))) if s]
    assert len(made) > 100
    addresses = [service["spec"]["clusterIP"] for service in made]
    ports = [service["spec"]["ports"][0]["nodePort"] for service in made]
    assert len(set(addresses)) == len(made)
    assert len(set(ports)) == len(made)
    _, claims = await members[0].call("GET", "/apis/networking.k8s.io/v1/ipaddresses")
    assert set(addresses) <= {claim["metadata"]["name"] for claim in claims["items"]}
    # What one server frees another may give away.
    status, _ = await members[0].call("DELETE", f"{SERVICES}/{made[0]['metadata']['name']}")
    assert status == 200
    body = {
        "metadata": {"name": "again"},
        "spec": {"clusterIP": addresses[0], "ports": [{"port": 80}]},
    }
    deadline = time.monotonic() + 5
    while True:
        status, answer = await members[1].call("POST", SERVICES, body)
        if status == 201 or time.monotonic() > deadline:
            break
        await asyncio.sleep(0.02)  # until the event is there
    assert status == 201, answer
    body["metadata"] = {"name": "twice"}
    status, answer = await members[2].call("POST", SERVICES, body)
    assert status == 422 and "already allocated" in answer["message"]


async def test_one_is_killed_under_load(members: list[Member]) -> None:
    """Every acknowledged write is there afterwards; every read succeeds at the next server."""
    acknowledged: set[str] = set()
    stop = asyncio.Event()
    failed_reads: list[str] = []

    async def anywhere(
        start: int, method: str, path: str, body: Any = None
    ) -> tuple[int, Any] | None:
        for turn in range(6):
            try:
                return await members[(start + turn) % 3].call(method, path, body)
            except (aiohttp.ClientError, OSError):
                continue
        return None

    async def write(worker: int) -> None:
        for number in itertools.count():
            if stop.is_set():
                return
            name = f"load-{worker}-{number}"
            answer = await anywhere(worker, "POST", CONFIG_MAPS, {"metadata": {"name": name}})
            # 409: the first try got through before its server died.
            if answer is not None and answer[0] in (201, 409):
                acknowledged.add(name)

    async def read(worker: int) -> None:
        while not stop.is_set():
            name = next(iter(acknowledged), "seen-0")
            answer = await anywhere(worker, "GET", f"{CONFIG_MAPS}/{name}")
            if answer is None or answer[0] != 200:
                failed_reads.append(f"{name}: {answer}")

    workers = [asyncio.create_task(job(n)) for n in range(6) for job in (write, read)]
    while len(acknowledged) < 60:  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    victim = members[2]
    victim.process.kill()
    before = len(acknowledged)
    while len(acknowledged) < before + 60:  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    stop.set()
    await asyncio.gather(*workers)
    victim.process.wait()
    assert not failed_reads
    for member in members[:2]:
        _, listed = await member.call("GET", CONFIG_MAPS)
        names = {item["metadata"]["name"] for item in listed["items"]}
        assert acknowledged <= names


async def test_who_stops_leaves_the_endpoints(members: list[Member]) -> None:
    leaving, staying = members[1], members[0]
    leaving.process.send_signal(signal.SIGTERM)
    await asyncio.to_thread(leaving.process.wait, 20)
    assert leaving.process.returncode == 0
    assert "Traceback" not in leaving.log.read_text()
    path = "/api/v1/namespaces/default/endpoints/kubernetes"
    _, endpoints = await staying.call("GET", path)
    found = {address["ip"] for address in endpoints["subsets"][0]["addresses"]}
    assert leaving.address not in found and staying.address in found
    path = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices/kubernetes"
    _, slices = await staying.call("GET", path)
    assert {a for e in slices["endpoints"] for a in e["addresses"]} == found
