"""Cron schedules as robfig/cron's standard parser reads them: five fields or ``@every`` & co."""

from __future__ import annotations

import re

_MONTHS = "jan feb mar apr may jun jul aug sep oct nov dec".split()
_DAYS = "sun mon tue wed thu fri sat".split()
_FIELDS: tuple[tuple[int, int, dict[str, int]], ...] = (
    (0, 59, {}),
    (0, 23, {}),
    (1, 31, {}),
    (1, 12, {name: i + 1 for i, name in enumerate(_MONTHS)}),
    (0, 6, {name: i for i, name in enumerate(_DAYS)}),
)
DESCRIPTORS = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
_TIME_ZONE = re.compile(r"(?:CRON_)?TZ=\S* +")


def schedule_error(schedule: str) -> str:
    """The parser's complaint, or nothing when the schedule is fine."""
    text = _TIME_ZONE.sub("", schedule, count=1) if "TZ=" in schedule[:8] else schedule
    text = text.strip()
    if not text:
        return "empty spec string"
    if text.startswith("@"):
        return _descriptor_error(text)
    parts = text.split()
    if len(parts) != 5:
        listed = " ".join(parts)
        return f"expected exactly 5 fields, found {len(parts)}: [{listed}]"
    for part, (low, high, words) in zip(parts, _FIELDS, strict=True):
        try:
            parse_field(part, low, high, words)
        except ValueError as error:
            return str(error)
    return ""


def _descriptor_error(text: str) -> str:
    if text in DESCRIPTORS:
        return ""
    if text.startswith("@every "):
        from pilothouse.apimachinery.timefmt import parse_duration

        duration = text.removeprefix("@every ")
        try:
            parse_duration(duration)
        except ValueError as error:
            return f"failed to parse duration {text}: {error}"
        return ""
    return f"unrecognized descriptor: {text}"


def parse_field(text: str, low: int, high: int, words: dict[str, int]) -> set[int]:
    """The values that ``1-5,10/2`` names. :raises ValueError: the parser's text."""
    values: set[int] = set()
    for part in text.split(","):
        if part:
            values |= _parse_range(part, low, high, words)
    return values


def _parse_range(text: str, low: int, high: int, words: dict[str, int]) -> set[int]:
    span, slash, step_text = text.partition("/")
    if step_text.count("/"):
        raise ValueError(f"too many slashes: {text}")
    start_text, dash, end_text = span.partition("-")
    if start_text in ("*", "?"):
        start, end = low, high
    else:
        start = _number(start_text, words)
        if end_text.count("-"):
            raise ValueError(f"too many hyphens: {text}")
        end = _number(end_text, words) if dash else start
        if slash and not dash:
            end = high
    step = _number(step_text, {}) if slash else 1
    if start < low:
        raise ValueError(f"beginning of range ({start}) below minimum ({low}): {text}")
    if end > high:
        raise ValueError(f"end of range ({end}) above maximum ({high}): {text}")
    if start > end:
        raise ValueError(f"beginning of range ({start}) beyond end of range ({end}): {text}")
    if step == 0:
        raise ValueError(f"step of range should be a positive number: {text}")
    return set(range(start, end + 1, step))


def _number(text: str, words: dict[str, int]) -> int:
    word = words.get(text.lower())
    if word is not None:
        return word
    if not re.fullmatch(r"[+-]?\d+", text, re.ASCII):
        quoted = text.replace('"', '\\"')
        raise ValueError(
            f'failed to parse int from {text}: strconv.Atoi: parsing "{quoted}": invalid syntax'
        )
    number = int(text)
    if number < 0:
        raise ValueError(f"negative number ({number}) not allowed: {text}")
    return number
