"""Encryption of one API server from its flags; reads the file again when it changes."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pilothouse.apiserver.storage.encryption.configuration import load_rules
from pilothouse.apiserver.storage.encryption.storage import Encryption

if TYPE_CHECKING:
    from pilothouse.apimachinery.clock import Clock
    from pilothouse.componentbase.tasks import TaskOwner

log = logging.getLogger(__name__)


def build_encryption(config: Any, clock: Clock, tasks: TaskOwner) -> Encryption:
    """Of ``--encryption-provider-config``. :raises OSError, ValueError: no usable file."""
    file = config.encryption_provider_config
    reload = config.encryption_provider_config_automatic_reload
    data = Path(file).read_bytes()
    encryption = Encryption(load_rules(data), reloads=reload)
    if reload:
        tasks.start(_follow(file, data, encryption, clock), "encryption-config")
    return encryption


async def _follow(file: str, data: bytes, encryption: Encryption, clock: Clock) -> None:
    from pilothouse.componentbase.file_changes import FileChanges

    async for new in FileChanges(file, clock).follow(data):
        try:
            encryption.rules = load_rules(new)
        except ValueError as error:
            log.error("failed to read encryption config: %s", error)
            continue
        log.info("loaded new encryption config content")
