"""Semantic versions (blang/semver), version 1 of Kubernetes' library."""

from __future__ import annotations

import re
from functools import total_ordering
from typing import TYPE_CHECKING, Any

from pilothouse.cel.interfaces import EvaluationError
from pilothouse.cel.operators import no_overload

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_S = "kubernetes.Semver"
_ALPHANUMERIC = re.compile(r"[0-9A-Za-z-]+", re.ASCII)
_NUMERIC = re.compile(r"[0-9]+", re.ASCII)
_MAX = (1 << 64) - 1


@total_ordering
class Semver:
    """A version; build metadata counts for nothing in comparisons."""

    __slots__ = ("build", "core", "pre")
    type_name = _S

    def __init__(
        self, core: tuple[int, int, int], pre: tuple[int | str, ...], build: tuple[str, ...]
    ) -> None:
        self.core = core
        self.pre = pre
        self.build = build

    def _key(self) -> tuple[Any, ...]:
        pre = tuple((0, part, "") if type(part) is int else (1, 0, part) for part in self.pre)
        return (*self.core, 0 if pre else 1, pre)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Semver) and self._key() == other._key()

    def __lt__(self, other: Semver) -> bool:
        return self._key() < other._key()

    def __hash__(self) -> int:
        return hash(self.core)

    def compare(self, other: Semver) -> int:
        return 0 if self == other else (-1 if self < other else 1)


def parse_semver(text: str) -> Semver:
    """semver.Parse

    :raises ValueError: with its text.
    """
    if not text:
        raise ValueError("Version string empty")
    parts = text.split(".", 2)
    if len(parts) != 3:
        raise ValueError("No Major.Minor.Patch elements found")
    major = _number(parts[0], "Major")
    minor = _number(parts[1], "Minor")
    patch, _, build_text = parts[2].partition("+")
    has_build = "+" in parts[2]
    patch, _, pre_text = patch.partition("-")
    has_pre = "-" in parts[2].partition("+")[0]
    core = (major, minor, _number(patch, "Patch"))
    pre = tuple(map(_pre_release, pre_text.split("."))) if has_pre else ()
    build = tuple(map(_build, build_text.split("."))) if has_build else ()
    return Semver(core, pre, build)


def _number(text: str, what: str) -> int:
    if not _NUMERIC.fullmatch(text):
        if not text:
            raise ValueError('strconv.ParseUint: parsing "": invalid syntax')
        bad = next(char for char in text if char not in "0123456789")
        if what == "Patch":
            raise ValueError(f'Invalid character(s) found in patch number "{text}"')
        assert bad
        raise ValueError(f'Invalid character(s) found in {what.lower()} number "{text}"')
    if len(text) > 1 and text[0] == "0":
        raise ValueError(f'{what} number must not contain leading zeroes "{text}"')
    value = int(text) if len(text) < 40 else _MAX + 1
    if value > _MAX:
        raise ValueError(f'strconv.ParseUint: parsing "{text}": value out of range')
    return value


def _pre_release(text: str) -> int | str:
    if not text:
        raise ValueError("Prerelease is empty")
    if _NUMERIC.fullmatch(text):
        if len(text) > 1 and text[0] == "0":
            text = f'Numeric PreRelease version must not contain leading zeroes "{text}"'
            raise ValueError(text)
        return int(text[:40])
    if not _ALPHANUMERIC.fullmatch(text):
        raise ValueError(f'Invalid character(s) found in prerelease "{text}"')
    return text


def _build(text: str) -> str:
    if not text:
        raise ValueError("Build meta data is empty")
    if not _ALPHANUMERIC.fullmatch(text):
        raise ValueError(f'Invalid character(s) found in build meta data "{text}"')
    return text


def _normalized(text: str) -> Semver:
    parts = text.removeprefix("v").split(".", 2)
    for at, part in enumerate(parts):
        if len(part) > 1:
            part = part.lstrip("0")
            if not part or part[0] not in "0123456789":
                part = "0" + part
            parts[at] = part
    if len(parts) < 3:
        if "+" in parts[-1] or "-" in parts[-1]:
            raise ValueError("short version cannot contain PreRelease/Build meta data")
        parts += ["0"] * (3 - len(parts))
    return parse_semver(".".join(parts))


def _semver(text: Any, normalize: Any = False) -> Semver:
    if type(text) is not str or type(normalize) is not bool:
        raise no_overload()
    try:
        return _normalized(text) if normalize else parse_semver(text)
    except ValueError as error:
        raise EvaluationError(str(error)) from None


def _is_semver(text: Any, normalize: Any = False) -> bool:
    if type(text) is not str or type(normalize) is not bool:
        raise no_overload()
    try:
        _normalized(text) if normalize else parse_semver(text)
    except ValueError:
        return False
    return True


def rows() -> Iterator[tuple[str, str, Callable[..., Any]]]:
    yield "string_to_semver", f"semver(string) -> {_S}", _semver
    yield "string_bool_to_semver", f"semver(string, bool) -> {_S}", _semver
    yield "is_semver_string", "isSemver(string) -> bool", _is_semver
    yield "is_semver_string_bool", "isSemver(string, bool) -> bool", _is_semver
    yield "semver_is_greater_than", f"{_S}|isGreaterThan({_S}) -> bool", lambda a, b: b < a
    yield "semver_is_less_than", f"{_S}|isLessThan({_S}) -> bool", lambda a, b: a < b
    yield "semver_compare_to", f"{_S}|compareTo({_S}) -> int", lambda a, b: a.compare(b)
    yield "semver_major", f"{_S}|major() -> int", lambda v: v.core[0]
    yield "semver_minor", f"{_S}|minor() -> int", lambda v: v.core[1]
    yield "semver_patch", f"{_S}|patch() -> int", lambda v: v.core[2]
