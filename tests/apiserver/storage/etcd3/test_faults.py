"""The etcd store when members die, answers are lost, history is gone."""

from __future__ import annotations

import asyncio
import subprocess
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from pilothouse.apimachinery.clock import RealClock
from pilothouse.apiserver.storage.cacher.cacher import Cacher
from pilothouse.apiserver.storage.errors import (
    Compacted,
    KeyExists,
    OutcomeUnknown,
    RevisionConflict,
    StorageError,
    Unavailable,
)
from pilothouse.apiserver.storage.etcd3 import messages as pb
from pilothouse.apiserver.storage.etcd3.client import Ambiguous, EtcdConfig
from pilothouse.apiserver.storage.etcd3.compact import EtcdCompactor
from pilothouse.apiserver.storage.etcd3.store import EtcdStorage
from pilothouse.apiserver.storage.etcd3.testing import EtcdCluster, find_etcd
from pilothouse.apiserver.storage.testing import RecordingSink, run_update, run_watch_live

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.etcd
OBJECT = b'{"kind":"Pod","metadata":{"name":"%d"}}'


class Writers:
    """Writes until told to stop; keeps what was acknowledged and how long calls took."""

    def __init__(self, storage: EtcdStorage, prefix: str) -> None:
        self.storage = storage
        self.prefix = prefix
        self.acknowledged: dict[str, tuple[bytes, int]] = {}
        self.unknown = 0
        self.longest = 0.0
        self.stopping = False

    async def write(self, worker: int) -> None:
        number = 0
        while not self.stopping:
            number += 1
            key, value = f"{self.prefix}{worker}/{number}", OBJECT % number
            begin = time.monotonic()
            try:
                self.acknowledged[key] = (value, await self.storage.create(key, value))
            except OutcomeUnknown:
                self.unknown += 1
            finally:
                self.longest = max(self.longest, time.monotonic() - begin)

    async def until(self, count: int) -> None:
        async with asyncio.timeout(30):
            while len(self.acknowledged) < count:
                await self.storage.get(self.prefix)


async def test_a_killed_leader_loses_nothing(etcd_tls: EtcdCluster, prefix: str) -> None:
    clock = RealClock()
    storage = EtcdStorage(etcd_tls.config(), clock)
    await storage.start()
    sink = RecordingSink()
    handle = storage.watch(prefix, await storage.current_revision() + 1, sink)
    cacher = Cacher(storage, prefix, clock=clock)
    await cacher.ensure_ready()
    writers = Writers(storage, prefix)
    async with asyncio.TaskGroup() as tasks:
        for worker in range(8):
            tasks.create_task(writers.write(worker))
        await writers.until(200)
        leader = await etcd_tls.leader(clock)
        etcd_tls.kill_member(leader)
        before = len(writers.acknowledged)
        await writers.until(before + 200)
        writers.stopping = True
    etcd_tls.start_member(leader)
    # The deadline of an operation is 3 s; the rest is this machine's.
    assert writers.longest < 4.0
    await cacher.wait_until_fresh(timeout=10.0)
    stored = {kv.key: (kv.value, kv.mod_revision) for kv in (await storage.range(prefix)).kvs}
    for key, wanted in writers.acknowledged.items():
        assert stored[key] == wanted
    entries, _, _ = cacher.list(prefix)
    assert {e.key: e.revision for e in entries} == {k: r for k, (_, r) in stored.items()}
    await sink.until(lambda: len(sink.events) >= len(stored))
    # Neither a gap nor a duplicate: RecordingSink checks the order.
    revisions = [event.revision for event in sink.events]
    assert revisions == sorted({revision for _, revision in stored.values()})
    handle.cancel()
    await cacher.close()
    await storage.close()


def losing_answers(storage: EtcdStorage, method: str, times: int) -> None:
    """The next ``times`` calls take effect, but their answers are lost."""
    call_once: Callable[..., Any] = storage._client.call_once
    left = times

    async def call(name: str, request: Any, timeout: float) -> Any:
        nonlocal left
        answer = await call_once(name, request, timeout)
        if name == method and left:
            left -= 1
            raise Lost
        return answer

    storage._client.call_once = call  # type: ignore[method-assign]


