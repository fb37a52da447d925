"""When a cron schedule is due (robfig/cron's SpecSchedule) and what a CronJob has missed. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Protocol
from zoneinfo import ZoneInfo

from pilothouse.apimachinery.object import Obj, get_nested, meta
from pilothouse.apimachinery.timefmt import parse_duration, parse_time
from pilothouse.apis.batch.cron import DESCRIPTORS, parse_field, schedule_error

HORIZON_YEARS = 5
NEXT_SCHEDULE_DELTA = 0.1
MANY_MISSED = 100
_FIELDS = ((0, 59), (0, 23), (1, 31), (1, 12), (0, 6))
_MONTHS = {
    m: i + 1 for i, m in enumerate("jan feb mar apr may jun jul aug sep oct nov dec".split())
}
_DAYS = {d: i for i, d in enumerate("sun mon tue wed thu fri sat".split())}


class Schedule(Protocol):
    def next(self, after: datetime) -> datetime | None:
        """The first moment after ``after`` (UTC); None when there is none within five years."""
        ...


@dataclass(frozen=True, slots=True)
class Every:
    """``@every 5m``: counted from the moment that is asked about."""

    seconds: float

    def next(self, after: datetime) -> datetime | None:
        return after.replace(microsecond=0) + timedelta(seconds=max(1, int(self.seconds)))


@dataclass(frozen=True, slots=True)
class Crontab:
    minutes: frozenset[int]
    hours: frozenset[int]
    days: frozenset[int]
    months: frozenset[int]
    weekdays: frozenset[int]
    any_day: bool
    """One of the two day fields is ``*``: both must match, else one is enough."""
    zone: ZoneInfo

    def next(self, after: datetime) -> datetime | None:
        local = after.astimezone(self.zone).replace(tzinfo=None, second=0, microsecond=0)
        local += timedelta(minutes=1)
        last_year = local.year + HORIZON_YEARS
        while local.year <= last_year:
            if local.month not in self.months or not self._day_matches(local):
                local = local.replace(hour=0, minute=0) + timedelta(days=1)
            elif local.hour not in self.hours:
                local = local.replace(minute=0) + timedelta(hours=1)
            elif local.minute not in self.minutes:
                local += timedelta(minutes=1)
            else:
                moment = local.replace(tzinfo=self.zone).astimezone(UTC)
                back = moment.astimezone(self.zone).replace(tzinfo=None)
                if back == local and moment > after:
                    return moment
                local += timedelta(minutes=1)  # an hour that the clocks skip or repeat
        return None

    def _day_matches(self, local: datetime) -> bool:
        day = local.day in self.days
        weekday = local.isoweekday() % 7 in self.weekdays
        return (day and weekday) if self.any_day else (day or weekday)


def parse(text: str, time_zone: str = "") -> Schedule:
    """:raises ValueError: with the parser's text. :raises KeyError: unknown time zone."""
    problem = schedule_error(text)
    if problem:
        raise ValueError(problem)
    if text.startswith(("TZ=", "CRON_TZ=")):
        prefix, _, text = text.partition(" ")
        time_zone = prefix.partition("=")[2]
    text = text.strip()
    if text.startswith("@every "):
        return Every(parse_duration(text.removeprefix("@every ")))
    parts = DESCRIPTORS.get(text, text).split()
    words: Sequence[dict[str, int]] = ({}, {}, {}, _MONTHS, _DAYS)
    minutes, hours, days, months, weekdays = (
        frozenset(parse_field(part, low, high, names))
        for part, (low, high), names in zip(parts, _FIELDS, words, strict=True)
    )
    any_day = _is_star(parts[2]) or _is_star(parts[4])
    zone = ZoneInfo(time_zone or "UTC")
    return Crontab(minutes, hours, days, months, weekdays, any_day, zone)


def _is_star(text: str) -> bool:
    return any(part in ("*", "?", "*/1", "?/1") for part in text.split(","))


@dataclass(frozen=True, slots=True)
class Missed:
    earliest: datetime
    most_recent: datetime | None = None
    """The last scheduled moment that is over and was not served."""
    count: int = 0


def missed(cron_job: Obj, schedule: Schedule, now: datetime, *, deadline: bool) -> Missed:
    """What was due since the last start. :raises ValueError: the schedule never comes again."""
    last = get_nested(cron_job, "status", "lastScheduleTime")
    earliest = parse_time(last or meta(cron_job)["creationTimestamp"])
    limit = get_nested(cron_job, "spec", "startingDeadlineSeconds")
    if deadline and limit is not None:
        earliest = max(earliest, now - timedelta(seconds=limit))
    first = schedule.next(earliest)
    if first is not None and now < first:
        return Missed(earliest)
    second = schedule.next(first) if first is not None else None
    if second is not None and now < second:
        return Missed(earliest, first)
    # As upstream, to which a moment that never comes is the year 1: "59 23 31 2 *" is an error.
    if first is None or second is None or (between := round((second - first).total_seconds())) < 1:
        raise ValueError("time difference between two schedules is less than 1 second")
    count = int((now - first).total_seconds()) // between + 1
    moment = schedule.next(first + timedelta(seconds=(count - 2) * between))
    most_recent = None
    while moment is not None and moment <= now:
        most_recent, moment = moment, schedule.next(moment)
    return Missed(earliest, most_recent, count)


def seconds_to_next(cron_job: Obj, schedule: Schedule, now: datetime) -> float | None:
    """How long to wait; a little longer than exact, so that the moment is over by then."""
    try:
        behind = missed(cron_job, schedule, now, deadline=False)
        base = behind.most_recent or (behind.earliest if not behind.count else now)
    except ValueError:
        base = now
    following = schedule.next(base)
    if following is None:
        return None
    return (following - now).total_seconds() + NEXT_SCHEDULE_DELTA
