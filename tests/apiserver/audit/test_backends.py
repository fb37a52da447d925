"""Files that rotate, batches that wait, events that are too big, a webhook that fails."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from aiohttp import web

from pilothouse.apimachinery.testing import FakeClock
from pilothouse.apiserver.audit.backends import LogBackend, RotatingFile, Truncating
from pilothouse.apiserver.audit.batching import BatchBackend, BatchLimits
from pilothouse.apiserver.audit.webhook import WebhookDelivery
from pilothouse.componentbase.tasks import TaskOwner
from pilothouse.kubeclient.kubeconfig import ClientConfig

Event = dict[str, Any]


class Failures:
    def __init__(self) -> None:
        self.lost: list[tuple[str, int]] = []

    def __call__(self, plugin: str, error: BaseException, count: int) -> None:
        self.lost.append((plugin, count))


class Kept:
    name = "kept"

    def __init__(self) -> None:
        self.batches: list[list[Event]] = []
        self.arrived = asyncio.Event()

    async def deliver(self, events: Sequence[Event]) -> bool:
        self.batches.append(list(events))
        self.arrived.set()
        return True

    async def close(self) -> None:
        return None


def test_files_rotate_and_old_ones_go(tmp_path: Path) -> None:
    clock = FakeClock()
    path = tmp_path / "logs" / "audit.log"
    out = RotatingFile(path, clock, max_size=1, max_backups=2, max_age=0, compress=True)
    others = path.parent / "audit-notes.log"
    others.write_text("mine")
    line = b"x" * 600_000 + b"\n"
    for _ in range(5):
        out.write(line)
        clock.advance(1)
    out.close()
    assert path.stat().st_size == len(line) and path.stat().st_mode & 0o777 == 0o600
    backups = sorted(path.parent.glob("audit-*.log.gz"))
    assert len(backups) == 2
    assert {backup.stat().st_mode & 0o777 for backup in backups} == {0o600}
    assert others.read_text() == "mine"
    assert gzip.decompress(backups[0].read_bytes()) == line


def test_a_full_disk_is_reported() -> None:
    class Full:
        def write(self, data: bytes) -> None:
            raise OSError("no space left on device")

        def close(self) -> None:
            return None

    failures = Failures()
    backend = LogBackend(Full(), "json", failures)  # type: ignore[arg-type]
    assert not backend.process([{"level": "Metadata"}])
    assert failures.lost == [("log", 1)]


async def test_batches_go_when_full_or_old() -> None:
    clock, tasks, kept, failures = FakeClock(), TaskOwner("t"), Kept(), Failures()
    backend = BatchBackend(kept, BatchLimits(5, 2, 30.0), clock, tasks, failures)
    backend.process([{"n": 1}])
    assert not kept.batches
    backend.process([{"n": 2}])
    await kept.arrived.wait()
    assert kept.batches == [[{"n": 1}, {"n": 2}]]
    kept.arrived.clear()
    backend.process([{"n": 3}])
    clock.advance(30)
    await kept.arrived.wait()
    assert kept.batches[1:] == [[{"n": 3}]]
    backend.process([{"n": n} for n in range(9)])
    assert failures.lost == [("buffered", 4)]
    backend.process([])
    await backend.close()
    assert sum(len(b) for b in kept.batches) == 8
    await tasks.close()


def test_big_events_lose_their_objects() -> None:
    class Sink:
        name = "log"
        got: list[Event] = []

        async def start(self) -> None:
            return None

        async def close(self) -> None:
            return None

        def process(self, events: Sequence[Event]) -> bool:
            self.got += events
            return True

    failures, sink = Failures(), Sink()
    backend = Truncating(sink, 200, 400, failures)
    backend.process(
        [
            {"level": "Request", "requestObject": {"a": "x" * 300}},
            {"level": "Metadata", "userAgent": "x" * 300},
        ]
    )
    assert sink.got == [{"level": "Request", "annotations": {"audit.k8s.io/truncated": "true"}}]
    assert failures.lost == [("truncate", 1)]


async def test_the_webhook_is_tried_again() -> None:
    bodies: list[Any] = []

    async def receive(request: web.Request) -> web.Response:
        bodies.append(json.loads(await request.read()))
        return web.Response(status=500 if len(bodies) == 1 else 200)

    app = web.Application()
    app.router.add_post("/", receive)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    clock, failures = FakeClock(), Failures()
    delivery = WebhookDelivery(ClientConfig(f"http://127.0.0.1:{port}/"), clock, 0.0, failures)
    sent = asyncio.create_task(delivery.deliver([{"kind": "Event", "level": "Metadata"}]))
    while not sent.done():
        clock.advance(1)
        await asyncio.sleep(0)
    assert sent.result() and not failures.lost
    assert bodies[1]["kind"] == "EventList" and bodies[1]["items"] == [{"level": "Metadata"}]
    await delivery.close()
    await runner.cleanup()
