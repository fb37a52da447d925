"""Failures of a store.

StorageError
├── KeyExists          create of a key that is there
├── RevisionConflict   update/delete: the key changed or is gone
├── Compacted          revision below the compaction
├── FutureRevision     revision not reached yet
├── OutcomeUnknown     the store did not answer in time: the write may have happened
├── Unavailable        no store reachable
├── TooLarge           an object beyond what etcd takes in one request
├── Untransformable    encrypted with a key that is not at hand; the message is upstream's
├── Corrupt            damaged data; the message says what to do
└── Unconvertible      a custom object can't be brought into another version
    └── Undecodable    the same for one that is stored
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pilothouse.apiserver.storage.interfaces import KeyValue


class StorageError(Exception):
    """Base of all store failures."""


class KeyExists(StorageError):
    def __init__(self, current: KeyValue | None) -> None:
        super().__init__("key exists")
        self.current = current


class RevisionConflict(StorageError):
    def __init__(self, current: KeyValue | None) -> None:
        super().__init__("revision conflict")
        self.current = current


class Compacted(StorageError):
    def __init__(self, requested: int, compacted: int) -> None:
        super().__init__(f"revision {requested} has been compacted (at {compacted})")
        self.requested = requested
        self.compacted = compacted


class FutureRevision(StorageError):
    def __init__(self, requested: int, current: int) -> None:
        super().__init__(f"revision {requested} is in the future (at {current})")
        self.requested = requested
        self.current = current


class OutcomeUnknown(StorageError):
    pass


class Unavailable(StorageError):
    pass


class TooLarge(StorageError):
    def __init__(self) -> None:
        super().__init__("etcdserver: request is too large")


class Untransformable(StorageError):
    pass


class Corrupt(StorageError):
    pass


class Unconvertible(StorageError):
    index = 0
    """Of several that were to be converted, the first that can't be."""


class Undecodable(Unconvertible):
    def __init__(self, key: str, revision: int, reason: str) -> None:
        super().__init__(
            f"StorageError: corrupt object, Code: 7, Key: {key.removeprefix('/registry')}, "
            "ResourceVersion: 0, AdditionalErrorMsg: object not decodable "
            f"revision={revision}: {reason}"
        )
