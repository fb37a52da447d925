"""memory, sqlite and the cacher do what a simple model does, step by step."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from pilothouse.apimachinery.errors import StatusError
from pilothouse.apimachinery.testing import FakeClock
from pilothouse.apiserver.storage.cacher.cacher import Cacher
from pilothouse.apiserver.storage.errors import Compacted, KeyExists, RevisionConflict
from pilothouse.apiserver.storage.interfaces import KeyValue
from pilothouse.apiserver.storage.memory import MemoryStorage
from pilothouse.apiserver.storage.sqlite import SQLiteStorage
from pilothouse.apiserver.storage.testing import RecordingSink

PREFIX = "/registry/things/"
keys = st.sampled_from([PREFIX + name for name in ("a/1", "a/2", "a.b/1", "b/1", "c")])
prefixes = st.sampled_from([PREFIX, PREFIX + "a/", PREFIX + "b/"])


class Model(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.directory = tempfile.TemporaryDirectory()
        self.clock = FakeClock()
        path = Path(self.directory.name) / "state.db"
        self.memory = MemoryStorage(self.clock)
        self.sqlite = SQLiteStorage(path, self.clock)
        self.stores: list[MemoryStorage | SQLiteStorage] = [self.memory, self.sqlite]
        self.cachers: list[Cacher] = []
        self.sinks: list[RecordingSink] = []
        self.run(self.open())
        self.states: list[dict[str, KeyValue]] = [{}, {}]
        """State by revision."""
        self.compacted = 0
        self.number = 0

    def run(self, coroutine: Any) -> Any:
        return self.loop.run_until_complete(coroutine)

    async def open(self) -> None:
        for store in self.stores:
            await store.start()
            cacher = Cacher(store, PREFIX, clock=self.clock)
            await cacher.ensure_ready()
            self.cachers.append(cacher)
            sink = RecordingSink()
            store.watch(PREFIX, 1, sink)
            self.sinks.append(sink)

    @property
    def revision(self) -> int:
        return len(self.states) - 1

    @property
    def state(self) -> dict[str, KeyValue]:
        return self.states[-1]

    def value(self) -> bytes:
        self.number += 1
        return b'{"kind":"Thing","metadata":{"name":"%d"}}' % self.number

    def write(self, attempt: Any, key: str, value: bytes | None, error: type | None) -> None:
        """Does ``attempt`` on every store and compares with what the model expects."""
        for store in self.stores:
            try:
                revision = self.run(attempt(store))
            except (KeyExists, RevisionConflict) as raised:
                assert type(raised) is error
                assert raised.current == self.state.get(key)
            else:
                assert error is None
                assert revision == self.revision + 1
        if error is None:
            state = dict(self.state)
            if value is None:
                del state[key]
            else:
                state[key] = KeyValue(key, value, self.revision + 1)
            self.states.append(state)

    @rule(key=keys, ttl=st.sampled_from([0, 0, 30]))
    def create(self, key: str, ttl: int) -> None:
        value = self.value()
        error = KeyExists if key in self.state else None
        self.write(lambda store: store.create(key, value, ttl=ttl), key, value, error)
        if ttl and error is None:
            self.deadlines[key] = (self.clock.time() + ttl, self.revision)

    @property
    def deadlines(self) -> dict[str, tuple[float, int]]:
        return self.__dict__.setdefault("_deadlines", {})  # type: ignore[no-any-return]

    @rule(key=keys, stale=st.booleans())
    def update(self, key: str, stale: bool) -> None:
        value = self.value()
        current = self.state.get(key)
        expected = current.mod_revision if current and not stale else self.revision + 7
        error = None if current and not stale else RevisionConflict
        self.write(lambda store: store.update(key, value, expected=expected), key, value, error)

    @rule(key=keys, stale=st.booleans())
    def delete(self, key: str, stale: bool) -> None:
        current = self.state.get(key)
        expected = current.mod_revision if current and not stale else self.revision + 7
        error = None if current and not stale else RevisionConflict
        self.write(lambda store: store.delete(key, expected=expected), key, None, error)

    @rule(seconds=st.integers(1, 40))
    def pass_time(self, seconds: int) -> None:
        self.run(self.clock.advance_through(float(seconds)))
        now = self.clock.time()
        for key, (deadline, revision) in sorted(
            self.deadlines.items(), key=lambda due: (due[1][0], due[0])
        ):
            current = self.state.get(key)
            if deadline > now:
                continue
            del self.deadlines[key]
            if current is not None and current.mod_revision == revision:
                self.states.append({k: v for k, v in self.state.items() if k != key})

    @rule(data=st.data(), prefix=prefixes, limit=st.integers(0, 3), from_key=keys | st.just(""))
    def list_at(self, data: st.DataObject, prefix: str, limit: int, from_key: str) -> None:
        revision = data.draw(st.integers(1, self.revision))
        inside = [kv for key, kv in sorted(self.states[revision].items()) if key.startswith(prefix)]
        wanted = [kv for kv in inside if kv.key >= from_key]
        page = wanted[:limit] if limit else wanted
        for store, cacher in zip(self.stores, self.cachers, strict=True):
            try:
                result = self.run(
                    store.range(prefix, start=from_key, limit=limit, revision=revision)
                )
            except Compacted:
                assert revision < self.compacted
                with pytest.raises(StatusError) as caught:
                    self.run(cacher.list_exact(prefix, revision, start=from_key, limit=limit))
                assert caught.value.code == 410
                continue
            else:
                assert result == (page, revision, len(page) < len(wanted), len(inside))
            entries, more, remaining = self.run(
                cacher.list_exact(prefix, revision, start=from_key, limit=limit)
            )
            assert [(e.key, e.revision) for e in entries] == [(e.key, e.mod_revision) for e in page]
            assert (more, remaining) == (len(page) < len(wanted), len(wanted) - len(page))

    @rule(data=st.data(), prefix=prefixes)
    def watch_from(self, data: st.DataObject, prefix: str) -> None:
        revision = data.draw(st.integers(1, self.revision))
        for cacher in self.cachers:
            copy = {
                key: kv.mod_revision
                for key, kv in self.states[revision].items()
                if key.startswith(prefix)
            }
            watcher = cacher.watch(prefix, from_revision=revision)
            for event in watcher.take():
                key = event.entry.key
                if event.type == "DELETED":
                    del copy[key]
                else:
                    assert (event.type == "ADDED") == (key not in copy)
                    copy[key] = event.revision
            watcher.close()
            assert copy == {
                k: kv.mod_revision for k, kv in self.state.items() if k.startswith(prefix)
            }

    @rule(data=st.data())
    def compact(self, data: st.DataObject) -> None:
        revision = data.draw(st.integers(1, self.revision))
        for store in self.stores:
            self.run(store.compact(revision))
        self.compacted = max(self.compacted, revision)

    @rule()
    @precondition(lambda self: self.revision > 1)
    def fork(self) -> None:
        child = self.memory.fork(FakeClock())
        before = self.revision
        kvs = self.run(child.range(PREFIX)).kvs
        assert kvs == [kv for _, kv in sorted(self.state.items())]
        self.run(child.create(PREFIX + "only-in-the-child", b"{}"))
        assert self.run(self.memory.current_revision()) == before

    @invariant()
    def same_everywhere(self) -> None:
        wanted = [kv for _, kv in sorted(self.state.items())]
        for store, cacher, sink in zip(self.stores, self.cachers, self.sinks, strict=True):
            assert store.revision == cacher.revision == self.revision
            assert self.run(store.range(PREFIX)).kvs == wanted
            entries, _, _ = cacher.list(PREFIX)
            assert [(e.key, e.revision) for e in entries] == [
                (e.key, e.mod_revision) for e in wanted
            ]
            for entry in entries:
                assert orjson.loads(entry.data)["metadata"]["resourceVersion"] == str(
                    entry.revision
                )
            assert [event.revision for event in sink.events] == list(range(2, self.revision + 1))
        assert self.sinks[0].events == self.sinks[1].events

    def teardown(self) -> None:
        async def close() -> None:
            for cacher in self.cachers:
                await cacher.close()
            for store in self.stores:
                await store.close()

        self.run(close())
        self.loop.close()
        self.directory.cleanup()


Model.TestCase.settings = settings(
    max_examples=25,
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
TestModel = Model.TestCase
