"""Store failures → API errors: the only place (apiserver pkg/storage/errors/storage.go)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pilothouse.apimachinery.errors import (
    StatusError,
    new_already_exists,
    new_conflict,
    new_internal_error,
    new_not_found,
    new_resource_expired,
    new_server_timeout,
    new_timeout,
    new_too_large_resource_version,
)
from pilothouse.apiserver.storage.errors import (
    Compacted,
    Corrupt,
    FutureRevision,
    KeyExists,
    OutcomeUnknown,
    RevisionConflict,
    StorageError,
    TooLarge,
    Unavailable,
    Unconvertible,
    Undecodable,
)

if TYPE_CHECKING:
    from pilothouse.apimachinery.schema import GroupResource

OPTIMISTIC_LOCK = (
    "the object has been modified; please apply your changes to the latest version and try again"
)


def interpret(error: StorageError, verb: str, resource: GroupResource, name: str) -> StatusError:
    """The API error that ``error`` means when ``verb`` (create, get, list…) ran into it."""
    if isinstance(error, KeyExists):
        return new_already_exists(resource, name)
    if isinstance(error, RevisionConflict):
        if error.current is None:
            return new_not_found(resource, name)
        return new_conflict(resource, name, OPTIMISTIC_LOCK)
    if isinstance(error, Compacted):
        return new_resource_expired("The resourceVersion for the provided list is too old.")
    if isinstance(error, FutureRevision):
        return new_too_large_resource_version(error.requested, error.current)
    if isinstance(error, OutcomeUnknown):
        return new_timeout(f"the store did not answer the {verb} in time", 1)
    if isinstance(error, Unavailable):
        return new_server_timeout(resource, verb, 2)
    if isinstance(error, TooLarge):
        return StatusError(413, "RequestEntityTooLarge", str(error))
    if isinstance(error, Unconvertible) and not isinstance(error, Undecodable):
        return StatusError(500, "", str(error))
    if isinstance(error, Corrupt):
        return new_internal_error(str(error))
    return new_internal_error(str(error))


def precondition_failed(
    resource: GroupResource, name: str, key: str, field: str, wanted: str, found: str
) -> StatusError:
    """409 in the words of upstream's storage layer."""
    what = f"{field} in precondition: {wanted}, {field} in object meta: {found}"
    reason = (
        f"StorageError: invalid object, Code: 4, Key: {key}, ResourceVersion: 0, "
        f"AdditionalErrorMsg: Precondition failed: {what}"
    )
    return new_conflict(resource, name, reason)