class Lost(Ambiguous):
    def __init__(self) -> None:
        Exception.__init__(self, "lost")


async def test_a_lost_answer_is_found_out(storage: EtcdStorage, prefix: str) -> None:
    key = prefix + "a"
    losing_answers(storage, "txn", 2)
    r1 = await storage.create(key, b"one")
    current = await storage.get(key)
    assert current is not None
    assert (current.value, current.mod_revision) == (b"one", r1)
    losing_answers(storage, "txn", 1)
    r2 = await storage.update(key, b"two", expected=r1)
    current = await storage.get(key)
    assert current is not None
    assert (current.value, current.mod_revision) == (b"two", r2)
    losing_answers(storage, "txn", 1)
    with pytest.raises(RevisionConflict):
        await storage.update(key, b"three", expected=r1)
    losing_answers(storage, "txn", 1)
    with pytest.raises(KeyExists):
        await storage.create(key, b"other")
    losing_answers(storage, "txn", 1)
    with pytest.raises(OutcomeUnknown):
        await storage.delete(key, expected=r2)
    assert await storage.get(key) is None


async def test_a_lost_answer_under_later_writes_is_found_in_the_history(
    storage: EtcdStorage, etcd: EtcdCluster, prefix: str
) -> None:
    other = EtcdStorage(etcd.config(), RealClock())
    await other.start()
    key = prefix + "a"
    r1 = await storage.create(key, b"one")
    call_once = storage._client.call_once

    async def overtaken(name: str, request: Any, timeout: float) -> Any:
        await call_once(name, request, timeout)
        storage._client.call_once = call_once  # type: ignore[method-assign]
        current = await other.get(key)
        assert current is not None
        later = await other.update(key, b"theirs", expected=current.mod_revision)
        await other.update(key, b"theirs too", expected=later)
        raise Lost

    storage._client.call_once = overtaken  # type: ignore[assignment,method-assign]
    r2 = await storage.update(key, b"ours", expected=r1)
    at = await storage.range(prefix, revision=r2)
    assert at.kvs[0].value == b"ours"
    await other.close()


async def test_nobody_answers(prefix: str) -> None:
    config = EtcdConfig(servers=("http://127.0.0.1:1",), start_timeout=0.3)
    with pytest.raises(Unavailable, match="etcd: UNAVAILABLE"):
        await EtcdStorage(config, RealClock()).start()


async def test_a_paused_member_is_left_for_another(etcd_tls: EtcdCluster, prefix: str) -> None:
    clock = RealClock()
    storage = EtcdStorage(etcd_tls.config(), clock)
    await storage.start()
    await storage.create(prefix + "a", b"x")
    follower = (await etcd_tls.leader(clock) + 1) % 3
    etcd_tls.pause_member(follower)
    try:
        for number in range(6):
            await storage.create(f"{prefix}{number}", b"x")
        assert (await storage.range(prefix)).count == 7
    finally:
        etcd_tls.resume_member(follower)
    await storage.close()


async def test_refusals(storage: EtcdStorage, prefix: str, tmp_path: Any) -> None:
    with pytest.raises(StorageError, match="too large"):
        await storage.create(prefix + "a", b"x" * (3 << 20))
    assert await storage.check_health() == ""
    missing = EtcdConfig(servers=("https://127.0.0.1:1",), ca_file=str(tmp_path / "none"))
    with pytest.raises(StorageError, match="No such file"):
        await EtcdStorage(missing, RealClock()).start()


async def test_without_a_client_certificate(etcd_tls: EtcdCluster) -> None:
    config = etcd_tls.config()
    bare = EtcdConfig(servers=config.servers, ca_file=config.ca_file, start_timeout=0.5)
    with pytest.raises(Unavailable):
        await EtcdStorage(bare, RealClock()).start()


async def test_compaction_protocol_of_two_servers(storage: EtcdStorage, prefix: str) -> None:
    client = storage._client
    one, two = EtcdCompactor(client), EtcdCompactor(client)
    await one.step()
    while one._version == 0 or not one._revision:
        await one.step()
    await two.step()
    r1 = await storage.create(prefix + "a", b"1")
    await storage.update(prefix + "a", b"2", expected=r1)
    # Who raises the version compacts what it saw last; the other only learns of it.
    await one.step()
    done = one.compacted
    assert 0 < done < r1
    await two.step()
    assert two._version == one._version
    assert two.compacted == done
    assert (await storage.range(prefix, revision=r1)).kvs[0].value == b"1"
    await two.step()
    assert two.compacted > r1
    with pytest.raises(Compacted):
        await storage.range(prefix, revision=r1)


