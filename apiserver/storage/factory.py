"""Opens the store that a configuration names; only the etcd store needs grpc."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pilothouse.apiserver.storage.errors import StorageError

if TYPE_CHECKING:
    from pilothouse.apimachinery.clock import Clock
    from pilothouse.apiserver.storage.interfaces import Storage


@dataclass(frozen=True, slots=True)
class StorageConfig:
    """``--storage``, ``--durability`` and kube-apiserver's ``--etcd-*`` flags."""

    kind: Literal["sqlite", "memory", "etcd"] = "sqlite"
    path: Path = Path("state.db")
    """The database file (sqlite)."""
    durability: Literal["normal", "full"] = "normal"
    """normal: an acknowledged write survives the process; full: also a power cut (sqlite)."""
    etcd_servers: tuple[str, ...] = ()
    etcd_cafile: str = ""
    etcd_certfile: str = ""
    etcd_keyfile: str = ""
    etcd_username: str = ""
    etcd_password: str = field(default="", repr=False)

    def validate(self) -> list[str]:
        """What is wrong, for the flag parser."""
        errors = []
        if self.kind not in ("sqlite", "memory", "etcd"):
            errors.append(f"unknown storage {self.kind!r}: use sqlite, memory or etcd")
        if self.durability not in ("normal", "full"):
            errors.append(f"unknown durability {self.durability!r}: use normal or full")
        if self.kind == "etcd" and not self.etcd_servers:
            errors.append("--etcd-servers must be specified")
        if bool(self.etcd_certfile) != bool(self.etcd_keyfile):
            errors.append("--etcd-certfile and --etcd-keyfile belong together")
        if self.etcd_servers and self.kind != "etcd":
            errors.append("--etcd-servers needs --storage=etcd")
        return errors


def open_storage(config: StorageConfig, clock: Clock) -> Storage:
    """A store that has not been started.

    :raises StorageError: the configuration is wrong, or grpc is missing for etcd.
    """
    errors = config.validate()
    if errors:
        raise StorageError("; ".join(errors))
    if config.kind == "memory":
        from pilothouse.apiserver.storage.memory import MemoryStorage

        return MemoryStorage(clock)
    if config.kind == "sqlite":
        from pilothouse.apiserver.storage.sqlite import SQLiteStorage

        return SQLiteStorage(config.path, clock, durability=config.durability)
    return _open_etcd(config, clock)


def _open_etcd(config: StorageConfig, clock: Clock) -> Storage:
    try:
        from pilothouse.apiserver.storage.etcd3.client import EtcdConfig
        from pilothouse.apiserver.storage.etcd3.store import EtcdStorage
    except ImportError as error:
        raise StorageError(
            f"the etcd store needs {error.name}: install pilothouse[etcd]"
        ) from error
    etcd = EtcdConfig(
        servers=config.etcd_servers,
        ca_file=config.etcd_cafile,
        cert_file=config.etcd_certfile,
        key_file=config.etcd_keyfile,
        username=config.etcd_username,
        password=config.etcd_password,
    )
    return EtcdStorage(etcd, clock)
