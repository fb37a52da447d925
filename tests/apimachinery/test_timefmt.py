"""Times, ages and Go durations."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilothouse.apimachinery import timefmt


def test_formats() -> None:
    moment = datetime(2026, 1, 2, 3, 4, 5, 670, tzinfo=timezone(timedelta(hours=2)))
    assert timefmt.format_time(moment) == "2026-01-02T01:04:05Z"
    assert timefmt.format_micro_time(moment) == "2026-01-02T01:04:05.000670Z"
    assert timefmt.format_nano_time(moment) == "2026-01-02T01:04:05.00067Z"
    assert timefmt.format_nano_time(moment.replace(microsecond=0)) == "2026-01-02T01:04:05Z"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-01-02T03:04:05Z", datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)),
        ("2026-01-02T03:04:05.123456789Z", datetime(2026, 1, 2, 3, 4, 5, 123456, tzinfo=UTC)),
        ("2026-01-02T03:04:05+02:00", datetime(2026, 1, 2, 1, 4, 5, tzinfo=UTC)),
        ("2026-01-02T03:04:05-24:00", datetime(2026, 1, 3, 3, 4, 5, tzinfo=UTC)),
    ],
)
def test_parse(text: str, expected: datetime) -> None:
    assert timefmt.parse_time(text) == expected


_AS = 'as "2006-01-02T15:04:05Z07:00": cannot parse'


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("", f'parsing time "" {_AS} "" as "2006"'),
        ("yesterday", f'parsing time "yesterday" {_AS} "yesterday" as "2006"'),
        ("2026-01-02", f'parsing time "2026-01-02" {_AS} "" as "T"'),
        ("2026-01-02T03:04:05", f'parsing time "2026-01-02T03:04:05" {_AS} "" as "Z07:00"'),
        ("2026-13-02T03:04:05Z", 'parsing time "2026-13-02T03:04:05Z": month out of range'),
        ("2026-02-30T03:04:05Z", 'parsing time "2026-02-30T03:04:05Z": day out of range'),
        ("2026-01-02T03:04:05Zx", 'parsing time "2026-01-02T03:04:05Zx": extra text: "x"'),
    ],
)
def test_parse_errors(text: str, error: str) -> None:
    with pytest.raises(ValueError) as raised:
        timefmt.parse_time(text)
    assert str(raised.value) == error


@given(st.datetimes(timezones=st.just(UTC)))
def test_micro_times_round_trip(moment: datetime) -> None:
    assert timefmt.parse_time(timefmt.format_micro_time(moment)) == moment


@pytest.mark.parametrize(
    ("seconds", "human", "short"),
    [
        (-2, "<invalid>", "<invalid>"), (-1, "0s", "0s"), (0, "0s", "0s"), (59.9, "59s", "59s"),
        (119, "119s", "1m"), (120, "2m", "2m"), (150, "2m30s", "2m"), (599, "9m59s", "9m"),
        (600, "10m", "10m"), (10799, "179m", "2h"), (10800, "3h", "3h"), (12000, "3h20m", "3h"),
        (28799, "7h59m", "7h"), (28800, "8h", "8h"), (172799, "47h", "1d"), (172800, "2d", "2d"),
        (200000, "2d7h", "2d"), (691199, "7d23h", "7d"), (691200, "8d", "8d"),
        (86400 * 729, "729d", "1y"), (86400 * 730, "2y", "2y"), (86400 * 800, "2y70d", "2y"),
        (86400 * 2920, "8y", "8y"),
    ],
)  # fmt: skip
def test_ages(seconds: float, human: str, short: str) -> None:
    assert timefmt.human_duration(seconds) == human
    assert timefmt.short_human_duration(seconds) == short


@pytest.mark.parametrize(
    ("text", "seconds", "printed"),
    [
        ("1h30m", 5400, "1h30m0s"), ("0", 0, "0s"), ("1.5s", 1.5, "1.5s"), ("100ms", 0.1, "100ms"),
        ("-1m", -60, "-1m0s"), ("+5s", 5, "5s"), ("1h", 3600, "1h0m0s"), ("10µs", 1e-5, "10µs"),
        ("1us", 1e-6, "1µs"), ("5ns", 5e-9, "5ns"), (".5s", 0.5, "500ms"), ("1.s", 1, "1s"),
    ],
)  # fmt: skip
def test_go_durations(text: str, seconds: float, printed: str) -> None:
    assert timefmt.parse_duration(text) == seconds
    assert timefmt.format_duration(seconds) == printed


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("", 'time: invalid duration ""'),
        ("3", 'time: missing unit in duration "3"'),
        ("-", 'time: invalid duration "-"'),
        ("s", 'time: invalid duration "s"'),
        ("1d", 'time: unknown unit "d" in duration "1d"'),
        ("1..s", 'time: missing unit in duration "1..s"'),
        ("9999999999h", 'time: invalid duration "9999999999h"'),
    ],
)
def test_bad_durations(text: str, error: str) -> None:
    with pytest.raises(ValueError) as raised:
        timefmt.parse_duration(text)
    assert str(raised.value) == error


@given(st.integers(-(1 << 62), 1 << 62))
def test_durations_round_trip(nanoseconds: int) -> None:
    text = timefmt.format_duration_nanoseconds(nanoseconds)
    assert timefmt.parse_duration_nanoseconds(text) == nanoseconds
