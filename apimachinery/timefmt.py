"""Times and durations as they stand in API objects.

metav1.Time is RFC 3339 in UTC with seconds, MicroTime with six decimals; Go's duration strings
(``1h30m``) stand in kubelet's and flags' configuration; ages in tables are HumanDuration's.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from functools import lru_cache

_RFC3339 = re.compile(
    r"(\d{4})-(\d{2})-(\d{2})T(\d{1,2}):(\d{2}):(\d{2})(?:[.,](\d+))?(?:(Z)|([+-])(\d{2}):(\d{2}))",
    re.ASCII,
)


def format_time(value: datetime) -> str:
    """``2026-01-02T03:04:05Z``; fractions of a second are cut."""
    if value.tzinfo is not UTC:
        value = value.astimezone(UTC)
    return value.isoformat(timespec="seconds")[:19] + "Z"


def format_micro_time(value: datetime) -> str:
    """``2026-01-02T03:04:05.000006Z``"""
    return f"{format_time(value)[:-1]}.{value.microsecond:06d}Z"


def format_nano_time(value: datetime) -> str:
    """time.RFC3339Nano: no trailing zeros in the fraction."""
    if not value.microsecond:
        return format_time(value)
    return format_micro_time(value)[:-1].rstrip("0") + "Z"


@lru_cache(maxsize=4096)
def parse_time(text: str) -> datetime:
    """RFC 3339 as Go's time.Parse takes it, in UTC. :raises ValueError: with Go's text."""
    match = _RFC3339.fullmatch(text)
    if match is None:
        raise ValueError(_parse_error(text))
    year, month, day, hour, minute, second = (int(g) for g in match.groups()[:6])
    fraction, _, sign, zone_hour, zone_minute = match.groups()[6:]
    micro = int(fraction[:6].ljust(6, "0")) if fraction else 0
    out_of_range = _out_of_range(match)
    if out_of_range:
        raise ValueError(f"parsing time {_quote(text)}: {out_of_range} out of range")
    try:
        moment = datetime(year, month, day, hour, minute, second, micro, UTC)
        if sign:
            offset = timedelta(hours=int(zone_hour), minutes=int(zone_minute))
            moment = moment + offset if sign == "-" else moment - offset
        return moment
    except (ValueError, OverflowError):
        raise ValueError(f"parsing time {_quote(text)}: year out of range") from None


def _out_of_range(match: re.Match[str]) -> str:
    year, month, day, hour, minute, second = (int(g) for g in match.groups()[:6])
    if not 1 <= month <= 12:
        return "month"
    if not 1 <= day <= _days(year, month):
        return "day"
    if hour > 23:
        return "hour"
    if minute > 59:
        return "minute"
    if second > 59:
        return "second"
    if match[9]:
        if int(match[10]) > 24:
            return "time zone offset hour"
        if int(match[11]) > 60:
            return "time zone offset minute"
    return ""


def _days(year: int, month: int) -> int:
    if month == 2:
        return 29 if year % 4 == 0 and (year % 100 != 0 or year % 400 == 0) else 28
    return 30 if month in (4, 6, 9, 11) else 31


_LAYOUT_STEPS = (
    ("2006", r"\d{4}"),
    ("-", "-"),
    ("01", r"\d{2}"),
    ("-", "-"),
    ("02", r"\d{2}"),
    ("T", "T"),
    ("15", r"\d{1,2}"),
    (":", ":"),
    ("04", r"\d{2}"),
    (":", ":"),
    ("05", r"\d{2}(?:[.,]\d+)?"),
    ("Z07:00", r"Z|[+-]\d{2}:\d{2}"),
)


def _parse_error(text: str) -> str:
    position = 0
    for layout, pattern in _LAYOUT_STEPS:
        match = re.compile(pattern, re.ASCII).match(text, position)
        if match is None:
            rest = text[position:]
            return (
                f'parsing time {_quote(text)} as "2006-01-02T15:04:05Z07:00": '
                f'cannot parse {_quote(rest)} as "{layout}"'
            )
        position = match.end()
    return f"parsing time {_quote(text)}: extra text: {_quote(text[position:])}"


def _quote(text: str) -> str:
    """As Go's time package quotes: other than printable ASCII in hexadecimal bytes."""
    text = text.replace("\\", "\\\\").replace('"', '\\"')
    if not (text.isascii() and text.isprintable()):
        encoded = text.encode("utf-8", "surrogatepass")
        text = "".join(chr(b) if 32 <= b < 128 else f"\\x{b:02x}" for b in encoded)
    return f'"{text}"'


