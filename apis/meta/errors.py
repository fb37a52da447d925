"""Field errors with paths as plain text, for validation that must cost nothing when all is well.

``apimachinery.fieldpath.Path`` builds a path object per step; validation of built-in kinds
passes the text of the parent's path down instead and spells a child's path only where an
error is made. The results are the same :class:`FieldError` values.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pilothouse.apimachinery.fieldpath import ErrorList, FieldError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

NOT_NEGATIVE = "must be greater than or equal to 0"
NOT_POSITIVE = "must be greater than zero"
IMMUTABLE = "field is immutable"
CASELESS_SUBDOMAIN = (
    "an RFC 1123 subdomain must consist of alphanumeric characters, '-' or '.', and must start and "
    "end with an alphanumeric character (e.g. 'Example.com', regex used for validation is "
    "'[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
)
"""Of CSI and DRA drivers' names, whose case does not count."""


def invalid(path: str, value: Any, detail: str) -> FieldError:
    return FieldError("FieldValueInvalid", path, value, detail)


def required(path: str, detail: str = "") -> FieldError:
    return FieldError("FieldValueRequired", path, "", detail)


def forbidden(path: str, detail: str) -> FieldError:
    return FieldError("FieldValueForbidden", path, "", detail)


def duplicate(path: str, value: Any) -> FieldError:
    return FieldError("FieldValueDuplicate", path, value, "")


def not_found(path: str, value: Any, detail: str = "") -> FieldError:
    return FieldError("FieldValueNotFound", path, value, detail)


def not_supported(path: str, value: Any, valid: Sequence[str]) -> FieldError:
    """``valid`` in the order in which upstream prints it (mostly, not always, sorted)."""
    quoted = ", ".join(f'"{v}"' for v in valid)
    detail = f"supported values: {quoted}" if valid else ""
    return FieldError("FieldValueNotSupported", path, value, detail)


def too_long(path: str, limit: int) -> FieldError:
    return FieldError(
        "FieldValueTooLong",
        path,
        "<value omitted>",
        f"may not be more than {limit} {'byte' if limit == 1 else 'bytes'}",
    )


def too_many(path: str, actual: int, limit: int) -> FieldError:
    detail = f"must have at most {limit} {'item' if limit == 1 else 'items'}"
    return FieldError("FieldValueTooMany", path, actual, detail)


def internal(path: str, detail: str) -> FieldError:
    return FieldError("InternalError", path, None, detail)


def add_all(errors: ErrorList, path: str, value: Any, messages: Iterable[str]) -> None:
    """One ``Invalid value`` per message."""
    errors.extend(FieldError("FieldValueInvalid", path, value, m) for m in messages)


def inclusive_range(low: int, high: int) -> str:
    return f"must be between {low} and {high}, inclusive"
