"""Auditing as the filter sees it: policy, backends and counters in one (pkg/audit/context.go)."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

from pilothouse.apiserver.audit.counters import audit_counters
from pilothouse.apiserver.audit.event import Record
from pilothouse.apiserver.audit.policy import Level, load_policy
from pilothouse.apiserver.filters.authorization import attributes_of

if TYPE_CHECKING:
    from pilothouse.apimachinery.clock import Clock
    from pilothouse.apiserver.audit.backends import Backend
    from pilothouse.apiserver.audit.policy import Policy
    from pilothouse.apiserver.config import ServerConfig
    from pilothouse.apiserver.request.context import Request
    from pilothouse.componentbase.metrics import Metric
    from pilothouse.componentbase.tasks import TaskOwner

log = logging.getLogger(__name__)


class Auditor:
    """Records requests as the policy says and hands the events to the backends."""

    def __init__(self, policy: Policy, backends: list[Backend], clock: Clock) -> None:
        self._policy = policy
        self.backends = backends
        self._clock = clock
        self.events, self.errors, self.levels, self.rejected = audit_counters()

    @property
    def metrics(self) -> tuple[Metric, ...]:
        return self.events, self.errors, self.levels, self.rejected

    def failed(self, plugin: str, error: BaseException, count: int) -> None:
        self.errors.inc(plugin, by=float(count))
        log.error("audit plugin %s lost %d events: %s", plugin, count, error)

    def begin(self, request: Request) -> Record | None:
        """The record of a request, which hangs on it from now on; None: it is not audited."""
        recording = self._policy.evaluate(attributes_of(request))
        self.levels.inc(recording.level.text)
        if recording.level is Level.NONE:
            return None
        record = request.audit = Record(request, recording, self._clock.now())
        return record

    def process(self, record: Record, stage: str) -> bool:
        """Makes and stores the event of a stage; False: it could not be stored."""
        if stage in record.recording.omit_stages:
            return True
        self.events.inc()
        event = record.event(stage, self._clock.now())
        stored = True
        for backend in self.backends:
            stored = backend.process((event,)) and stored
        return stored

    async def start(self) -> None:
        for backend in self.backends:
            await backend.start()

    async def close(self) -> None:
        for backend in self.backends:
            await backend.close()


def build_auditor(config: ServerConfig, clock: Clock, tasks: TaskOwner) -> Auditor | None:
    """What the flags ask for; None when nothing is audited.

    :raises ValueError, OSError: flags or files that can't be used.
    """
    if not (config.audit_log_path or config.audit_webhook_config_file):
        return None
    if not config.audit_policy_file:
        log.info("no audit policy file was given: no events will be recorded")
        return None
    auditor = Auditor(load_policy(config.audit_policy_file), [], clock)
    if config.audit_log_path:
        auditor.backends.append(_log_backend(config, clock, tasks, auditor))
    if config.audit_webhook_config_file:
        auditor.backends.append(_webhook_backend(config, clock, tasks, auditor))
    return auditor


def _log_backend(config: ServerConfig, clock: Clock, tasks: TaskOwner, auditor: Auditor) -> Backend:
    from pilothouse.apiserver.audit.backends import (
        IgnoringErrors,
        LogBackend,
        RotatingFile,
        StandardOut,
        Truncating,
    )
    from pilothouse.apiserver.audit.batching import BatchBackend, BatchLimits

    out = (
        StandardOut()
        if config.audit_log_path == "-"
        else RotatingFile(
            Path(config.audit_log_path),
            clock,
            max_size=config.audit_log_maxsize,
            max_backups=config.audit_log_maxbackup,
            max_age=config.audit_log_maxage,
            compress=config.audit_log_compress,
        )
    )
    backend: Backend = LogBackend(out, config.audit_log_format, auditor.failed)
    if config.audit_log_mode == "batch":
        limits = BatchLimits(
            config.audit_log_batch_buffer_size,
            config.audit_log_batch_max_size,
            config.audit_log_batch_max_wait,
            config.audit_log_batch_throttle_qps if config.audit_log_batch_throttle_enable else 0,
            config.audit_log_batch_throttle_burst,
        )
        backend = BatchBackend(_Written(backend), limits, clock, tasks, auditor.failed)
    elif config.audit_log_mode == "blocking":
        backend = IgnoringErrors(backend)
    if config.audit_log_truncate_enabled:
        backend = Truncating(
            backend,
            config.audit_log_truncate_max_event_size,
            config.audit_log_truncate_max_batch_size,
            auditor.failed,
        )
    return backend


class _Written:
    """A log backend as the receiving end of a buffer."""

    def __init__(self, backend: Backend) -> None:
        self.name = backend.name
        self._backend = backend
        self.close = backend.close

    async def deliver(self, events: object) -> bool:
        return self._backend.process(events)  # type: ignore[arg-type]


def _webhook_backend(
    config: ServerConfig, clock: Clock, tasks: TaskOwner, auditor: Auditor
) -> Backend:
    from pilothouse.apiserver.audit.backends import Truncating
    from pilothouse.apiserver.audit.batching import BatchBackend, BatchLimits
    from pilothouse.apiserver.audit.webhook import BlockingWebhook, WebhookDelivery, load_config

    delivery = WebhookDelivery(
        load_config(config.audit_webhook_config_file),
        clock,
        config.audit_webhook_initial_backoff,
        auditor.failed,
    )
    if config.audit_webhook_mode == "batch":
        throttled = config.audit_webhook_batch_throttle_enable
        limits = BatchLimits(
            config.audit_webhook_batch_buffer_size,
            config.audit_webhook_batch_max_size,
            config.audit_webhook_batch_max_wait,
            config.audit_webhook_batch_throttle_qps if throttled else 0,
            config.audit_webhook_batch_throttle_burst,
        )
        backend: Backend = BatchBackend(delivery, limits, clock, tasks, auditor.failed)
    else:
        backend = BlockingWebhook(delivery, tasks)
    if config.audit_webhook_truncate_enabled:
        backend = Truncating(
            backend,
            config.audit_webhook_truncate_max_event_size,
            config.audit_webhook_truncate_max_batch_size,
            auditor.failed,
        )
    return backend