def short_human_duration(seconds: float) -> str:
    """duration.ShortHumanDuration: one unit, ``90m`` being ``1h``."""
    whole = int(seconds)
    if whole < -1:
        return "<invalid>"
    if whole < 0:
        return "0s"
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m"
    if whole < 86400:
        return f"{whole // 3600}h"
    if whole < 86400 * 365:
        return f"{whole // 86400}d"
    return f"{whole // (86400 * 365)}y"


def human_duration(seconds: float) -> str:
    """duration.HumanDuration: about two figures, as in a table's AGE."""
    whole = int(seconds)
    if whole < 120:
        if whole < -1:
            return "<invalid>"
        return "0s" if whole < 0 else f"{whole}s"
    minutes = whole // 60
    if minutes < 10:
        return _two(minutes, "m", whole % 60, "s")
    if minutes < 180:
        return f"{minutes}m"
    hours = minutes // 60
    if hours < 8:
        return _two(hours, "h", minutes % 60, "m")
    if hours < 48:
        return f"{hours}h"
    days = hours // 24
    if hours < 192:
        return _two(days, "d", hours % 24, "h")
    if days < 730:
        return f"{days}d"
    if days < 2920:
        return _two(days // 365, "y", days % 365, "d")
    return f"{days // 365}y"


def _two(major: int, major_unit: str, minor: int, minor_unit: str) -> str:
    return f"{major}{major_unit}{minor}{minor_unit}" if minor else f"{major}{major_unit}"


_UNITS = {
    "ns": 1,
    "us": 1_000,
    "µs": 1_000,
    "μs": 1_000,
    "ms": 1_000_000,
    "s": 1_000_000_000,
    "m": 60_000_000_000,
    "h": 3_600_000_000_000,
}
_DURATION_PART = re.compile(r"(\d*)(?:(\.)(\d*))?([^0-9.]*)", re.ASCII)


def parse_duration(text: str) -> float:
    """Seconds of a Go duration string. :raises ValueError: with time.ParseDuration's text."""
    return parse_duration_nanoseconds(text) / 1e9


def parse_duration_nanoseconds(text: str) -> int:
    """:raises ValueError: with time.ParseDuration's text."""
    invalid = f"time: invalid duration {_quote(text)}"
    rest = text[1:] if text[:1] in ("+", "-") else text
    if rest == "0":
        return 0
    if not rest:
        raise ValueError(invalid)
    total = position = 0
    while position < len(rest):
        match = _DURATION_PART.match(rest, position)
        if match is None or not (match[1] or match[3]):
            raise ValueError(invalid)
        if not match[4]:
            raise ValueError(f"time: missing unit in duration {_quote(text)}")
        unit = _UNITS.get(match[4])
        if unit is None:
            raise ValueError(f"time: unknown unit {_quote(match[4])} in duration {_quote(text)}")
        fraction = (match[3] or "")[:18]
        total += int(match[1][:30] or 0) * unit
        total += int(fraction or 0) * unit // 10 ** len(fraction)
        position = match.end()
    limit = 1 << 63
    if total > (limit if text[0] == "-" else limit - 1):
        raise ValueError(invalid)
    return -total if text[0] == "-" else total


def format_duration(seconds: float) -> str:
    """Go's Duration.String: ``1h30m0s``, ``1.5s``, ``100ms``, ``0s``."""
    return format_duration_nanoseconds(round(seconds * 1e9))


def format_duration_nanoseconds(nanoseconds: int) -> str:
    sign = "-" if nanoseconds < 0 else ""
    value = abs(nanoseconds)
    if value == 0:
        return "0s"
    if value < 1_000_000_000:
        for unit, size in (("ns", 1), ("µs", 1_000), ("ms", 1_000_000)):
            if value < size * 1000:
                return f"{sign}{_decimal(value, size)}{unit}"
    minutes, rest = divmod(value, 60_000_000_000)
    text = f"{_decimal(rest, 1_000_000_000)}s"
    if minutes:
        hours, minutes = divmod(minutes, 60)
        text = f"{hours}h{minutes}m{text}" if hours else f"{minutes}m{text}"
    return sign + text


def _decimal(value: int, size: int) -> str:
    whole, fraction = divmod(value, size)
    if not fraction:
        return str(whole)
    return f"{whole}.{str(fraction).zfill(len(str(size)) - 1).rstrip('0')}"