async def test_leases_are_shared_within_a_window(storage: EtcdStorage, prefix: str) -> None:
    for number in range(3):
        await storage.create(f"{prefix}{number}", b"x", ttl=3600)
    await storage.create(f"{prefix}other", b"x", ttl=7200)
    request = pb.RangeRequest(key=prefix.encode(), range_end=prefix[:-1].encode() + b"0")
    answer = await storage._client.read("range", request)
    leases = [kv.lease for kv in answer.kvs]
    assert len(set(leases[:3])) == 1
    assert 0 not in leases
    assert leases[3] != leases[0]


async def test_two_servers_see_each_others_writes(
    storage: EtcdStorage, etcd: EtcdCluster, prefix: str
) -> None:
    clock = RealClock()
    other = EtcdStorage(etcd.config(), clock)
    await other.start()
    cachers = [Cacher(store, prefix, clock=clock) for store in (storage, other)]
    for cacher in cachers:
        await cacher.ensure_ready()
    for number in range(20):
        writer = (storage, other)[number % 2]
        reader = cachers[1 - number % 2]
        await writer.create(f"{prefix}ns/{number}", OBJECT % number)
        # A consistent read: no sleeping, no store read of the objects themselves.
        await reader.wait_until_fresh()
        assert reader.get(f"{prefix}ns/{number}") is not None
    # Also after a write that has nothing to do with the prefix.
    await storage.create(prefix[:-1] + "0/elsewhere", b"{}")
    await cachers[1].wait_until_fresh()
    for cacher in cachers:
        await cacher.close()
    await other.close()


async def test_an_old_start_is_caught_up_and_goes_on(
    storage: EtcdStorage, etcd: EtcdCluster, prefix: str
) -> None:
    revisions = [await storage.create(f"{prefix}{number}", b"x") for number in range(50)]
    fresh = EtcdStorage(etcd.config(), RealClock())
    await fresh.start()
    sink = RecordingSink()
    # All of this is older than the new store's stream.
    handle = fresh.watch(prefix, revisions[10], sink)
    for number in range(50, 80):
        revisions.append(await storage.create(f"{prefix}{number}", b"x"))
    await sink.until_revision(revisions[-1])
    assert [event.revision for event in sink.events] == revisions[10:]
    handle.cancel()
    await fresh.close()


async def test_user_and_password(tmp_path: Path) -> None:
    binary = find_etcd()
    etcdctl = binary.with_name("etcdctl") if binary is not None else None
    if binary is None or etcdctl is None or not etcdctl.exists():
        pytest.skip("no etcd and etcdctl here")
    cluster = EtcdCluster(tmp_path, binary)
    cluster.start()
    clock = RealClock()
    try:
        storage = EtcdStorage(cluster.config(), clock)
        await storage.start()
        await storage.close()
        for command in ("user add root:secret", "user grant-role root root", "auth enable"):
            await asyncio.to_thread(
                subprocess.run,
                [str(etcdctl), "--endpoints", cluster.urls[0], *command.split()],
                check=True,
                capture_output=True,
                env={"ETCDCTL_API": "3"},
            )
        with pytest.raises(StorageError, match="user name is empty"):
            await EtcdStorage(cluster.config(), clock).start()
        config = replace(cluster.config(), username="root", password="wrong")
        with pytest.raises(StorageError, match="authentication failed"):
            await EtcdStorage(config, clock).start()
        storage = EtcdStorage(replace(config, password="secret"), clock)
        await storage.start()
        await run_watch_live(storage, "/registry/a/")
        # A token that the server has forgotten is replaced on the way.
        cluster.kill_member(0)
        cluster.start_member(0)
        await run_update(storage, "/registry/b/")
        await run_watch_live(storage, "/registry/c/")
        await storage.close()
    finally:
        cluster.stop()
