"""Named formats: ``format.dns1123Label().validate(text)``."""

from __future__ import annotations

import re
from datetime import date, datetime
from typing import TYPE_CHECKING, Any

from pilothouse.apimachinery import names
from pilothouse.cel.library.urls import parse_url
from pilothouse.cel.operators import no_overload
from pilothouse.cel.values import NONE, Optional

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_F = "kubernetes.NamedFormat"
_UUID = re.compile(
    r"[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}", re.ASCII | re.IGNORECASE
)
_BASE64 = re.compile(
    r"(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=|[A-Za-z0-9+/]{4})", re.ASCII
)
_DATE = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
_DATE_TIME = re.compile(
    r"(\d{4}-\d\d-\d\d)[tT](\d\d:\d\d:\d\d)(\.\d+)?(?:[zZ]|[+-]\d\d:\d\d)", re.ASCII
)


class NamedFormat:
    """A format that texts can be checked against; ``regex_size`` counts for costs."""

    __slots__ = ("name", "regex_size", "validate")
    type_name = _F

    def __init__(self, name: str, regex_size: int, validate: Callable[[str], list[str]]) -> None:
        self.name = name
        self.regex_size = regex_size
        self.validate = validate

    def __eq__(self, other: object) -> bool:
        return isinstance(other, NamedFormat) and other.name == self.name

    def __hash__(self) -> int:
        return hash(self.name)


def _uri(text: str) -> list[str]:
    try:
        parse_url(text)
    except ValueError as error:
        return [str(error)]
    return []


def _is_date(text: str) -> bool:
    if not _DATE.fullmatch(text):
        return False
    try:
        date.fromisoformat(text)
    except ValueError:
        return False
    return True


def _is_date_time(text: str) -> bool:
    match = _DATE_TIME.fullmatch(text)
    if match is None:
        return False
    try:
        datetime.fromisoformat(f"{match[1]}T{match[2]}")
    except ValueError:
        return False
    return True


def _checked(holds: Callable[[str], object], message: str) -> Callable[[str], list[str]]:
    return lambda text: [] if holds(text) else [message]


def _prefix(validate: Callable[..., list[str]]) -> Callable[[str], list[str]]:
    return lambda text: validate(text, prefix=True)


FORMATS: dict[str, NamedFormat] = {
    name: NamedFormat(shown, size, validate)
    for name, shown, size, validate in (
        ("dns1123Label", "DNS1123Label", 30, names.is_dns1123_label),
        ("dns1123Subdomain", "DNS1123Subdomain", 60, names.is_dns1123_subdomain),
        ("dns1035Label", "DNS1035Label", 30, names.is_dns1035_label),
        ("qualifiedName", "QualifiedName", 60, names.is_qualified_name),
        ("dns1123LabelPrefix", "DNS1123LabelPrefix", 30, _prefix(names.is_dns1123_label)),
        (
            "dns1123SubdomainPrefix",
            "DNS1123SubdomainPrefix",
            60,
            _prefix(names.is_dns1123_subdomain),
        ),
        ("dns1035LabelPrefix", "DNS1035LabelPrefix", 30, _prefix(names.is_dns1035_label)),
        ("labelValue", "LabelValue", 40, names.is_valid_label_value),
        ("uri", "URI", 1103, _uri),
        ("uuid", "uuid", 70, _checked(_UUID.fullmatch, "does not match the UUID format")),
        ("byte", "byte", 84, _checked(_BASE64.fullmatch, "invalid base64")),
        ("date", "date", 71, _checked(_is_date, "invalid date")),
        ("datetime", "datetime", 71, _checked(_is_date_time, "invalid datetime")),
    )
}


def _named(name: Any) -> Optional:
    if type(name) is not str:
        raise no_overload()
    found = FORMATS.get(name)
    return NONE if found is None else Optional(found)


def _validate(format_: NamedFormat, text: Any) -> Optional:
    if type(text) is not str:
        raise no_overload()
    errors = format_.validate(text)
    return Optional(errors) if errors else NONE


def _constant(value: NamedFormat) -> Callable[[], NamedFormat]:
    return lambda: value


def rows() -> Iterator[tuple[str, str, Callable[..., Any]]]:
    yield "format-validate", f"{_F}|validate(string) -> optional(list(string))", _validate
    yield "format-named", f"format.named(string) -> optional({_F})", _named
    for name, value in FORMATS.items():
        yield f"format.{name}", f"format.{name}() -> {_F}", _constant(value)
