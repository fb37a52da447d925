"""One real etcd per session, started when the first test asks for it."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import pytest

from pilothouse.apimachinery.clock import RealClock
from pilothouse.apiserver.storage.etcd3.store import EtcdStorage
from pilothouse.apiserver.storage.etcd3.testing import EtcdCluster, find_etcd, make_tls_files

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

_numbers = itertools.count()


@pytest.fixture(scope="session")
def etcd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EtcdCluster]:
    binary = find_etcd()
    if binary is None:
        pytest.skip("no etcd binary here")
    cluster = EtcdCluster(tmp_path_factory.mktemp("etcd"), binary)
    cluster.start()
    yield cluster
    cluster.stop()


@pytest.fixture(scope="session")
def etcd_tls(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EtcdCluster]:
    """Three members, TLS with client certificates."""
    binary = find_etcd()
    if binary is None:
        pytest.skip("no etcd binary here")
    directory = tmp_path_factory.mktemp("etcd-tls")
    tls = make_tls_files(directory, RealClock().now())
    cluster = EtcdCluster(directory, binary, members=3, tls=tls)
    cluster.start()
    yield cluster
    cluster.stop()


@pytest.fixture
def prefix() -> str:
    """A part of the store that no other test uses."""
    return f"/registry/test{next(_numbers)}/"


@pytest.fixture
async def storage(etcd: EtcdCluster) -> AsyncIterator[EtcdStorage]:
    store = EtcdStorage(etcd.config(), RealClock())
    await store.start()
    yield store
    await store.close()


@pytest.fixture
async def tls_storage(etcd_tls: EtcdCluster) -> AsyncIterator[EtcdStorage]:
    store = EtcdStorage(etcd_tls.config(), RealClock())
    await store.start()
    yield store
    await store.close()
