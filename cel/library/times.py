"""Timestamps and durations: Go's texts for them, time zones, and what methods take from them."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from typing import TYPE_CHECKING, Any

from pilothouse.cel.interfaces import EvaluationError
from pilothouse.cel.operators import MAX_TIME, MIN_TIME, no_overload
from pilothouse.cel.values import MAX_INT, MIN_INT, Duration, Timestamp

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SECOND = 10**9
_RFC3339 = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)T(\d\d):(\d\d):(\d\d)(?:[.,](\d+))?(Z|([+-])(\d\d):(\d\d))", re.ASCII
)
_UNITS = {
    "ns": 1,
    "us": 1000,
    "µs": 1000,
    "μs": 1000,
    "ms": 10**6,
    "s": _SECOND,
    "m": 60 * _SECOND,
    "h": 3600 * _SECOND,
}
_PART = re.compile(r"(\d*)(?:\.(\d*))?(ns|us|µs|μs|ms|s|m|h)", re.ASCII)


def parse_timestamp(text: str) -> Timestamp | None:
    """RFC 3339 as Go parses it; None when it is none."""
    match = _RFC3339.fullmatch(text)
    if match is None:
        return None
    year, month, day, hour, minute, second = (int(match[i]) for i in range(1, 7))
    if year == 0:
        return None
    try:
        when = datetime(year, month, day, hour, minute, second, tzinfo=UTC)
    except ValueError:
        return None
    ns = _seconds(when) * _SECOND + int(((match[7] or "") + "000000000")[:9])
    offset = 0
    if match[9]:
        hours, minutes = int(match[10]), int(match[11])
        if hours > 24 or minutes > 60:
            return None
        offset = hours * 60 + minutes
        if match[9] == "-":
            offset = -offset
        ns -= offset * 60 * _SECOND
    if not MIN_TIME <= ns <= MAX_TIME:
        raise EvaluationError("timestamp overflow")
    return Timestamp(ns, offset)


def _seconds(when: datetime) -> int:
    delta = when - _EPOCH
    return delta.days * 86400 + delta.seconds


def _local(value: Timestamp, zone: tzinfo) -> datetime:
    try:
        return (_EPOCH + timedelta(seconds=value.ns // _SECOND)).astimezone(zone)
    except OverflowError:
        return _EPOCH + timedelta(seconds=value.ns // _SECOND)


def format_timestamp(value: Timestamp) -> str:
    """time.RFC3339Nano, in the zone it was written for."""
    offset = value.offset
    zone, suffix = UTC, "Z"
    if offset:
        zone = timezone(timedelta(minutes=offset))
        suffix = f"{'-' if offset < 0 else '+'}{abs(offset) // 60:02d}:{abs(offset) % 60:02d}"
    when = _local(value, zone)
    nanos = value.ns % _SECOND
    fraction = f".{nanos:09d}".rstrip("0") if nanos else ""
    return (
        f"{when.year:04d}-{when.month:02d}-{when.day:02d}T"
        f"{when.hour:02d}:{when.minute:02d}:{when.second:02d}{fraction}{suffix}"
    )


def parse_duration(text: str) -> Duration | None:
    """time.ParseDuration; None when it is none."""
    sign, body = 1, text
    if body[:1] in ("+", "-"):
        sign, body = (-1 if body[0] == "-" else 1), body[1:]
    if body == "0":
        return Duration(0)
    total, at = 0, 0
    while at < len(body):
        match = _PART.match(body, at)
        if match is None or not (match[1] or match[2]):
            return None
        unit = _UNITS[match[3]]
        fraction = match[2] or ""
        if len(match[1]) > 30:
            return None
        total += int(match[1] or 0) * unit
        if fraction:
            total += int(fraction[:30]) * unit // 10 ** len(fraction[:30])
        at = match.end()
    total *= sign
    return Duration(total) if body and MIN_INT <= total <= MAX_INT else None


def format_duration(value: Duration) -> str:
    """Seconds: the shortest decimal of their double, and an ``s``."""
    return f"{shortest(value.ns / 1e9)}s"


def shortest(number: float) -> str:
    """Go's ``strconv.FormatFloat(x, 'f', -1, 64)``."""
    text = repr(number)
    if "e" in text:
        from decimal import Decimal

        text = format(Decimal(text), "f")
    return text.removesuffix(".0")


