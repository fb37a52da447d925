"""Field paths and validation errors (apimachinery util/validation/field).

``Path("spec").child("containers").index(0).child("name")`` prints
``spec.containers[0].name``. Validation functions return an :data:`ErrorList`; the registry
turns a non-empty one into a 422 ``Invalid`` Status with one cause per error.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

BAD_VALUE_OMITTED = object()


class Path:
    """An immutable path; ``str()`` gives upstream's spelling."""

    __slots__ = ("text",)

    def __init__(self, *names: str) -> None:
        self.text = ".".join(names)

    def child(self, *names: str) -> Path:
        path = Path.__new__(Path)
        path.text = ".".join((self.text, *names)) if self.text else ".".join(names)
        return path

    def index(self, i: int) -> Path:
        path = Path.__new__(Path)
        path.text = f"{self.text}[{i}]"
        return path

    def key(self, key: str) -> Path:
        path = Path.__new__(Path)
        path.text = f"{self.text}[{key}]"
        return path

    def __str__(self) -> str:
        return self.text or "<nil>"


@dataclass(frozen=True, slots=True)
class FieldError:
    """One cause. ``reason`` is a metav1.CauseType such as ``FieldValueInvalid``."""

    reason: str
    field: str
    bad_value: Any
    detail: str

    def body(self) -> str:
        """The text without the field, as it stands in ``details.causes[].message``."""
        title = _TITLES[self.reason]
        if (
            self.reason
            in (
                "FieldValueRequired",
                "FieldValueForbidden",
                "FieldValueTooLong",
                "InternalError",
            )
            or self.bad_value is BAD_VALUE_OMITTED
        ):
            text = title
        else:
            text = f"{title}: {format_value(self.bad_value)}"
        return f"{text}: {self.detail}" if self.detail else text

    def __str__(self) -> str:
        return f"{self.field}: {self.body()}"


ErrorList = list[FieldError]

_TITLES = {
    "FieldValueNotFound": "Not found",
    "FieldValueRequired": "Required value",
    "FieldValueDuplicate": "Duplicate value",
    "FieldValueInvalid": "Invalid value",
    "FieldValueNotSupported": "Unsupported value",
    "FieldValueForbidden": "Forbidden",
    "FieldValueTooLong": "Too long",
    "FieldValueTooMany": "Too many",
    "InternalError": "Internal error",
    "FieldValueTypeInvalid": "Invalid value",
}


_CONTROL = re.compile(r"\\\\|\\u00([01][0-9a-f])")


def _go_escape(match: re.Match[str]) -> str:
    code = match[1]
    return {None: match[0], "07": r"\a", "0b": r"\v"}.get(code, rf"\x{code}")


def format_value(value: Any) -> str:
    """A bad value as Go prints it: strings quoted, objects as JSON."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        quoted = json.dumps(value, ensure_ascii=False)
        return _CONTROL.sub(_go_escape, quoted) if "\\u00" in quoted else quoted
    if isinstance(value, (int, float)):
        return str(value)
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def not_found(path: Path, value: Any) -> FieldError:
    return FieldError("FieldValueNotFound", str(path), value, "")


def required(path: Path, detail: str = "") -> FieldError:
    return FieldError("FieldValueRequired", str(path), "", detail)


def duplicate(path: Path, value: Any) -> FieldError:
    return FieldError("FieldValueDuplicate", str(path), value, "")


def invalid(path: Path, value: Any, detail: str) -> FieldError:
    return FieldError("FieldValueInvalid", str(path), value, detail)


def type_invalid(path: Path, value: Any, detail: str) -> FieldError:
    return FieldError("FieldValueTypeInvalid", str(path), value, detail)


def not_supported(
    path: Path, value: Any, valid: Sequence[str], *, keep_order: bool = False
) -> FieldError:
    """``valid`` is printed sorted, as upstream's callers sort it; some do not (``keep_order``)."""
    quoted = ", ".join(json.dumps(v) for v in (valid if keep_order else sorted(valid)))
    detail = f"supported values: {quoted}" if valid else ""
    return FieldError("FieldValueNotSupported", str(path), value, detail)


def forbidden(path: Path, detail: str) -> FieldError:
    return FieldError("FieldValueForbidden", str(path), "", detail)


def too_long(path: Path, limit: int) -> FieldError:
    unit = "byte" if limit == 1 else "bytes"
    detail = f"may not be more than {limit} {unit}" if limit >= 0 else "value is too long"
    return FieldError("FieldValueTooLong", str(path), "", detail)


def too_many(path: Path, actual: int, limit: int) -> FieldError:
    detail = f"must have at most {limit} item{'s' if limit != 1 else ''}"
    return FieldError("FieldValueTooMany", str(path), actual, detail)


def internal_error(path: Path, detail: str) -> FieldError:
    return FieldError("InternalError", str(path), None, detail)
