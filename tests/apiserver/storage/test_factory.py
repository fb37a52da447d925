"""open_storage picks the backend, says what is wrong, and keeps imports cheap."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from pilothouse.apiserver.storage.errors import StorageError
from pilothouse.apiserver.storage.factory import StorageConfig, open_storage
from pilothouse.apiserver.storage.memory import MemoryStorage
from pilothouse.apiserver.storage.sqlite import SQLiteStorage

if TYPE_CHECKING:
    from pathlib import Path

    from pilothouse.apimachinery.testing import FakeClock


def test_kinds(clock: FakeClock, database: Path) -> None:
    assert isinstance(open_storage(StorageConfig("memory"), clock), MemoryStorage)
    assert isinstance(open_storage(StorageConfig("sqlite", database), clock), SQLiteStorage)
    etcd = open_storage(StorageConfig("etcd", etcd_servers=("127.0.0.1:1",)), clock)
    assert type(etcd).__name__ == "EtcdStorage"


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (StorageConfig("etcd"), "--etcd-servers must be specified"),
        (StorageConfig("files"), "unknown storage 'files'"),  # type: ignore[arg-type]
        (StorageConfig(durability="none"), "unknown durability"),  # type: ignore[arg-type]
        (StorageConfig(etcd_servers=("a",)), "needs --storage=etcd"),
        (StorageConfig("etcd", etcd_servers=("a",), etcd_keyfile="k"), "belong together"),
    ],
)
def test_wrong_configuration(clock: FakeClock, config: StorageConfig, message: str) -> None:
    with pytest.raises(StorageError, match=message):
        open_storage(config, clock)


def test_grpc_is_imported_for_etcd_only() -> None:
    code = (
        "import sys; from pilothouse.apimachinery.clock import RealClock;"
        "from pilothouse.apiserver.storage.factory import StorageConfig, open_storage;"
        "open_storage(StorageConfig('sqlite'), RealClock());"
        "open_storage(StorageConfig('memory'), RealClock());"
        "import pilothouse.apiserver.storage.cacher.cacher;"
        "print([m for m in ('grpc', 'google.protobuf', 'cryptography') if m in sys.modules])"
    )
    answer = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert answer.stdout.strip() == "[]"