def _truncated(ns: int, unit: int) -> int:
    return ns // unit if ns >= 0 else -(-ns // unit)


_OFFSET = re.compile(r"([+-]?\d+):(\d+)", re.ASCII)


def zone_of(name: str) -> tzinfo:
    """An offset (``02:00``) or a name of the time zone database.

    :raises EvaluationError: unknown.
    """
    match = _OFFSET.fullmatch(name)
    if match is not None:
        hours, minutes = int(match[1]), int(match[2])
        if minutes > 59:
            raise EvaluationError(f"timezone offset minutes out of range [0, 59]: {name}")
        total = hours * 60 - minutes if name[0] == "-" else hours * 60 + minutes
        if abs(total) < 24 * 60:
            return timezone(timedelta(minutes=total))
    elif ":" in name:
        part = name.partition(":")[0]
        raise EvaluationError(f'strconv.Atoi: parsing "{part}": invalid syntax')
    if name in ("", "UTC"):
        return UTC
    from zoneinfo import ZoneInfo

    try:
        return ZoneInfo(name)
    except (OSError, ValueError, KeyError):
        raise EvaluationError(f"unknown time zone {name}") from None


_GETTERS: dict[str, tuple[str, Callable[[datetime], int]]] = {
    "getFullYear": ("timestamp_to_year", lambda when: when.year),
    "getMonth": ("timestamp_to_month", lambda when: when.month - 1),
    "getDayOfYear": ("timestamp_to_day_of_year", lambda when: when.timetuple().tm_yday - 1),
    "getDayOfMonth": ("timestamp_to_day_of_month", lambda when: when.day - 1),
    "getDate": ("timestamp_to_day_of_month_1_based", lambda when: when.day),
    "getDayOfWeek": ("timestamp_to_day_of_week", lambda when: when.isoweekday() % 7),
    "getHours": ("timestamp_to_hours_tz", lambda when: when.hour),
    "getMinutes": ("timestamp_to_minutes", lambda when: when.minute),
    "getSeconds": ("timestamp_to_seconds_tz", lambda when: when.second),
}
_UNIT_GETTERS = {
    "getHours": ("duration_to_hours", 3600 * _SECOND),
    "getMinutes": ("duration_to_minutes", 60 * _SECOND),
    "getSeconds": ("duration_to_seconds", _SECOND),
    "getMilliseconds": ("duration_to_milliseconds", 10**6),
}


def _getter(take: Callable[[datetime], int]) -> Callable[..., int]:
    def get(value: Any, zone: str = "UTC") -> int:
        if type(value) is not Timestamp or type(zone) is not str:
            raise no_overload()
        return take(_local(value, UTC if zone == "UTC" else zone_of(zone)))

    return get


def _milliseconds(value: Any, zone: str = "UTC") -> int:
    if type(value) is not Timestamp:
        raise no_overload()
    zone_of(zone)
    return int(value.ns % _SECOND) // 10**6


def _unit(unit: int) -> Callable[[Any], int]:
    def get(value: Any) -> int:
        if type(value) is not Duration:
            raise no_overload()
        return _truncated(value.ns, unit)

    return get


def rows() -> Iterator[tuple[str, str, Callable[..., Any]]]:
    """The accessors of timestamps and durations."""
    for name, (id_, take) in _GETTERS.items():
        get = _getter(take)
        yield id_, f"timestamp|{name}() -> int", get
        yield f"{id_}_with_tz", f"timestamp|{name}(string) -> int", get
    yield "timestamp_to_milliseconds", "timestamp|getMilliseconds() -> int", _milliseconds
    yield (
        "timestamp_to_milliseconds_with_tz",
        "timestamp|getMilliseconds(string) -> int",
        _milliseconds,
    )
    for name, (id_, unit) in _UNIT_GETTERS.items():
        yield id_, f"duration|{name}() -> int", _unit(unit)
