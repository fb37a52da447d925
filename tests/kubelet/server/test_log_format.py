from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilothouse.kubelet.server.interfaces import Refusal
from pilothouse.kubelet.server.log_format import (
    LogFilter,
    LogLine,
    LogOptions,
    normal_stamp,
    parse_line,
    timestamp,
)

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
LINES = [
    b"2026-11-23T11:00:00.000000001Z stdout F one\n",
    b"2026-11-23T11:00:01.000000002Z stderr F two\n",
    b"2026-11-23T11:00:02.000000003Z stdout P thr\n",
    b"2026-11-23T11:00:03.000000004Z stdout F ee\n",
]


def run(options: LogOptions, lines: list[bytes] = LINES) -> bytes:
    log_filter = LogFilter(options)
    out = []
    for line in lines:
        if log_filter.done:
            break
        out.append(log_filter.take(line))
    return b"".join(out)


def test_partial_lines_are_joined() -> None:
    assert run(LogOptions()) == b"one\ntwo\nthree\n"


def test_timestamps_stand_before_whole_lines_only() -> None:
    assert run(LogOptions(timestamps=True)).splitlines() == [
        b"2026-11-23T11:00:00.000000001Z one",
        b"2026-11-23T11:00:01.000000002Z two",
        b"2026-11-23T11:00:02.000000003Z three",
    ]


def test_one_stream() -> None:
    assert run(LogOptions(stream="Stderr")) == b"two\n"
    assert run(LogOptions(stream="Stdout")) == b"one\nthree\n"


@pytest.mark.parametrize(
    ("since", "expected"),
    [
        (b"2026-11-23T11:00:01.000000002Z", b"two\nthree\n"),
        (b"2026-11-23T11:00:01.000000003Z", b"three\n"),
        (b"2027-01-01T00:00:00.000000000Z", b""),
    ],
)
def test_since(since: bytes, expected: bytes) -> None:
    assert run(LogOptions(since=since)) == expected


@given(st.integers(1, 20), st.booleans())
def test_limit_bytes_cuts_anywhere(limit: int, stamps: bool) -> None:
    everything = run(LogOptions(timestamps=stamps))
    assert run(LogOptions(timestamps=stamps, limit_bytes=limit)) == everything[:limit]


def test_tail_ends_after_so_many_lines_of_the_file() -> None:
    assert run(LogOptions(tail_lines=2)) == b"one\ntwo\n"  # the reader has gone to the tail
    assert LogFilter(LogOptions(tail_lines=0)).done
    assert run(LogOptions(tail_lines=2, follow=True)) == b"one\ntwo\nthree\n"


@pytest.mark.parametrize(
    "line",
    [b"", b"\n", b"nonsense\n", b"2026-11-23T11:00:00Z stdout\n", b"x stdout F a\n",
     b"2026-11-23T11:00:00.1Z stdlog F a\n", b"2026-11-23T11:00:00.1Z stdout F\n"],
)  # fmt: skip
def test_what_is_no_log_line(line: bytes) -> None:
    assert parse_line(line) is None
    assert run(LogOptions(), [line, *LINES]) == b"one\ntwo\nthree\n"


def test_tags_and_empty_lines() -> None:
    stamp = b"2026-11-23T11:00:00.000000001Z"
    assert parse_line(stamp + b" stdout F \n") == LogLine(stamp, b"stdout", b"\n")
    assert parse_line(stamp + b" stdout P:x a b\n") == LogLine(stamp, b"stdout", b"a b")
    assert parse_line(stamp + b" stderr F no end") == LogLine(stamp, b"stderr", b"no end")


@given(st.datetimes(datetime(1970, 1, 2), datetime(2100, 1, 1)), st.integers(-14, 14))
def test_stamps_are_made_comparable(moment: datetime, hours: int) -> None:
    moment = moment.replace(tzinfo=UTC)
    stamp = timestamp(moment)
    assert normal_stamp(stamp) == stamp
    shifted = moment + timedelta(hours=hours)
    text = shifted.strftime("%Y-%m-%dT%H:%M:%S.%f") + f"{hours:+03d}:00"
    assert normal_stamp(text.encode()) == stamp
    assert timestamp(moment + timedelta(microseconds=1)) > stamp


def test_short_fractions() -> None:
    assert normal_stamp(b"2026-11-23T11:00:00Z") == b"2026-11-23T11:00:00.000000000Z"
    assert normal_stamp(b"2026-11-23T11:00:00.5Z") == b"2026-11-23T11:00:00.500000000Z"
    assert normal_stamp(b"2026-99-99T11:00:00+01:00") is None


def test_options() -> None:
    query = {
        "follow": ["true"], "previous": ["false"], "timestamps": [""], "tailLines": ["5"],
        "limitBytes": ["7"], "sinceSeconds": ["60"],
    }  # fmt: skip
    assert LogOptions.from_query(query, NOW) == LogOptions(
        True, False, True, 5, 7, b"2026-11-23T11:59:00.000000000Z"
    )
    since = LogOptions.from_query({"sinceTime": ["2026-11-23T12:00:00+01:00"]}, NOW).since
    assert since == b"2026-11-23T11:00:00.000000000Z"
    assert LogOptions.from_query({"tail": ["3"]}, NOW).tail_lines == 3
    assert LogOptions.from_query({"tail": ["all"], "tailLines": ["3"]}, NOW).tail_lines is None
    assert LogOptions.from_query({"sinceSeconds": ["99999999999999"]}, NOW).since == b""


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ({"tailLines": ["x"]}, 400),
        ({"follow": ["perhaps"]}, 400),
        ({"sinceTime": ["yesterday"]}, 400),
        ({"tailLines": ["-1"]}, 422),
        ({"limitBytes": ["0"]}, 422),
        ({"sinceSeconds": ["0"]}, 422),
        ({"sinceSeconds": ["1"], "sinceTime": ["2026-11-23T12:00:00Z"]}, 422),
        ({"stream": ["Stdin"]}, 422),
        ({"stream": ["Stdout"], "tailLines": ["1"]}, 422),
    ],
)
def test_wrong_options(query: dict[str, list[str]], status: int) -> None:
    with pytest.raises(Refusal) as refusal:
        LogOptions.from_query(query, NOW)
    assert refusal.value.status == status
