"""Is etcd there? (apiserver pkg/storage/etcd3/healthcheck.go, for /readyz and /healthz.)"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pilothouse.apiserver.storage.errors import StorageError
from pilothouse.apiserver.storage.etcd3 import messages as pb

if TYPE_CHECKING:
    from pilothouse.apiserver.storage.etcd3.client import EtcdClient

_HEALTH_KEY = b"/registry/health"


async def check_health(client: EtcdClient) -> str:
    """Reads a key through the quorum: "" when that worked, else the reason."""
    try:
        await client.read("range", pb.RangeRequest(key=_HEALTH_KEY))
    except StorageError as error:
        return f"error getting data from etcd: {error}"
    return ""
