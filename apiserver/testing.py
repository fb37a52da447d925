"""A running API server for tests: memory store, fake clock, no socket unless asked for.

async with running_server() as server:
    client = server.local_client()
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from random import Random
from typing import TYPE_CHECKING, Any

from pilothouse.apimachinery.errors import StatusError, is_already_exists
from pilothouse.apimachinery.schema import GroupVersionResource
from pilothouse.apimachinery.testing import FakeClock
from pilothouse.apiserver.config import ServerConfig
from pilothouse.apiserver.server import APIServer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from pilothouse.apimachinery.clock import Clock
    from pilothouse.apimachinery.object import Obj
    from pilothouse.apiserver.local import LocalClient
    from pilothouse.apiserver.storage.interfaces import Storage

NAMESPACES = GroupVersionResource("", "v1", "namespaces")
SERVICE_ACCOUNTS = GroupVersionResource("", "v1", "serviceaccounts")


async def _ensure(client: LocalClient, resource: GroupVersionResource, obj: Obj) -> None:
    try:
        await client.create(resource, obj)
    except StatusError as error:
        if not is_already_exists(error):
            raise


@asynccontextmanager
async def running_server(
    *,
    clock: Clock | None = None,
    store: Storage | None = None,
    serve: bool = False,
    namespaces: tuple[str, ...] = ("default",),
    **settings: Any,
) -> AsyncIterator[APIServer]:
    """``settings`` are fields of ``ServerConfig``. Each of ``namespaces`` has a ``default``
    ServiceAccount, so that pods can be created."""
    config = ServerConfig(**({"secure_port": 0} | settings))
    server = APIServer(config, clock or FakeClock(), Random(1), storage=store)
    try:
        await server.start(serve=serve)
        client = server.local_client()
        for name in namespaces:
            await _ensure(client, NAMESPACES, {"metadata": {"name": name}})
            account = {"metadata": {"name": "default", "namespace": name}}
            await _ensure(client, SERVICE_ACCOUNTS, account)
        yield server
    finally:
        await server.stop(grace=0)
