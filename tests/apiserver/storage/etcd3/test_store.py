"""The etcd store against the contract, on one member and on a TLS cluster of three."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from pilothouse.apiserver.storage.testing import CONTRACT, run_ttl

if TYPE_CHECKING:
    from pilothouse.apiserver.storage.etcd3.store import EtcdStorage

pytestmark = pytest.mark.etcd
every_rule = pytest.mark.parametrize(
    "run", CONTRACT, ids=lambda run: run.__name__.removeprefix("run_")
)


@every_rule
async def test_contract_on_one_member(storage: EtcdStorage, prefix: str, run: object) -> None:
    assert callable(run)
    await run(storage, prefix)


@every_rule
async def test_contract_on_three_members_with_tls(
    tls_storage: EtcdStorage, prefix: str, run: object
) -> None:
    assert callable(run)
    await run(tls_storage, prefix)


async def test_ttl(storage: EtcdStorage, prefix: str) -> None:
    # etcd's leases run on real time.
    await run_ttl(storage, prefix, asyncio.sleep)
