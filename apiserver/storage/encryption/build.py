"""Encryption of one API server from its flags; reads the file again when it changes."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pilothouse.apiserver.storage.encryption.configuration import load_rules
from pilothouse.apiserver.storage.encryption.storage import Encryption

if TYPE_CHECKING:
    from pilothouse.apimachinery.clock import Clock
    from pilothouse.apiserver.storage.encryption.configuration import EncryptionRules
    from pilothouse.apiserver.storage.encryption.kms import KMSTransformer
    from pilothouse.componentbase.tasks import TaskOwner

log = logging.getLogger(__name__)


async def build_encryption(config: Any, clock: Clock, tasks: TaskOwner) -> Encryption:
    """Of ``--encryption-provider-config``; KMS plugins have been asked once.

    :raises OSError, ValueError: no usable file.
    """
    file = config.encryption_provider_config
    reload = config.encryption_provider_config_automatic_reload
    data = Path(file).read_bytes()  # noqa: ASYNC240 (before anything is served)
    rules = load_rules(data)
    watching = await _watch(rules, clock, tasks)
    encryption = Encryption(rules, reloads=reload)
    if reload:
        follow = _follow(file, data, encryption, clock, tasks, watching)
        tasks.start(follow, "encryption-config")
    return encryption


async def _watch(rules: EncryptionRules, clock: Clock, tasks: TaskOwner) -> list[asyncio.Task[Any]]:
    for plugin in rules.plugins:
        await plugin.probe(clock)
    return [
        tasks.start(_run(plugin, clock), f"kms-{plugin.name}-{number}")
        for number, plugin in enumerate(rules.plugins)
    ]


async def _run(plugin: KMSTransformer, clock: Clock) -> None:
    try:
        await plugin.run(clock)
    finally:
        await plugin.close()


async def _follow(
    file: str,
    data: bytes,
    encryption: Encryption,
    clock: Clock,
    tasks: TaskOwner,
    watching: list[asyncio.Task[Any]],
) -> None:
    from pilothouse.componentbase.file_changes import FileChanges

    async for new in FileChanges(file, clock).follow(data):
        try:
            rules = load_rules(new)
        except ValueError as error:
            log.error("failed to read encryption config: %s", error)
            continue
        fresh = await _watch(rules, clock, tasks)
        encryption.rules = rules
        for task in watching:
            task.cancel()
        watching = fresh
        log.info("loaded new encryption config content")
