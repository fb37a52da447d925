"""What strategies, admission and sub-resources of one cluster share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from random import Random

    from pilothouse.apimachinery.clock import Clock
    from pilothouse.apiserver.admission.interfaces import Listers


@dataclass(slots=True)
class RegistryContext:
    """State of one API server; never a module global."""

    clock: Clock
    random: Random
    listers: Listers
    allocators: Any = None
    """``registry/core/service_allocators.py``: ClusterIPs and NodePorts."""
    config: Any = None
    """``apiserver/config.py`` ServerConfig."""
    webhooks: Any = None
    """``apiserver/webhook/client.py`` WebhookClient, once something has called a webhook."""
    metrics: Any = None
    """``componentbase/metrics.py`` Registry: what /metrics shows."""
    encryption: Any = None
    """``storage/encryption/storage.py`` Encryption, when kinds are encrypted at rest."""
