"""Audit events to a remote service: POST of an EventList (plugin/pkg/audit/webhook).

The service is described by a kubeconfig file. A batch that fails is tried again with growing
pauses, then given up.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import orjson

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import aiohttp

    from pilothouse.apimachinery.clock import Clock
    from pilothouse.componentbase.tasks import TaskOwner
    from pilothouse.kubeclient.kubeconfig import ClientConfig

Event = dict[str, Any]
_STEPS = 5
_FACTOR = 1.5
_TIMEOUT = 30.0


def load_config(path: str) -> ClientConfig:
    """:raises ValueError: no usable kubeconfig there."""
    from pathlib import Path

    from pilothouse.kubeclient.kubeconfig import KubeconfigError, client_config, load_merged

    if not Path(path).is_file():
        raise ValueError(f"initializing audit webhook: stat {path}: no such file or directory")
    try:
        return client_config(load_merged(path))
    except KubeconfigError as error:
        raise ValueError(f"initializing audit webhook: {error}") from error


class WebhookDelivery:
    """Sends batches; also a blocking backend's sink when it runs without a buffer."""

    name = "webhook"

    def __init__(
        self,
        config: ClientConfig,
        clock: Clock,
        initial_backoff: float,
        on_error: Callable[[str, BaseException, int], None],
    ) -> None:
        self._config = config
        self._clock = clock
        self._backoff = initial_backoff
        self._on_error = on_error
        self._session: aiohttp.ClientSession | None = None

    async def deliver(self, events: Sequence[Event]) -> bool:
        body = orjson.dumps(
            {
                "kind": "EventList",
                "apiVersion": "audit.k8s.io/v1",
                "metadata": {},
                "items": [
                    {k: v for k, v in e.items() if k not in ("kind", "apiVersion")} for e in events
                ],
            }
        )
        pause = self._backoff
        for step in range(_STEPS):
            try:
                await self._post(body)
            except (OSError, TimeoutError, ValueError) as error:
                if step == _STEPS - 1:
                    self._on_error(self.name, error, len(events))
                    return False
                await self._clock.sleep(pause)
                pause *= _FACTOR
            else:
                return True
        return False

    async def _post(self, body: bytes) -> None:
        import aiohttp

        session = self._connect()
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if self._config.token:
            headers["Authorization"] = f"Bearer {self._config.token}"
        try:
            async with session.post(self._config.server, data=body, headers=headers) as response:
                if response.status >= 300:
                    raise ValueError(f"the audit webhook answered {response.status}")
        except aiohttp.ClientError as error:
            raise OSError(str(error)) from error

    def _connect(self) -> aiohttp.ClientSession:
        if self._session is None:
            import aiohttp

            from pilothouse.kubeclient.https import tls_context

            secure = self._config.server.startswith("https")
            connector = aiohttp.TCPConnector(ssl=tls_context(self._config) if secure else False)
            auth = None
            if self._config.username:
                auth = aiohttp.BasicAuth(self._config.username, self._config.password)
            self._session = aiohttp.ClientSession(
                connector=connector, auth=auth, timeout=aiohttp.ClientTimeout(total=_TIMEOUT)
            )
        return self._session

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None


class BlockingWebhook:
    """Modes blocking and blocking-strict. The loop can't wait inside ``process``: events are sent
    at once, one request a batch, and only a full line of unsent ones counts as a failure."""

    name = "webhook"
    _MAX_PENDING = 1000

    def __init__(self, delivery: WebhookDelivery, tasks: TaskOwner) -> None:
        self._delivery = delivery
        self._tasks = tasks
        self._pending: set[asyncio.Task[Any]] = set()

    async def start(self) -> None:
        """Nothing to do."""

    def process(self, events: Sequence[Event]) -> bool:
        if len(self._pending) >= self._MAX_PENDING:
            return False
        task = self._tasks.start(self._delivery.deliver(list(events)), "audit-webhook")
        self._pending.add(task)
        task.add_done_callback(self._pending.discard)
        return True

    async def close(self) -> None:
        if self._pending:
            await asyncio.wait(self._pending, timeout=2.0)
        await self._delivery.close()
